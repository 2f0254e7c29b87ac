"""Whether a seed is a function: found out by calling it twice, and by a look at its input."""

import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.graft import Grafts
from esper.kasmina.isolation import IsolationMonitor
from esper.kasmina.purity import IMPURE, WRITES, impurity
from esper.kasmina.shadow import ShadowPath
from esper.kasmina.stream import RandomStream
from tests.hosts import HOSTS, Host, loss_fn


class Odd(nn.Module):
    """h times a scale of 0, with one bad habit."""

    def __init__(self, habit: str) -> None:
        super().__init__()
        self.habit, self.calls = habit, 0
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        self.calls += 1
        if self.habit == "writes":
            h.data.add_(1e-3)
        contribution = h * self.scale
        if self.habit == "counts":
            contribution = contribution + self.calls
        if self.habit == "draws":
            contribution = contribution + torch.randn(())
        return contribution


def grown(host: Host, habit: str) -> Grafts:
    grafts = host.grafts()
    grafts.insert("s#0", grafts.sites[0].name, Odd(habit))
    return grafts


@pytest.mark.parametrize("alpha", [0.0, 1.0], ids=["isolated", "live"])
@pytest.mark.parametrize(
    ("habit", "found"), [("none", ""), ("draws", ""), ("counts", IMPURE), ("writes", WRITES)]
)
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_only_what_depends_on_more_than_input_and_stream_is_impure(
    host: Host, habit: str, found: str, alpha: float
) -> None:
    grafts = grown(host, habit)
    grafts.set_alpha("s#0", alpha)
    inputs, _ = host.batch(4, 1)
    stream, modes = torch.get_rng_state(), [module.training for module in grafts.model.modules()]
    assert impurity(grafts, "s#0", inputs) == found
    assert torch.equal(torch.get_rng_state(), stream)
    assert [module.training for module in grafts.model.modules()] == modes
    assert not grafts.module("s#0")._forward_pre_hooks


@pytest.mark.parametrize("habit", ["none", "writes"])
def test_a_strict_watch_sees_a_write_into_the_seed_s_input(habit: str) -> None:
    host = HOSTS[0]
    grafts = grown(host, habit)
    monitor = IsolationMonitor(grafts)
    inputs, targets = host.batch(8, 1)
    path = ShadowPath(grafts, "s#0", loss_fn, RandomStream(0))
    for strict in (False, True):
        with monitor.watching("s#0", inputs, targets, exact=True, strict=strict):
            path.backward(inputs, targets)
    assert monitor.violations("s#0") == (habit == "writes")
    assert [one.what for one in monitor.newest] == [WRITES] * (habit == "writes")
