"""What every blueprint in the catalogue promises; a new one is tested here without a line changed.

Training and export have files of their own; what high-risk blueprints do on purpose is tested elsewhere.
"""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from contracts.blueprint import BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import Blueprint, BlueprintError
from tests.esper.karn.pairs import (
    ANY_OFFER,
    ANY_SIZED,
    BLUEPRINTS,
    PAIRS,
    SITES,
    TRUSTED,
    Sized,
    batch,
    built,
    generator,
    settings_of,
    sized,
    taught,
)
from tests.examples import examples

RISK = {
    BlueprintTier.SAFE: (0.0, 0.3),
    BlueprintTier.EXPERIMENTAL: (0.4, 0.6),
    BlueprintTier.HIGH_RISK: (0.9, 1.0),
}
STAGES = {BlueprintTier.SAFE: (1, 2, 3), BlueprintTier.EXPERIMENTAL: (4,), BlueprintTier.HIGH_RISK: (5,)}
ONES = {Layout.VECTOR: 1, Layout.SEQUENCE: 2, Layout.IMAGE: 3, Layout.TOKENS: 2}


def check_start_and_costs(
    blueprint: Blueprint, site: SiteInfo, chosen: dict[str, float], examples: int
) -> None:
    """It adds exactly nothing, and has the parameters and FLOPs that it says."""
    if blueprint.refusal(site):
        return
    module, h = blueprint.build(site, chosen, generator()), batch(site, examples)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        contribution = module(h)
    assert contribution.shape == h.shape
    assert torch.equal(h + contribution, h)
    counted = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    assert counted == blueprint.params(site, chosen)
    assert counter.get_total_flops() == blueprint.forward_flops(site, chosen) * examples


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_a_new_seed_adds_exactly_nothing_and_costs_what_it_says(blueprint: Blueprint, site: SiteInfo) -> None:
    check_start_and_costs(blueprint, site, blueprint.smallest(), 1)
    check_start_and_costs(blueprint, site, settings_of(blueprint, site), 3)


@given(ANY_SIZED, st.integers(1, 3))
@settings(max_examples=examples(20, 400))
def test_so_it_is_at_any_size_and_with_any_settings(offer: Sized, examples: int) -> None:
    check_start_and_costs(*offer, examples)


@pytest.mark.slow
@pytest.mark.parametrize("blueprint", TRUSTED, ids=lambda one: one.blueprint_id)
@given(st.data())
@settings(max_examples=60)
def test_so_it_is_for_every_blueprint_at_any_size(blueprint: Blueprint, data: st.DataObject) -> None:
    check_start_and_costs(*data.draw(sized(st.just(blueprint))), data.draw(st.integers(1, 3)))


@given(ANY_SIZED)
@settings(max_examples=examples(30, 600))
def test_more_of_the_knob_never_costs_less(offer: Sized) -> None:
    blueprint, site, chosen = offer
    if blueprint.refusal(site) or blueprint.knob is None or chosen[blueprint.knob] >= blueprint.largest(site):
        return
    larger = {**chosen, blueprint.knob: chosen[blueprint.knob] + 1}
    assert blueprint.params(site, larger) >= blueprint.params(site, chosen)
    assert blueprint.forward_flops(site, larger) >= blueprint.forward_flops(site, chosen)


