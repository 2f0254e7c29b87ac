"""What sets the blocks, pyramids, branches and position mixing apart from a linear map and each other."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import Blueprint, BlueprintError
from esper.karn.blueprints.conv_transformer import ConvTransformerLayer
from esper.karn.blueprints.dense_connections import DenseLayers
from esper.karn.blueprints.feature_pyramid import Pyramid, scales
from esper.karn.blueprints.pooling_branches import Branches, largest_near, mean_near
from esper.karn.blueprints.position_mixing import AxisMixing, PastMixing, SpatialGating
from esper.karn.catalogue import CATALOGUE
from esper.karn.transformer import TransformerLayer
from tests.esper.karn.pairs import SITES, batch, built, generator, taught

SEQUENCE, IMAGE, TOKENS = SITES[Layout.SEQUENCE], SITES[Layout.IMAGE], SITES[Layout.TOKENS]
SPATIAL_SITES = [SEQUENCE, IMAGE]


def changed(module: nn.Module, h: Tensor, place: int) -> Tensor:
    """True at the positions whose output changes when the input at `place` does; h is (B, C, ...)."""
    moved = h.clone()
    moved.flatten(2)[:, :, place] += 1
    return (module(moved) != module(h)).flatten(2).any(1).any(0)


def test_the_perceptron_of_a_transformer_reads_what_attention_found() -> None:
    module, x = taught(TransformerLayer(TOKENS, 3, generator())), batch(TOKENS)
    a = module.attention(x)
    torch.testing.assert_close(module(x), a + module.perceptron(x + a))
    with torch.no_grad():
        for parameter in module.perceptron.back.parameters():
            parameter.zero_()
    assert torch.equal(module(x), a)
    with torch.no_grad():
        for parameter in module.attention.back.parameters():
            parameter.zero_()
    assert not module(x).any()


def test_a_conv_transformer_tells_places_apart_that_a_transformer_confuses() -> None:
    """Turning a sequence round turns attention's answer round; a convolution notices."""
    h = batch(SEQUENCE)
    plain = taught(TransformerLayer(SEQUENCE, 3, generator()))
    rows = h.transpose(1, 2)
    torch.testing.assert_close(plain(rows.flip(1)), plain(rows).flip(1))
    looking = taught(ConvTransformerLayer(SEQUENCE, 3, generator()))
    assert (looking(h.flip(2)) - looking(h).flip(2)).abs().max() > 1e-2


@pytest.mark.parametrize("site", SPATIAL_SITES, ids=lambda site: site.layout)
def test_each_part_of_a_conv_transformer_looks_at_its_neighbours(site: SiteInfo) -> None:
    """Also with attention silent, and with the perceptron silent."""
    deaf = taught(ConvTransformerLayer(site, 3, generator()))
    silent = taught(ConvTransformerLayer(site, 3, generator()))
    with torch.no_grad():
        for parameter in (*deaf.attention.inner.back.parameters(), *silent.back.parameters()):
            parameter.zero_()
    reached = 3 if site.layout is Layout.SEQUENCE else 9
    middle = 4 if site.layout is Layout.SEQUENCE else 9
    assert changed(deaf, batch(site, 1), middle).sum() == reached
    h = batch(site, 1)
    assert changed(silent, h, middle).all(), "attention sees it from everywhere"
    assert (silent(h.flip(2)) - silent(h).flip(2)).abs().max() > 1e-2, "and knows its neighbours' order"


