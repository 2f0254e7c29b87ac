"""What sets the attention blueprints apart from each other, and from a linear map."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from contracts.growth import Layout, SiteInfo
from esper.karn.attention import KEYS_MAX, POSITIONS_MAX, TOKENS_MAX, Attention, distances, keys, slopes, tile
from esper.karn.blueprint import Blueprint, BlueprintError
from esper.karn.blueprints.cross_attention import LatentAttention
from esper.karn.blueprints.graph_attention import GraphSum
from esper.karn.blueprints.hierarchical_attention import TwoLevels, groups
from esper.karn.blueprints.local_attention import WindowAttention
from esper.karn.blueprints.non_local import NonLocalSum
from esper.karn.catalogue import CATALOGUE
from esper.karn.neighbourhood import Neighbourhood, links, window
from tests.esper.karn.pairs import SITES, batch, built, generator, taught

SEQUENCE, IMAGE, TOKENS = SITES[Layout.SEQUENCE], SITES[Layout.IMAGE], SITES[Layout.TOKENS]
LOOKING = [SEQUENCE, IMAGE, TOKENS]


def rows(site: SiteInfo, examples: int = 2) -> Tensor:
    """A batch of rows, (B, N, C)."""
    h = batch(site, examples)
    return h if site.layout is Layout.TOKENS else h.flatten(2).transpose(1, 2)


def reach(module: nn.Module, site: SiteInfo) -> Tensor:
    """True where a position's output depends on a position's input, (N, N), for a module of rows."""
    slopes_1NC1NC = jacobian(module, rows(site, 1))
    return slopes_1NC1NC.abs().sum((0, 2, 3, 5)) > 0


def all_before(site: SiteInfo) -> Tensor:
    count = rows(site).shape[1]
    return torch.ones(count, count, dtype=torch.bool).tril()


@pytest.mark.parametrize("heads", [1, 4, 8])
@pytest.mark.parametrize("site", LOOKING, ids=lambda site: site.layout)
def test_weights_are_shares_of_what_may_be_seen(site: SiteInfo, heads: int) -> None:
    weights = taught(Attention(site, heads, 3, generator())).weights(rows(site))
    torch.testing.assert_close(weights.sum(3), torch.ones(weights.shape[:3]))
    if site.layout is Layout.TOKENS:
        assert torch.equal(weights > 0, all_before(site).expand_as(weights))
    else:
        assert (weights > 0).all()


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_is_what_torch_computes(heads: int) -> None:
    """Without slopes it is scaled dot product attention of the calmed rows."""
    site, width = TOKENS, 3
    module = taught(Attention(site, heads, width, generator()))
    module.slope.zero_()
    x = rows(site)
    calm = x / (1 + x.square().mean(2, keepdim=True)).sqrt()
    q, k, v = (
        layer(given).unflatten(2, (heads, width)).transpose(1, 2)
        for layer, given in ((module.query, calm), (module.key, calm), (module.value, x))
    )
    mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(module(x), module.back(mixed.transpose(1, 2).flatten(2)))


def test_heads_look_differently() -> None:
    weights = taught(Attention(IMAGE, 8, 2, generator())).weights(rows(IMAGE))
    for one in range(8):
        for other in range(one):
            assert (weights[:, one] - weights[:, other]).abs().max() > 1e-2


def test_the_first_head_looks_nearby_and_the_last_far() -> None:
    site = SiteInfo("long", Layout.SEQUENCE, (3, 60), 3, 0)
    module = Attention(site, 4, 2, generator())
    mean_distance = (module.weights(rows(site)) * distances(site)).sum(3).mean((0, 2))
    assert torch.equal(mean_distance.argsort(), torch.arange(4))
    assert mean_distance[0] < 4
    assert slopes(4).flatten().tolist() == [2**-2, 2**-4, 2**-6, 2**-8]


def test_attention_is_not_a_map_of_each_position_apart() -> None:
    assert reach(taught(Attention(SEQUENCE, 1, 3, generator())), SEQUENCE).all()
    assert torch.equal(reach(taught(Attention(TOKENS, 1, 3, generator())), TOKENS), all_before(TOKENS))


def test_distances_of_an_image_are_euclidean() -> None:
    found = distances(IMAGE)  # 5 · 4
    assert found.shape == (20, 20)
    assert found[0, 4 * 4 + 3] == pytest.approx(5.0)
    assert torch.equal(found, found.T)


@pytest.mark.parametrize("shape", [(2, 257), (2, 1000), (2, 17, 16), (2, 31, 33), (2, 1, 300)])
def test_many_positions_are_answered_by_the_means_of_tiles(shape: tuple[int, ...]) -> None:
    layout = Layout.SEQUENCE if len(shape) == 2 else Layout.IMAGE
    site = SiteInfo("large", layout, shape, shape[0], 0)
    module, x = Attention(site, 1, 2, generator()), rows(site, 1)
    answering = module.pool(x)
    side = tile(site)
    assert side > 1
    assert answering.shape[1] == keys(site) == distances(site).shape[1] <= KEYS_MAX
    corner = batch(site, 1)[:, :, :side] if layout is Layout.SEQUENCE else batch(site, 1)[:, :, :side, :side]
    torch.testing.assert_close(answering[:, 0], corner.flatten(2).mean(2))
    last = [range(size)[(size - 1) // side * side] for size in shape[1:]]
    rest = batch(site, 1)[(slice(None), slice(None), *(slice(start, None) for start in last))]
    torch.testing.assert_close(answering[:, -1], rest.flatten(2).mean(2))  # the last tile may be cut off
    assert distances(site)[0, 0] == pytest.approx(math.dist((0,) * (len(shape) - 1), centre(shape, side)))


def centre(shape: tuple[int, ...], side: int) -> tuple[float, ...]:
    return tuple((min(side, size) - 1) / 2 for size in shape[1:])


def test_few_positions_answer_for_themselves() -> None:
    for site in LOOKING:
        assert tile(site) == 1
        assert torch.equal(Attention(site, 1, 2, generator()).pool(rows(site)), rows(site))


TOO_MANY = {
    Layout.SEQUENCE: (2, 16385),
    Layout.IMAGE: (2, 129, 128),
    Layout.TOKENS: (16385, 2),
}
LIMITED = [
    (blueprint, layout)
    for blueprint in CATALOGUE
    for layout in TOO_MANY
    if "global" in blueprint.tags and layout in blueprint.layouts
]


@pytest.mark.parametrize(
    ("blueprint", "layout"), [pytest.param(*one, id=f"{one[0].blueprint_id}-{one[1]}") for one in LIMITED]
)
def test_what_looks_everywhere_is_linear_in_the_positions_or_refuses_too_many(
    blueprint: Blueprint, layout: Layout
) -> None:
    shape = TOO_MANY[layout]
    channel = -1 if layout is Layout.TOKENS else 0
    site = SiteInfo("large", layout, shape, shape[channel], 0)
    smallest = blueprint.smallest()
    if blueprint.refusal(site):
        with pytest.raises(BlueprintError, match=r"at most \d+ positions"):
            blueprint.params(site, smallest)
        assert blueprint.fit(site, 10**9) is None
        return
    count = math.prod(shape) // shape[channel]
    assert blueprint.forward_flops(site, smallest) < count * count, "less than a score for each pair"


@pytest.mark.parametrize(("layout", "most"), [(Layout.TOKENS, TOKENS_MAX), (Layout.SEQUENCE, POSITIONS_MAX)])
def test_the_limit_itself_is_allowed(layout: Layout, most: int) -> None:
    def site(length: int) -> SiteInfo:
        return SiteInfo("s", layout, (length, 1) if layout is Layout.TOKENS else (1, length), 1, 0)

    blueprint = CATALOGUE.get("BP023")
    assert blueprint.refusal(site(most)) == ""
    assert f"has {most + 1}" in blueprint.refusal(site(most + 1))


def test_a_window_sees_its_radius_and_nothing_else() -> None:
    for site, radius in ((SEQUENCE, 2), (IMAGE, 1), (TOKENS, 3)):
        module = taught(WindowAttention(site, radius, 3, generator()))
        count = rows(site).shape[1]
        if site.layout is Layout.IMAGE:
            height, width = torch.arange(count) // 4, torch.arange(count) % 4
            apart = torch.maximum((height[:, None] - height).abs(), (width[:, None] - width).abs())
            wanted = apart <= radius
        else:
            back = torch.arange(count)[:, None] - torch.arange(count)
            wanted = (back <= radius) & (back >= (0 if site.layout is Layout.TOKENS else -radius))
        assert torch.equal(reach(module, site), wanted)


def test_a_window_is_full_attention_where_it_covers_everything() -> None:
    site = SiteInfo("s", Layout.SEQUENCE, (4, 5), 4, 0)
    near, full = WindowAttention(site, 4, 3, generator()), Attention(site, 1, 3, generator())
    for name in ("query", "key", "value", "back"):
        getattr(near, name).load_state_dict(getattr(full, name).state_dict())
    near, full = taught(near), full
    for name in ("query", "key", "value", "back"):
        getattr(full, name).load_state_dict(getattr(near, name).state_dict())
    with torch.no_grad():
        near.bias_K.zero_()
        full.slope.zero_()
    torch.testing.assert_close(near(rows(site)), full(rows(site)))


@pytest.mark.parametrize("site", LOOKING, ids=lambda site: site.layout)
def test_window_weights_are_shares_and_nothing_goes_outside_the_grid(site: SiteInfo) -> None:
    module = taught(WindowAttention(site, 2, 3, generator()))
    weights = module.weights(rows(site))
    torch.testing.assert_close(weights.sum(2), torch.ones(weights.shape[:2]))
    assert torch.equal(weights[0] > 0, ~module.window.outside)
    assert module.window.outside.any()


def test_a_window_can_prefer_a_place_whatever_is_there() -> None:
    """With questions silent, what counts is where a neighbour is: the middle has the softmax of the bias."""
    module = taught(WindowAttention(SEQUENCE, 2, 3, generator()))
    with torch.no_grad():
        module.query.weight.zero_()
    weights = module.weights(rows(SEQUENCE))
    torch.testing.assert_close(weights[0, 4], module.bias_K.softmax(0))
    torch.testing.assert_close(weights[0, 0, 2:], module.bias_K[2:].softmax(0))


def test_the_graph_links_what_it_says() -> None:
    assert sorted(links(SEQUENCE, 1)) == [(-1,), (0,), (1,)]
    assert sorted(links(IMAGE, 1)) == [(-1, 0), (0, -1), (0, 0), (0, 1), (1, 0)]
    assert sorted(links(TOKENS, 2)) == [(-2,), (-1,), (0,)]
    for site, steps in ((SEQUENCE, 1), (IMAGE, 1), (TOKENS, 2)):
        module = taught(GraphSum(site, 2, generator()))
        assert torch.equal(reach(module, site), linked(site, steps))


def linked(site: SiteInfo, steps: int) -> Tensor:
    """True where the grid links two positions: at most `steps` apart in a straight line; tokens look back."""
    apart = distances(site)
    if site.layout is Layout.TOKENS:
        return (apart <= steps) & all_before(site)
    return apart <= steps  # at one step only straight lines are that near


def test_neighbours_are_the_rows_at_the_offsets_and_zero_outside() -> None:
    offsets = window(IMAGE, 1)
    x = rows(IMAGE)
    seen = Neighbourhood((5, 4), offsets)(x)
    for place, (down, right) in ((at, offset) for at in range(20) for offset in offsets):
        row, column = place // 4 + down, place % 4 + right
        inside = 0 <= row < 5 and 0 <= column < 4
        wanted = x[:, row * 4 + column] if inside else torch.zeros_like(x[:, 0])
        assert torch.equal(seen[:, place, offsets.index((down, right))], wanted)


def test_graph_scores_rank_neighbours_differently_for_each_position() -> None:
    """What GATv2 can and GAT can't: which of two is liked better depends on who asks."""
    module = taught(GraphSum(SEQUENCE, 4, generator()))
    weights = module.weights(rows(SEQUENCE, 8))  # of the one before, itself and the one after
    torch.testing.assert_close(weights.sum(2), torch.ones(weights.shape[0], 9, 4))
    asked_by_first = weights[:, :-1, 1] > weights[:, :-1, 2]  # each pair of neighbours, asked by its first
    asked_by_second = weights[:, 1:, 0] > weights[:, 1:, 1]
    assert (asked_by_first != asked_by_second).any()
    assert (asked_by_first == asked_by_second).any()


