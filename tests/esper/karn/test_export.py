"""Every trusted blueprint survives torch.export: saved, loaded and asked again, it answers the same."""

import io

import pytest
import torch
from torch import Tensor, nn

from contracts.growth import SiteInfo
from esper.karn.blueprint import Blueprint
from tests.esper.karn.pairs import batch, built, pairs, taught

BATCHES = (1, 2, 5)
ONE_OF_EACH_FAMILY = (
    "BP003-tokens",
    "BP013-vector",
    "BP020-image",
    "BP022-sequence",
    "BP024-tokens",
    "BP036-sequence",
)


def round_trip(module: nn.Module, h: Tensor) -> nn.Module:
    """The module exported for any number of examples, saved and loaded."""
    examples = torch.export.Dim("examples", min=1, max=64)
    program = torch.export.export(module, (h,), dynamic_shapes=({0: examples},), strict=False)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file).module()


def answer(module: nn.Module, h: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Output and gradients, by name; an input that does not matter has a gradient of zeros."""
    h = h.clone().requires_grad_()
    output = module(h)
    named = dict(module.named_parameters())
    found = torch.autograd.grad((output * weight).sum(), (h, *named.values()), allow_unused=True)
    gradients = [torch.zeros_like(h) if one is None else one for one in found[:1]] + list(found[1:])
    return {"output": output.detach(), **dict(zip(("input", *named), gradients, strict=True))}


def check_round_trip(blueprint: Blueprint, site: SiteInfo) -> None:
    module = taught(built(blueprint, site))
    loaded = round_trip(module, batch(site, 3))
    for examples in BATCHES:
        h, weight = batch(site, examples), batch(site, examples, seed=4)
        wanted, got = answer(module, h, weight), answer(loaded, h, weight)
        assert got.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(got[name], value, rtol=1e-6, atol=1e-7, msg=f"{name} at {examples}")


@pytest.mark.parametrize(("blueprint", "site"), pairs(*ONE_OF_EACH_FAMILY))
def test_an_exported_module_comes_back_with_equal_outputs_and_gradients(
    blueprint: Blueprint, site: SiteInfo
) -> None:
    check_round_trip(blueprint, site)


@pytest.mark.slow
@pytest.mark.parametrize(("blueprint", "site"), pairs())
def test_so_does_one_for_one_channel_at_one_place(blueprint: Blueprint, site: SiteInfo) -> None:
    smallest = SiteInfo("smallest", site.layout, (1,) * len(site.shape), 1, 0)
    if not blueprint.refusal(smallest):
        check_round_trip(blueprint, smallest)
