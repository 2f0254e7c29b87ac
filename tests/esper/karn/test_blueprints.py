"""What every blueprint in the catalogue promises; a new one is tested here without a line changed."""

import copy
import io
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from contracts.blueprint import BlueprintTier
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import Blueprint, BlueprintError
from esper.karn.catalogue import CATALOGUE
from tests import strategies

SITES = {
    Layout.VECTOR: SiteInfo("head", Layout.VECTOR, (6,), 6, 0),
    Layout.SEQUENCE: SiteInfo("conv", Layout.SEQUENCE, (4, 9), 4, 0),
    Layout.IMAGE: SiteInfo("conv2d", Layout.IMAGE, (3, 5, 4), 3, 0),
    Layout.TOKENS: SiteInfo("block", Layout.TOKENS, (7, 5), 5, 0),
}
BLUEPRINTS = [pytest.param(blueprint, id=blueprint.blueprint_id) for blueprint in CATALOGUE]
PAIRS = [
    pytest.param(blueprint, SITES[layout], id=f"{blueprint.blueprint_id}-{layout}")
    for blueprint in CATALOGUE
    for layout in Layout
    if layout in blueprint.layouts
]
OFFERS = st.sampled_from(list(CATALOGUE)).flatmap(
    lambda blueprint: st.tuples(
        st.just(blueprint), strategies.sites(st.sampled_from(sorted(blueprint.layouts)))
    )
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def settings_of(blueprint: Blueprint, site: SiteInfo, max_params: int = 200) -> dict[str, float]:
    fitted = blueprint.fit(site, max_params)
    assert fitted is not None
    return fitted


def built(blueprint: Blueprint, site: SiteInfo, seed: int = 0) -> nn.Module:
    return blueprint.build(site, settings_of(blueprint, site), generator(seed))


def taught(module: nn.Module, seed: int = 1) -> nn.Module:
    """The module as it might be after training: no parameter where it started."""
    module = copy.deepcopy(module)
    stream = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.empty_like(parameter).uniform_(-0.6, 0.6, generator=stream))
    return module


def batch(site: SiteInfo, examples: int = 3, seed: int = 2) -> torch.Tensor:
    return torch.randn(examples, *site.shape, generator=generator(seed))


@given(OFFERS, st.integers(1, 3))
@settings(max_examples=60)
def test_a_new_seed_adds_exactly_nothing_at_any_size(
    offer: tuple[Blueprint, SiteInfo], examples: int
) -> None:
    blueprint, site = offer
    h = batch(site, examples)
    contribution = built(blueprint, site)(h)
    assert contribution.shape == h.shape
    assert torch.equal(h + contribution, h)


@given(OFFERS, st.integers(1, 300))
@settings(max_examples=60)
def test_params_is_what_the_module_has_and_fit_is_the_most_that_fits(
    offer: tuple[Blueprint, SiteInfo], max_params: int
) -> None:
    blueprint, site = offer
    fitted = blueprint.fit(site, max_params)
    if fitted is None:
        smallest = {
            name: bounds.min_value for name, bounds in blueprint.descriptor.allowed_parameters.items()
        }
        assert blueprint.params(site, smallest) > max_params
        return
    module = blueprint.build(site, fitted, generator())
    counted = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    assert counted == blueprint.params(site, fitted) <= max_params
    if blueprint.knob is not None and fitted[blueprint.knob] < blueprint.largest(site):
        larger = {**fitted, blueprint.knob: fitted[blueprint.knob] + 1}
        assert blueprint.params(site, larger) > max_params