def test_latents_read_with_shares_and_every_position_reaches_every_other() -> None:
    assert reach(taught(LatentAttention(SEQUENCE, 2, 3, generator())), SEQUENCE).all()
    causal = reach(taught(LatentAttention(TOKENS, 2, 3, generator())), TOKENS)
    assert torch.equal(causal, all_before(TOKENS))


def test_the_last_token_reads_latents_that_read_as_those_of_a_sequence_do() -> None:
    """Token by token, and all at once, are one formula: the last token's latents have read everything."""
    tokens = taught(LatentAttention(TOKENS, 3, 4, generator()))
    at_once = LatentAttention(SiteInfo("s", Layout.SEQUENCE, (5, 7), 5, 0), 3, 4, generator())
    at_once.load_state_dict(tokens.state_dict())
    x = rows(TOKENS)
    torch.testing.assert_close(tokens(x)[:, -1], at_once(x)[:, -1])
    assert not torch.allclose(tokens(x)[:, 0], at_once(x)[:, 0])


def test_the_non_local_sum_is_the_paper_s_formula() -> None:
    """y_i = Σ_j θ_i · φ_j g_j / M over the pooled positions, pair by pair; odd sizes keep their last one.

    Then calmed, which the paper's is not.
    """
    for site in (SEQUENCE, IMAGE):
        module, x = taught(NonLocalSum(site, 3, generator())), rows(site)
        calm = x / (1 + x.square().mean(2, keepdim=True)).sqrt()

        def halved(y: Tensor, site: SiteInfo = site) -> Tensor:
            grid = y.transpose(1, 2).unflatten(2, site.shape[1:])
            for dim in range(2, grid.dim()):
                grid = torch.stack([part.amax(dim) for part in grid.split(2, dim)], dim)
            return grid.flatten(2).transpose(1, 2)

        phi, value = halved(module.phi(calm)), halved(module.value(x))
        scores = module.theta(calm) @ phi.transpose(1, 2)
        y = scores @ value / phi.shape[1]
        torch.testing.assert_close(module(x), module.back(y / (1 + y.square().mean(2, keepdim=True)).sqrt()))