@given(ANY_OFFER, st.integers(1, 300), st.none() | st.integers(0, 20_000))
@settings(max_examples=examples(40, 800))
def test_fit_is_the_most_that_fits(
    offer: tuple[Blueprint, SiteInfo], max_params: int, max_flops: int | None
) -> None:
    blueprint, site = offer
    if blueprint.refusal(site):
        assert blueprint.fit(site, max_params, max_flops) is None
        return

    def fits(chosen: dict[str, float]) -> bool:
        flops = blueprint.forward_flops(site, chosen)
        return blueprint.params(site, chosen) <= max_params and (max_flops is None or flops <= max_flops)

    fitted = blueprint.fit(site, max_params, max_flops)
    if fitted is None:
        assert not fits(blueprint.smallest())
        return
    assert fits(fitted)
    if blueprint.knob is not None and fitted[blueprint.knob] < blueprint.largest(site):
        assert not fits({**fitted, blueprint.knob: fitted[blueprint.knob] + 1})


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_a_build_draws_from_the_passed_generator_alone(blueprint: Blueprint, site: SiteInfo) -> None:
    before = torch.get_rng_state()
    one, same, other = (built(blueprint, site, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    stream = generator()
    blueprint.build(site, settings_of(blueprint, site), stream)
    draws = not torch.equal(stream.get_state(), generator().get_state())
    assert draws == any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_a_forward_pass_draws_nothing_and_remembers_nothing(blueprint: Blueprint, site: SiteInfo) -> None:
    module, h = taught(built(blueprint, site)), batch(site)
    streams, given = torch.get_rng_state(), h.clone()
    before = copy.deepcopy(module.state_dict())
    first, second = module(h), module(h)
    assert torch.equal(first, second)
    assert torch.equal(h, given)
    assert torch.equal(torch.get_rng_state(), streams)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_a_step_moves_a_new_seed_off_zero(blueprint: Blueprint, site: SiteInfo) -> None:
    module, h = built(blueprint, site), batch(site)
    (module(h) - batch(site, seed=3)).square().sum().backward()
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_one_example_of_one_channel_at_one_place_works_or_is_refused(
    blueprint: Blueprint, site: SiteInfo
) -> None:
    """So does one channel at several places, and several at one."""
    ones = (1,) * ONES[site.layout]
    tokens = site.layout is Layout.TOKENS
    narrow = ones if len(ones) == 1 else (*site.shape[:-1], 1) if tokens else (1, *site.shape[1:])
    short = (*ones[:-1], site.channels) if tokens else (site.channels, *ones[1:])
    for shape in (ones, narrow, short):
        small = SiteInfo("small", site.layout, shape, shape[-1] if tokens else shape[0], 0)
        if blueprint.refusal(small):
            assert blueprint.fit(small, 10**6) is None
            with pytest.raises(BlueprintError, match=blueprint.blueprint_id):
                blueprint.params(small, blueprint.smallest())
            continue
        module, h = taught(built(blueprint, small)), batch(small, 1)
        contribution = module(h)
        contribution.sum().backward()
        assert contribution.shape == h.shape
        assert contribution.isfinite().all()


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_examples_of_a_batch_do_not_see_each_other(blueprint: Blueprint, site: SiteInfo) -> None:
    module, h = taught(built(blueprint, site)), batch(site, 3)
    torch.testing.assert_close(module(h)[1:2], module(h[1:2]))


TOKEN_BLUEPRINTS = [pytest.param(one, id=one.blueprint_id) for one in TRUSTED if Layout.TOKENS in one.layouts]


@pytest.mark.parametrize("blueprint", TOKEN_BLUEPRINTS)
def test_no_token_sees_a_later_one(blueprint: Blueprint) -> None:
    site = SITES[Layout.TOKENS]
    module, h = taught(built(blueprint, site)), batch(site)
    before = module(h)
    for position in range(1, site.shape[0]):
        changed = h.clone()
        changed[:, position:] += 1
        torch.testing.assert_close(module(changed)[:, :position], before[:, :position], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("blueprint", BLUEPRINTS)
def test_a_layout_that_it_does_not_have_is_refused_naming_those_it_has(blueprint: Blueprint) -> None:
    for layout in set(Layout) - blueprint.layouts:
        with pytest.raises(
            BlueprintError, match=rf"does not grow on .*, an? {layout}.*{min(blueprint.layouts)}"
        ):
            blueprint.fit(SITES[layout], 200)


@pytest.mark.parametrize("blueprint", BLUEPRINTS)
def test_settings_out_of_range_missing_or_unknown_are_refused_before_anything_is_drawn(
    blueprint: Blueprint,
) -> None:
    site = SITES[min(blueprint.layouts)]
    fitted = settings_of(blueprint, site)
    wrong: list[dict[str, float]] = [{**fitted, "colour": 1.0}]
    for name, bounds in blueprint.descriptor.allowed_parameters.items():
        wrong.append({other: value for other, value in fitted.items() if other != name})
        values = (bounds.min_value - 1, bounds.max_value + 1, 2.5, float("nan"), float("inf"))
        no_numbers: tuple[Any, ...] = (None, "a", [1.0], {"a": 1.0}, True, 10**400)
        wrong.extend({**fitted, name: value} for value in (*values, *no_numbers))
    for parameters in wrong:
        stream = generator()
        before = stream.get_state()
        with pytest.raises(BlueprintError, match=blueprint.blueprint_id):
            blueprint.build(site, parameters, stream)
        assert torch.equal(stream.get_state(), before)


@pytest.mark.parametrize("blueprint", BLUEPRINTS)
def test_a_site_whose_shape_is_not_its_layout_is_refused(blueprint: Blueprint) -> None:
    for site in (SITES[layout] for layout in blueprint.layouts):
        for shape in ((), (*site.shape, 1), (0, *site.shape[1:]), tuple(size + 1 for size in site.shape)):
            odd = SiteInfo("odd", site.layout, shape, site.channels, 0)
            with pytest.raises(BlueprintError, match=f"site odd is no {site.layout}"):
                blueprint.params(odd, blueprint.smallest())


@pytest.mark.parametrize("blueprint", BLUEPRINTS)
def test_the_descriptor_is_complete(blueprint: Blueprint) -> None:
    about = blueprint.descriptor
    assert about.name
    assert about.description.endswith(".")
    assert blueprint.layouts
    assert blueprint.tags
    knob = {blueprint.knob} - {None}
    assert about.allowed_parameters.keys() == knob | blueprint.fixed.keys()


@pytest.mark.parametrize("blueprint", BLUEPRINTS)
def test_tier_stage_risk_and_what_is_asked_for_agree(blueprint: Blueprint) -> None:
    about = blueprint.descriptor
    lowest, highest = RISK[about.tier]
    assert lowest <= about.risk <= highest
    assert about.stage in STAGES[about.tier]
    assert about.approval_required == (about.tier is BlueprintTier.EXPERIMENTAL)
    assert about.quarantine_only == (about.tier is BlueprintTier.HIGH_RISK)