@given(OFFERS, st.integers(1, 2))
@settings(max_examples=40)
def test_forward_flops_is_what_torch_counts(offer: tuple[Blueprint, SiteInfo], examples: int) -> None:
    blueprint, site = offer
    module = built(blueprint, site)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(batch(site, examples))
    expected = blueprint.forward_flops(site, settings_of(blueprint, site)) * examples
    assert counter.get_total_flops() == expected


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_a_build_draws_from_the_passed_generator_alone(blueprint: Blueprint, site: SiteInfo) -> None:
    before = torch.get_rng_state()
    one, same, other = (built(blueprint, site, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    drawn = [name for name in one if one[name].any()]
    assert all(not torch.equal(one[name], other[name]) for name in drawn)


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_a_step_moves_a_new_seed_off_zero(blueprint: Blueprint, site: SiteInfo) -> None:
    module, h = built(blueprint, site), batch(site)
    module(h).sum().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_the_loss_falls_on_a_task_that_it_can_solve(blueprint: Blueprint, site: SiteInfo) -> None:
    """Learn h + f*(h), f* another module of the same blueprint, from the bare residual."""
    h = batch(site, 32)
    with torch.no_grad():
        wanted = taught(built(blueprint, site, 5))(h)
    student = built(blueprint, site)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-2)
    first = wanted.square().mean().item()
    for _ in range(120):
        optimizer.zero_grad()
        loss = (student(h) - wanted).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_examples_of_a_batch_do_not_see_each_other(blueprint: Blueprint, site: SiteInfo) -> None:
    module, h = taught(built(blueprint, site)), batch(site, 3)
    torch.testing.assert_close(module(h)[1:2], module(h[1:2]))


TOKEN_BLUEPRINTS = [pytest.param(one, id=one.blueprint_id) for one in CATALOGUE.offers(Layout.TOKENS)]


@pytest.mark.parametrize("blueprint", TOKEN_BLUEPRINTS)
def test_no_token_sees_a_later_one(blueprint: Blueprint) -> None:
    site = SITES[Layout.TOKENS]
    module, h = taught(built(blueprint, site)), batch(site)
    changed = h.clone()
    changed[:, 4:] += 1
    assert torch.equal(module(h)[:, :4], module(changed)[:, :4])


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_an_exported_module_comes_back_equal(blueprint: Blueprint, site: SiteInfo) -> None:
    module, h = taught(built(blueprint, site)), batch(site)
    examples = torch.export.Dim("examples", min=1, max=64)
    program = torch.export.export(module, (h,), dynamic_shapes=({0: examples},))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for size in (1, 3, 4):
        assert torch.equal(loaded(batch(site, size)), module(batch(site, size)))


@pytest.mark.parametrize("blueprint", BLUEPRINTS)
def test_a_layout_that_it_does_not_have_is_refused_naming_those_it_has(blueprint: Blueprint) -> None:
    for layout in set(Layout) - blueprint.layouts:
        with pytest.raises(BlueprintError, match=f"does not grow on a {layout}.*{min(blueprint.layouts)}"):
            blueprint.fit(SITES[layout], 200)


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_settings_out_of_range_missing_or_unknown_are_refused_before_anything_is_drawn(
    blueprint: Blueprint, site: SiteInfo
) -> None:
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


@pytest.mark.parametrize(("blueprint", "site"), PAIRS)
def test_a_site_whose_shape_is_not_its_layout_is_refused(blueprint: Blueprint, site: SiteInfo) -> None:
    fitted = settings_of(blueprint, site)
    for shape in ((), (*site.shape, 1), (0, *site.shape[1:]), tuple(size + 1 for size in site.shape)):
        odd = SiteInfo("odd", site.layout, shape, site.channels, 0)
        with pytest.raises(BlueprintError, match=f"site odd is not a {site.layout}"):
            blueprint.params(odd, fitted)


@pytest.mark.parametrize("blueprint", BLUEPRINTS)
def test_the_descriptor_is_complete(blueprint: Blueprint) -> None:
    about = blueprint.descriptor
    assert about.name
    assert about.description
    assert about.tier is not BlueprintTier.UNSPECIFIED
    assert 0 <= about.risk <= 1
    assert blueprint.layouts
    knob = {blueprint.knob} - {None}
    assert about.allowed_parameters.keys() == knob | blueprint.fixed.keys()