def test_hierarchical_attention_groups_the_rows_of_an_image_and_neighbours_elsewhere() -> None:
    assert groups(IMAGE) == (5, 4)
    assert groups(SEQUENCE) == (3, 3)
    assert groups(TOKENS) == (3, 3)  # 7 tokens and 2 of filling
    assert groups(SiteInfo("s", Layout.TOKENS, (1, 5), 5, 0)) == (1, 1)


@pytest.mark.parametrize("site", LOOKING, ids=lambda site: site.layout)
def test_hierarchical_attention_reaches_all_but_later_tokens_and_never_the_filling(site: SiteInfo) -> None:
    module = taught(TwoLevels(site, 3, generator()))
    assert torch.equal(
        reach(module, site),
        all_before(site) if site.layout is Layout.TOKENS else torch.ones_like(all_before(site)),
    )
    k = torch.randn(2, *groups(site), 3, generator=generator())
    weights = module.summary_weights(k).squeeze(2)
    torch.testing.assert_close(weights.sum(2), torch.ones(weights.shape[:2]))
    assert torch.equal(weights[0] > 0, ~module.filling)


def test_another_group_is_seen_through_its_summary_only() -> None:
    """With the summaries' answer cut, a row sees its own group and no other."""
    module = taught(TwoLevels(SEQUENCE, 3, generator()))
    module.unseen_groups[:, 1:] = True
    wanted = torch.block_diag(*(torch.ones(3, 3) for _ in range(3))).bool()
    assert torch.equal(reach(module, SEQUENCE), wanted)


@pytest.mark.parametrize("blueprint", ["BP023", "BP026", "BP028", "BP029", "BP030", "BP037", "BP042"])
def test_vectors_are_refused_by_what_needs_several_positions(blueprint: str) -> None:
    with pytest.raises(BlueprintError, match=r"does not grow on site \S+, a vector"):
        built(CATALOGUE.get(blueprint), SITES[Layout.VECTOR])
