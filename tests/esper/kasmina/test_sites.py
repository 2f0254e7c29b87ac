"""Where a host can grow, and what is said of places where it can't."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contracts.growth import Layout
from esper.kasmina.sites import SiteError, find_sites
from tests.hosts import HOSTS, Host


@pytest.mark.parametrize("host", HOSTS, ids=lambda h: h.name)
def test_every_host_s_sites_are_found_with_layout_shape_and_depth(host: Host) -> None:
    sites = find_sites(host.model(), host.sites, host.batch(3)[0])
    assert [site.name for site in sites] == list(host.sites)
    assert [site.depth for site in sites] == [0, 1]
    assert {site.layout for site in sites} == {host.layout}
    shapes = {
        "mlp": [(8,), (8,)],
        "conv1d": [(4, 12), (4, 6)],
        "conv2d": [(4, 8, 8), (4, 8, 8)],
        "transformer": [(6, 8), (6, 8)],
    }
    assert [site.shape for site in sites] == shapes[host.name]
    assert {site.channels for site in sites} == {4 if "conv" in host.name else 8}


@pytest.mark.parametrize("host", HOSTS, ids=lambda h: h.name)
def test_looking_for_sites_leaves_model_modes_and_random_streams_as_they_were(host: Host) -> None:
    model = host.model()
    next(model.children()).eval()  # a mixed mode has to come back mixed
    modes = [module.training for module in model.modules()]
    children = [list(module._modules) for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    streams = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    find_sites(model, host.sites, host.batch(3)[0])
    assert [module.training for module in model.modules()] == modes
    assert [list(module._modules) for module in model.modules()] == children
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(state[name], now) for name, now in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert random.getstate() == streams[1]
    assert np.array_equal(np.random.get_state()[1], streams[2])  # type: ignore[index]


def test_sites_come_in_the_order_of_the_forward_pass_whatever_the_patterns_order() -> None:
    host = HOSTS[1]
    sites = find_sites(host.model(), ["act2", "conv1", "act1"], host.batch(2)[0])
    assert [site.name for site in sites] == ["conv1", "act1", "act2"]


def test_a_name_a_dotted_suffix_and_an_expression_name_the_same_sites() -> None:
    model, example = HOSTS[3].model(), HOSTS[3].batch(2)[0]
    by_name = find_sites(model, ["blocks.0.norm1", "blocks.1.norm1"], example)
    assert find_sites(model, ["norm1"], example) == by_name
    assert find_sites(model, r"blocks\.\d\.norm1", example) == by_name
    with pytest.raises(SiteError):
        find_sites(model, ["orm1"], example)  # a suffix is of whole parts


def test_a_model_that_is_one_layer_is_told_what_it_lacks() -> None:
    with pytest.raises(SiteError, match="the model has no submodule at all"):
        find_sites(nn.Linear(2, 2), ["1"], torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["first", "secnd"], "'secnd' names no module; the nearest are second"),
        (["first.4"], "'first.4' names no module; the nearest are first"),
        ("firs", "the expression 'firs' matches no module; the nearest are first"),
        ("first(", "'first\\(' is no regular expression"),
        ([], "no pattern was given"),
        (["first", "first.3"], "first and first.3 are the same place; name one of them"),
    ],
)
def test_a_pattern_that_names_no_site_is_refused_with_what_is_near(
    patterns: list[str] | str, message: str
) -> None:
    with pytest.raises(SiteError, match=message):
        find_sites(HOSTS[0].model(), patterns, HOSTS[0].batch(2)[0])


class Odd(nn.Module):
    """A host with one thing of every kind that can't be a site."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(4, 4)
        self.twice = nn.Linear(4, 4)
        self.several = nn.LSTM(4, 4, batch_first=True)
        self.listed = nn.ModuleList([nn.Linear(4, 4)])
        self.empty = nn.Sequential()
        self.own = OwnForward(nn.Linear(4, 4))
        self.looping = Looping()
        self.whole = nn.Flatten(0)
        self.many = nn.Unflatten(1, (1, 2, 1, 2))
        self.turned = Turned()

    def forward(self, x: Tensor) -> Tensor:
        h = self.looping(self.own(self.empty(self.twice(self.twice(x)))))
        self.whole(h)
        self.many(h)
        self.turned(h)
        h, _ = self.several(h[:, None])
        out: Tensor = self.listed[0](h[:, 0])
        return out


class OwnForward(nn.Sequential):
    """Runs its children in a way of its own."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        for layer in reversed(self):
            input = layer(input)  # noqa: A001
        return input


class Looping(nn.Module):
    """Runs whatever children it has."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x


