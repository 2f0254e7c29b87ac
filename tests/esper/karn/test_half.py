"""Claims about half precision, for the blueprints whose insides leave it for a moment."""

import pytest
import torch
from torch import Tensor, nn

from contracts.growth import Layout, SiteInfo
from esper.karn.catalogue import CATALOGUE
from esper.karn.rows import HALF, calm, unit

SITE = SiteInfo(name="s", layout=Layout.TOKENS, shape=(12, 16), channels=16, depth=0)
PARAMETERS = {"BP038": {"width": 8.0, "slots": 16.0}, "BP041": {"width": 8.0}}


def made(blueprint_id: str, dtype: torch.dtype) -> nn.Module:
    """With something in what is zero at first, so that gradients reach all of it."""
    stream = torch.Generator().manual_seed(1)
    module = CATALOGUE.get(blueprint_id).build(SITE, PARAMETERS[blueprint_id], stream)
    with torch.no_grad():
        for one in module.parameters():
            if not one.any():
                one.uniform_(-0.1, 0.1, generator=stream)
    return module.to(dtype)


def examples(scale: float, dtype: torch.dtype) -> Tensor:
    drawn = torch.randn(3, *SITE.shape, generator=torch.Generator().manual_seed(2))
    return (scale * drawn).to(dtype).requires_grad_()


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", sorted(HALF, key=str))
@pytest.mark.parametrize("blueprint_id", PARAMETERS)
def test_it_gives_about_what_it_gives_in_single_precision_and_finite_gradients(
    blueprint_id: str, dtype: torch.dtype, scale: float
) -> None:
    module, x = made(blueprint_id, dtype), examples(scale, dtype)
    answer = module(x)
    answer.float().mean().backward()
    assert answer.dtype == dtype
    for one in (x, *module.parameters()):
        assert one.grad is not None
        assert one.grad.isfinite().all()
    exact = module.float()(x.detach().float())
    assert (answer.float() - exact).norm() <= 0.03 * exact.norm()


@pytest.mark.parametrize("blueprint_id", PARAMETERS)
def test_it_runs_under_autocast(blueprint_id: str) -> None:
    module, x = made(blueprint_id, torch.float32), examples(1.0, torch.float32)
    exact = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        answer = module(x)
    answer.float().mean().backward()
    assert (answer - exact).norm() <= 0.03 * exact.norm()


@pytest.mark.parametrize("dtype", sorted(HALF, key=str))
def test_zero_has_no_direction_and_large_values_are_calmed(dtype: torch.dtype) -> None:
    x = torch.zeros(2, 4, dtype=dtype, requires_grad=True)
    unit(x).sum().backward()
    assert not unit(x).any()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    large = torch.full((2, 4), 3e4, dtype=dtype)
    torch.testing.assert_close(calm(large), torch.ones_like(large))