@pytest.mark.parametrize("shape", [(3, 1), (3, 2), (3, 7), (3, 13), (2, 5, 4), (2, 1, 9), (2, 7, 7)])
def test_pyramid_levels_are_halved_upwards_at_every_size(shape: tuple[int, ...]) -> None:
    layout = Layout.SEQUENCE if len(shape) == 2 else Layout.IMAGE
    site = SiteInfo("s", layout, shape, shape[0], 0)
    module, h = taught(Pyramid(site, 4, 2, generator())), batch(site)
    found = [tuple(level.shape[2:]) for level in module.levels(h)]
    wanted = [shape[1:]]
    for _ in range(4):
        wanted.append(tuple((side + 1) // 2 for side in wanted[-1]))
    assert found == wanted == [one.shape[1:] for one in scales(site, 4)]
    assert module(h).shape == h.shape


def test_each_coarser_level_sees_twice_as_far() -> None:
    site = SiteInfo("s", Layout.SEQUENCE, (2, 64), 2, 0)
    seen = []
    for levels in (1, 2, 3, 4):
        module = taught(Pyramid(site, levels, 3, generator()))
        seen.append(int(changed(module, batch(site, 1), 31).sum()))
    assert seen == sorted(seen)
    assert all(later > 1.5 * earlier for earlier, later in pairwise(seen))


def test_every_level_counts_in_the_finest() -> None:
    module, h = taught(Pyramid(IMAGE, 2, 3, generator())), batch(IMAGE)
    whole = module(h)
    for level in range(3):
        without = taught(Pyramid(IMAGE, 2, 3, generator()))
        with torch.no_grad():
            for parameter in without.across[level].parameters():
                parameter.zero_()
        assert (without(h) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("site", [*SPATIAL_SITES, TOKENS, SITES[Layout.VECTOR]], ids=lambda site: site.layout)
def test_every_dense_layer_sees_the_input_and_all_layers_before(site: SiteInfo) -> None:
    module = taught(DenseLayers(site, 4, 3, generator()))
    fans = [layer.weight.shape[1] for layer in module.layers]
    assert fans == [site.channels + 3 * before for before in range(4)]
    h = batch(site)
    whole = module(h)
    for layer in range(1, 4):
        for columns in (slice(0, site.channels), slice(site.channels + 3 * (layer - 1), None)):
            cut = taught(DenseLayers(site, 4, 3, generator()))
            with torch.no_grad():
                cut.layers[layer].weight[:, columns] = 0
            assert (cut(h) - whole).abs().max() > 1e-4, "both the input and the last layer before it count"


def test_branches_see_what_they_say() -> None:
    for site, near in ((SEQUENCE, 3), (IMAGE, 9)):
        module, h = taught(Branches(site, 2, generator())), batch(site, 1)
        middle = 4 if site.layout is Layout.SEQUENCE else 9
        moved = h.clone()
        moved.flatten(2)[:, :, middle] += 100
        seen = [
            int((after != before).flatten(2).any(1).sum())
            for before, after in zip(module.branches(h), module.branches(moved), strict=True)
        ]
        assert seen == [1, near, near, near]


def test_pools_look_inside_the_grid_only() -> None:
    h = torch.tensor([[[4.0, -2.0, -5.0, -8.0]]])
    assert mean_near(h).tolist() == [[[1.0, -1.0, -5.0, -6.5]]]
    assert largest_near(h).tolist() == [[[4.0, 4.0, -2.0, -5.0]]]
    image = batch(IMAGE)
    for pool in (mean_near, largest_near):
        assert pool(image).shape == image.shape


def test_axis_mixing_is_one_matrix_a_dimension() -> None:
    module = AxisMixing((5, 4), generator())
    rows, columns = module.axes
    v = torch.randn(2, 20, 3, generator=generator())
    mixed = torch.kron(rows, columns) @ v  # (20, 20) @ (2, 20, 3)
    torch.testing.assert_close(module(v), mixed)


def test_past_mixing_weighs_by_distance_back_alone() -> None:
    module = PastMixing(6, generator())
    v = torch.randn(2, 6, 3, generator=generator())
    wanted = torch.stack(
        [sum(module.weight_T[at - back] * v[:, back] for back in range(at + 1)) for at in range(6)], 1
    )
    torch.testing.assert_close(module(v), wanted)


@pytest.mark.parametrize("site", [SEQUENCE, IMAGE, TOKENS], ids=lambda site: site.layout)
def test_gating_starts_from_each_position_apart_and_learns_to_mix(site: SiteInfo) -> None:
    """Without mixing weights it is a perceptron at each position; with them every position counts."""
    module = taught(SpatialGating(site, 3, generator()))
    x = batch(site) if site.layout is Layout.TOKENS else batch(site).flatten(2).transpose(1, 2)
    moved = x.clone()
    moved[:, 0] += 1
    assert (module(moved) != module(x)).any(2).all(), "the first position is seen from everywhere"
    with torch.no_grad():
        for parameter in module.mix.parameters():
            parameter.zero_()
    assert torch.equal(module(moved)[:, 1:], module(x)[:, 1:])
    calm = x / (1 + x.square().mean(2, keepdim=True)).sqrt()
    u = F.gelu(module.into(calm))[:, :, :3]
    torch.testing.assert_close(module(x), module.back(u))


@pytest.mark.parametrize("layout", [Layout.SEQUENCE, Layout.IMAGE, Layout.TOKENS])
def test_mixing_refuses_a_side_that_would_need_millions_of_weights(layout: Layout) -> None:
    blueprint = CATALOGUE.get("BP035")

    def site(side: int) -> SiteInfo:
        shape = {Layout.SEQUENCE: (2, side), Layout.IMAGE: (2, 3, side), Layout.TOKENS: (side, 2)}[layout]
        return SiteInfo("s", layout, shape, 2, 0)

    assert blueprint.params(site(1024), {"width": 1}) > 1024
    with pytest.raises(BlueprintError, match=r"at most 1024 positions a side; .* has 1025"):
        blueprint.params(site(1025), {"width": 1})


DEAR = [blueprint for blueprint in CATALOGUE if blueprint.descriptor.stage in (3, 4)]


@pytest.mark.parametrize("blueprint", [pytest.param(one, id=one.blueprint_id) for one in DEAR])
def test_nothing_and_far_away_give_finite_answers_and_gradients(blueprint: Blueprint) -> None:
    for layout in sorted(blueprint.layouts):
        site = SITES[layout]
        for scale in (0.0, 1e4):
            module, h = taught(built(blueprint, site)), (scale * batch(site)).requires_grad_()
            answer = module(h)
            answer.sum().backward()
            assert answer.isfinite().all()
            assert h.grad is not None
            assert h.grad.isfinite().all()
            assert all(one.grad is None or one.grad.isfinite().all() for one in module.parameters())