class Turned(nn.Module):
    """Features first, batch last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.T


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ("spare", "spare never runs in the forward pass"),
        ("twice", "twice runs 2 times in one pass"),
        ("several", "several returns tuple; only one floating tensor"),
        ("listed", "listed is a ModuleList.*make one of its entries the site"),
        ("empty", "empty is an empty Sequential"),
        ("own", "own is a Sequential with a forward of its own"),
        ("looping", "runs over its own children"),
        ("whole", r"whole returns shape \(12,\), not with the batch of 3 first"),
        ("turned", r"turned returns shape \(4, 3\), not with the batch of 3 first"),
        ("many", r"many returns shape \(3, 1, 2, 1, 2\); only 2 to 4 dimensions"),
    ],
)
def test_a_place_that_can_t_be_a_site_is_refused_with_the_reason(site: str, message: str) -> None:
    model = Odd()
    children = [list(module._modules) for module in model.modules()]
    with pytest.raises(SiteError, match=message):
        find_sites(model, [site], torch.randn(3, 4))
    assert [list(module._modules) for module in model.modules()] == children
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_whose_shapes_are_not_known_yet_is_refused() -> None:
    with pytest.raises(SiteError, match=r"0\.weight has no shape yet"):
        find_sites(nn.Sequential(nn.LazyLinear(3)), ["0"], torch.randn(2, 4))


def test_integers_are_refused() -> None:
    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.long()

    with pytest.raises(SiteError, match=r"0 returns torch\.int64"):
        find_sites(nn.Sequential(Rounded()), ["0"], torch.randn(2, 4))


class Turning(nn.Module):
    """A convolution whose output is turned to (batch, time, features)."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 5, 3, padding=1)
        self.before = nn.ReLU()
        self.after = nn.ReLU()
        self.length = length

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(self.before(self.conv(x)).transpose(1, 2))
        return out


def test_a_turned_sequence_is_seen_as_tokens() -> None:
    before, after = find_sites(Turning(7), ["before", "after"], torch.randn(2, 1, 7))
    assert (before.layout, before.channels, before.shape) == (Layout.SEQUENCE, 5, (5, 7))
    assert (after.layout, after.channels, after.shape) == (Layout.TOKENS, 5, (7, 5))


def test_what_the_layout_is_said_to_be_overrides_the_guess() -> None:
    (site,) = find_sites(Turning(7), ["before"], torch.randn(2, 1, 7), {"before": Layout.TOKENS})
    assert (site.layout, site.channels) == (Layout.TOKENS, 7)
    with pytest.raises(SiteError, match="can't be image; it can be sequence or tokens"):
        find_sites(Turning(7), ["before"], torch.randn(2, 1, 7), {"before": Layout.IMAGE})
    with pytest.raises(SiteError, match="layouts are given for other, but the sites are before"):
        find_sites(Turning(7), ["before"], torch.randn(2, 1, 7), {"other": Layout.TOKENS})


def test_three_dimensions_of_which_nothing_tells_are_refused_until_the_layout_is_said() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(2), nn.ReLU())
    with pytest.raises(SiteError, match="nothing before it tells sequence from tokens; say which in layouts"):
        find_sites(model, ["2"], torch.randn(2, 1, 4, 4))
    (site,) = find_sites(model, ["2"], torch.randn(2, 1, 4, 4), {"2": Layout.SEQUENCE})
    assert (site.shape, site.channels) == ((3, 16), 3)


def test_an_image_between_makes_void_what_was_known_of_three_dimensions() -> None:
    flat = nn.Flatten(2)
    model = nn.Sequential(nn.Conv1d(1, 4, 1), nn.Unflatten(2, (2, 3)), nn.Conv2d(4, 5, 1), flat, nn.ReLU())
    with pytest.raises(SiteError, match="say which in layouts"):
        find_sites(model, ["4"], torch.randn(2, 1, 6))


def test_torch_s_own_encoder_layers_are_tokens() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    sites = find_sites(model, ["layers.0", "layers.1", "layers.0.linear2"], torch.randn(2, 5, 8))
    assert [(site.name, site.layout) for site in sites] == [
        ("layers.0.linear2", Layout.TOKENS),
        ("layers.0", Layout.TOKENS),
        ("layers.1", Layout.TOKENS),
    ]


def test_a_host_with_several_inputs_is_probed_with_a_tuple() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Bilinear(3, 4, 5)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            out: Tensor = self.mix(a, b)
            return out

    (site,) = find_sites(Two(), ["mix"], (torch.randn(2, 3), torch.randn(2, 4)))
    assert site.shape == (5,)
