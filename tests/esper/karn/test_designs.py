"""Single blueprints are what their papers describe: checked against torch's own layers or a closed form."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.growth import Layout, SiteInfo
from esper.karn.blueprints.deformable_convolution import DeformableConvolution, DeformedConvolution
from esper.karn.blueprints.dynamic_convolution import DynamicConvolution, MixedConvolution
from esper.karn.blueprints.group_norm import GroupNorm, groups_of
from esper.karn.blueprints.highway import Highway, HighwayLayer
from esper.karn.blueprints.layer_norm import LayerNorm
from esper.karn.blueprints.learned_activation import Hinges, LearnedActivation
from esper.karn.blueprints.rms_norm import RmsNorm
from esper.karn.blueprints.temporal_convolution import TemporalConvolution
from tests.esper.karn.pairs import SITES, batch, generator, taught

WIDE = SiteInfo("wide", Layout.SEQUENCE, (6, 40), 6, 0)
IMAGE = SiteInfo("image", Layout.IMAGE, (3, 6, 5), 3, 0)


@torch.no_grad()
def last(module: nn.Module, *values: float) -> nn.Module:
    """The module with its parameters named scale and offset at these values."""
    for name, value in zip(("scale", "offset"), values, strict=False):
        module.get_parameter(name).fill_(value)
    return module


@pytest.mark.parametrize("layout", Layout)
def test_layer_norm_is_torchs_over_the_channels_of_a_position(layout: Layout) -> None:
    site = SITES[layout]
    h = batch(site)
    wanted = F.layer_norm(channels_last(h, layout), (site.channels,))
    module = last(LayerNorm().build(site, {}, generator()), 2.0, 0.5)
    torch.testing.assert_close(channels_last(module(h), layout), 2 * wanted + 0.5)


@pytest.mark.parametrize("layout", Layout)
def test_rms_norm_is_torchs_over_the_channels_of_a_position(layout: Layout) -> None:
    site = SITES[layout]
    h = batch(site)
    wanted = F.rms_norm(channels_last(h, layout), (site.channels,), eps=1e-5)
    module = last(RmsNorm().build(site, {}, generator()), 2.0)
    torch.testing.assert_close(channels_last(module(h), layout), 2 * wanted)


@pytest.mark.parametrize("shape", [(6, 9), (8, 1), (1, 9), (7, 2)])
def test_group_norm_is_torchs_on_sequences_and_images(shape: tuple[int, int]) -> None:
    for site in (
        SiteInfo("s", Layout.SEQUENCE, shape, shape[0], 0),
        SiteInfo("i", Layout.IMAGE, (*shape, 3), shape[0], 0),
    ):
        h = batch(site)
        module = last(GroupNorm().build(site, {"groups": 4.0}, generator()), 2.0, 0.5)
        wanted = F.group_norm(h, groups_of(site.channels, 4))
        torch.testing.assert_close(module(h), 2 * wanted + 0.5)


def test_group_norm_takes_each_token_apart() -> None:
    site = SiteInfo("t", Layout.TOKENS, (5, 8), 8, 0)
    h = batch(site)
    module = last(GroupNorm().build(site, {"groups": 4.0}, generator()), 1.0)
    torch.testing.assert_close(module(h), torch.unflatten(F.group_norm(h.flatten(0, 1), 4), 0, (3, 5)))


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (2, 1), (4, 2), (6, 3), (8, 4), (7, 1), (9, 3), (32, 4)]
)
def test_groups_are_equal_and_never_of_one_channel(channels: int, groups: int) -> None:
    assert groups_of(channels, 4) == groups


def test_a_highway_with_all_its_scales_at_one_is_the_papers_layer() -> None:
    site = SITES[Layout.VECTOR]
    module = taught(Highway().build(site, {}, generator()))
    assert isinstance(module, HighwayLayer)
    last(module, 1.0)
    h = batch(site)
    gate, transformed = torch.sigmoid(module.gate(h)), torch.relu(module.transform(h))
    torch.testing.assert_close(h + module(h), gate * transformed + (1 - gate) * h)


def test_a_new_highways_gate_is_mostly_closed() -> None:
    module = Highway().build(SITES[Layout.VECTOR], {}, generator())
    assert isinstance(module, HighwayLayer)
    assert torch.sigmoid(module.gate(torch.zeros(1, 6))).max() < 0.3


def test_a_learned_activation_bends_at_its_hinges_and_nowhere_else() -> None:
    site = SiteInfo("one", Layout.VECTOR, (1,), 1, 0)
    module = LearnedActivation().build(site, {"hinges": 2.0}, generator())
    assert isinstance(module, Hinges)
    with torch.no_grad():
        module.slope.fill_(0.5)
        module.bend.copy_(torch.tensor([[1.0], [-2.0]]))
        module.place.copy_(torch.tensor([[0.0], [1.0]]))
    h = torch.tensor([[-1.0], [0.0], [0.5], [1.0], [2.0]])
    wanted = torch.tensor([[-0.5 + 1 - 4], [0.0 - 2], [0.25 - 1], [0.5], [1.0]])
    torch.testing.assert_close(module(h), wanted)


@pytest.mark.parametrize("site", [WIDE, IMAGE], ids=("sequence", "image"))
def test_a_deformable_convolution_that_is_not_steered_is_a_convolution(site: SiteInfo) -> None:
    module, h = deformable(site), batch(site)
    module.back = nn.Identity()  # type: ignore[assignment]
    weight = torch.unflatten(module.read.weight.squeeze(), 1, (site.channels, *(3 for _ in site.shape[1:])))
    convolve = F.conv1d if site.layout is Layout.SEQUENCE else F.conv2d
    wanted = F.gelu(convolve(h, weight, module.read.bias, padding=1))
    torch.testing.assert_close(module(h), wanted, rtol=1e-4, atol=1e-5)


def test_a_deformable_convolution_reads_between_the_positions_that_it_is_steered_to() -> None:
    """The middle tap, half a row down and one column on."""
    module, h = deformable(IMAGE), batch(IMAGE)
    taps, middle = 9, 4
    assert module.steer.bias is not None
    with torch.no_grad():
        offsets = module.steer.bias[taps:].view(taps, 2)
        offsets[middle] = torch.tensor([0.5, 1.0])
    sampled = torch.unflatten(module._sampled(h), 1, (3, taps))[:, :, middle]
    wanted = (h[:, :, :-1, 1:] + h[:, :, 1:, 1:]) / 2
    torch.testing.assert_close(sampled[:, :, :-1, :-1], wanted, rtol=1e-4, atol=1e-5)
    assert not sampled[:, :, :, -1].any()  # outside it is 0


def test_a_deformable_convolution_learns_where_to_look() -> None:
    module, h = deformable(IMAGE), batch(IMAGE)
    module(h).square().sum().backward()
    assert module.steer.weight.grad is not None
    assert module.steer.weight.grad.any()


def deformable(site: SiteInfo) -> DeformedConvolution:
    """One whose way back is not zero."""
    module = DeformableConvolution().build(site, {"width": 4.0}, generator())
    assert isinstance(module, DeformedConvolution)
    nn.init.constant_(module.back.weight, 0.3)
    return module


@pytest.mark.parametrize("site", [WIDE, IMAGE], ids=("sequence", "image"))
def test_a_dynamic_convolution_convolves_each_example_with_its_own_mixture(site: SiteInfo) -> None:
    module = taught(DynamicConvolution().build(site, {"width": 3.0, "kernels": 4.0}, generator()))
    assert isinstance(module, MixedConvolution)
    module.back = nn.Identity()  # type: ignore[assignment]
    h = batch(site) + torch.linspace(-2, 2, 3).reshape(3, *(1 for _ in site.shape))
    shares = torch.softmax(module.attend(h.flatten(2).mean(2)), dim=1)
    assert (shares[0] - shares[1]).abs().max() > 0.01
    convolve = F.conv1d if site.layout is Layout.SEQUENCE else F.conv2d
    shape = (3, site.channels, *(3 for _ in site.shape[1:]))
    for example, share in enumerate(shares):
        kernel = sum(w * one.view(shape) for w, one in zip(share, module.kernels, strict=True))
        bias = sum(w * one for w, one in zip(share, module.biases, strict=True))
        assert isinstance(kernel, Tensor)
        assert isinstance(bias, Tensor)
        wanted = F.gelu(convolve(h[example : example + 1], kernel, bias, padding=1))
        torch.testing.assert_close(module(h)[example : example + 1], wanted, rtol=1e-4, atol=1e-5)


def test_a_temporal_convolution_sees_the_fourteen_positions_before_and_no_more() -> None:
    module, h = taught(TemporalConvolution().build(WIDE, {"width": 4.0}, generator())), batch(WIDE)
    h.requires_grad_()
    module(h)[:, :, 30].sum().backward()
    assert h.grad is not None
    seen = h.grad.abs().sum((0, 1)).nonzero().flatten().tolist()
    assert seen == list(range(30 - 14, 30 + 1))


def channels_last(h: Tensor, layout: Layout) -> Tensor:
    return h if layout is Layout.TOKENS else h.movedim(1, -1)
