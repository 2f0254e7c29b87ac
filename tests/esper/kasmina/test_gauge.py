"""A seed's figures from one mini-batch."""

import copy

import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.gauge import gauge, starved
from esper.kasmina.graft import Grafts
from esper.kasmina.shadow import shadow_backward
from esper.kasmina.stream import RandomStream
from tests.hosts import HOSTS, Host, loss_fn, seed_module

each_host = pytest.mark.parametrize("host", HOSTS, ids=lambda h: h.name)


def bits(grafts: Grafts) -> list[Tensor]:
    """Everything that a gauge could leave behind."""
    gradients = [p.grad for p in grafts.model.parameters() if p.grad is not None]
    return [
        t.clone()
        for t in (*grafts.model.parameters(), *grafts.model.buffers(), *gradients, torch.get_rng_state())
    ]


@each_host
def test_a_zero_seed_jumps_by_nothing_and_can_learn(host: Host) -> None:
    grafts, (inputs, targets) = host.grafts(), host.batch(16)
    grafts.insert("s#0", grafts.sites[0].name, seed_module(grafts.sites[0]))
    figures = gauge(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    assert (figures.finite, figures.shape_kept, figures.jump, figures.rms_ratio) == (True, True, 0.0, 0.0)
    assert figures.grad_norm is not None
    assert figures.grad_norm > 1e-4
    assert (figures.loss_with, figures.starved_tensors) == (None, None)  # not measured here


@each_host
def test_the_gauge_leaves_nothing_behind_whether_the_seed_is_live_or_not(host: Host) -> None:
    grafts, (inputs, targets) = host.grafts(), host.batch(16)
    grafts.insert("s#0", grafts.sites[1].name, seed_module(grafts.sites[1], zero=False))
    loss_fn(grafts.model(inputs), targets).backward()
    shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    next(grafts.model.children()).eval()
    modes = [module.training for module in grafts.model.modules()]
    for alpha in (0.0, 0.5, 1.0):
        grafts.set_alpha("s#0", alpha)
        before = bits(grafts)
        figures = gauge(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
        starved(grafts, inputs, targets, loss_fn, RandomStream(0))
        assert all(torch.equal(a, b) for a, b in zip(before, bits(grafts), strict=True))
        assert [module.training for module in grafts.model.modules()] == modes
        assert figures.jump is not None
        assert figures.jump > 1e-3
        assert grafts.alpha("s#0") == alpha


def test_the_jump_is_the_largest_change_against_the_largest_output() -> None:
    host = HOSTS[0]
    grafts, (inputs, targets) = host.grafts(), host.batch(16)
    module = seed_module(grafts.sites[0], zero=False)
    grafts.insert("s#0", "first", module)
    plain = copy.deepcopy(grafts.model).eval()
    before = plain(inputs)
    plain.get_submodule("first.3").register_forward_hook(
        lambda m, args, h: h + copy.deepcopy(module).eval()(h)
    )
    after = plain(inputs)
    expected = (after - before).abs().max() / before.abs().max()
    figures = gauge(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    assert figures.jump == pytest.approx(expected.item())


class Shaping(nn.Module):
    """Gives a fixed function of h."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, h: Tensor) -> Tensor:
        match self.kind:
            case "too wide":
                return torch.cat([h, h], dim=1)
            case "spread by addition":
                return h[:, :1]
            case "of another type":
                return h.double()
            case "writes into h":
                return h.mul_(2.0) * 0.0
            case _:
                return h / 0.0


@pytest.mark.parametrize("kind", ["too wide", "spread by addition", "of another type"])
def test_an_output_of_another_shape_or_type_is_found_and_not_measured_further(kind: str) -> None:
    grafts, (inputs, targets) = HOSTS[0].grafts(), HOSTS[0].batch(16)
    grafts.insert("s#0", "first", Shaping(kind))
    before = bits(grafts)
    figures = gauge(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    assert (figures.shape_kept, figures.finite, figures.jump, figures.grad_norm) == (False, None, None, None)
    assert all(torch.equal(a, b) for a, b in zip(before, bits(grafts), strict=True))


def test_an_infinite_output_is_not_finite() -> None:
    grafts, (inputs, targets) = HOSTS[0].grafts(), HOSTS[0].batch(16)
    grafts.insert("s#0", "first", Shaping("infinite"))
    figures = gauge(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    assert (figures.finite, figures.jump) == (False, float("inf"))


def test_a_seed_that_writes_into_its_input_is_seen_by_its_jump() -> None:
    grafts, (inputs, targets) = HOSTS[2].grafts(), HOSTS[2].batch(16)
    grafts.insert("s#0", "block", Shaping("writes into h"))
    figures = gauge(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    assert figures.jump is not None
    assert figures.jump > 0.01


def test_a_fault_of_the_host_is_not_taken_for_the_seed_s() -> None:
    grafts, (inputs, targets) = HOSTS[0].grafts(), HOSTS[0].batch(16)
    grafts.insert("s#0", "first", seed_module(grafts.sites[0]))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        gauge(grafts, "s#0", inputs[:, :3], targets, loss_fn, RandomStream(0))


def test_a_fault_of_the_seed_s_own_comes_out_as_it_is() -> None:
    class Faulty(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            raise RuntimeError("a fault of its own")

    grafts, (inputs, targets) = HOSTS[0].grafts(), HOSTS[0].batch(16)
    grafts.insert("s#0", "first", Faulty())
    with pytest.raises(RuntimeError, match="a fault of its own"):
        gauge(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))


@each_host
def test_no_host_tensor_starves_for_a_seed_that_adds(host: Host) -> None:
    grafts, (inputs, targets) = host.grafts(), host.batch(16)
    for n, site in enumerate(grafts.sites):
        grafts.insert(f"s#{n}", site.name, seed_module(site, zero=False))
        grafts.set_alpha(f"s#{n}", (0.5, 1.0)[n])
    assert starved(grafts, inputs, targets, loss_fn, RandomStream(0)) == ()


def test_tensors_cut_off_by_a_seed_are_named_and_those_that_were_idle_before_are_not() -> None:
    class Undoing(nn.Module):
        """Cancels h and gives a constant: nothing above gets a gradient."""

        def forward(self, h: Tensor) -> Tensor:
            return h.detach() * 0.5 - h

    host = HOSTS[0]
    grafts, (inputs, targets) = host.grafts(), host.batch(16)
    grafts.model.register_parameter("idle", nn.Parameter(torch.zeros(3)))
    grafts = Grafts(grafts.model, grafts.sites)
    grafts.insert("s#0", "first", Undoing())
    assert starved(grafts, inputs, targets, loss_fn, RandomStream(0)) == ()
    grafts.set_alpha("s#0", 1.0)
    found = starved(grafts, inputs, targets, loss_fn, RandomStream(0))
    assert set(found) == {"first.0.weight", "first.0.bias", "first.1.weight", "first.1.bias"}
