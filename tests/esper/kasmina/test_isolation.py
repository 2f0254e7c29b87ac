"""The monitor finds seeds that leak, and only those."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.footprint import same_bits
from esper.kasmina.graft import Grafts
from esper.kasmina.isolation import IsolationMonitor
from esper.kasmina.shadow import shadow_backward
from esper.kasmina.sites import find_sites
from esper.kasmina.stream import RandomStream
from tests.hosts import HOSTS, Host, loss_fn, seed_module

each_host = pytest.mark.parametrize("host", HOSTS, ids=lambda h: h.name)


SECRETS: list[Callable[[Tensor], object]] = []
"""What leaks do; a seed that holds something of the host's itself would be refused at the graft."""


class Leak(nn.Module):
    """Does something to the host that it was told of in secret."""

    def __init__(self, act: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.secret = len(SECRETS)
        SECRETS.append(act)
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        SECRETS[self.secret](h)
        return h * self.scale


def grow_through(head: nn.Module) -> Callable[[Tensor], object]:
    """Keep h attached: add it to the host's own forward pass from now on."""
    return lambda h: head.register_forward_hook(lambda m, args, out: out + 0.0 * args[0].sum())


LEAKS: dict[str, tuple[Callable[[nn.Linear], Callable[[Tensor], object]], bool]] = {
    "writes a gradient": (lambda head: lambda h: head.weight.grad.add_(1.0), False),  # type: ignore[union-attr]
    "drops a gradient": (lambda head: lambda h: setattr(head.weight, "grad", None), False),
    "writes a weight": (lambda head: lambda h: head.weight.detach().add_(1e-3), False),
    "turns a mode": (lambda head: lambda h: head.eval(), False),
    "hooks into the host": (grow_through, False),
    "writes a weight unseen": (lambda head: lambda h: head.weight.data.add_(1e-3), True),
    "writes a gradient unseen": (lambda head: lambda h: head.weight.grad.data.add_(1.0), True),  # type: ignore[union-attr]
}


def step(grafts: Grafts, host: Host, monitor: IsolationMonitor, exact: bool) -> None:
    inputs, targets = host.batch(8)
    with monitor.watching("s#0", inputs, targets, exact=exact):
        shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))


@each_host
@pytest.mark.parametrize("leak", LEAKS)
def test_a_leaking_seed_is_found_each_time(host: Host, leak: str) -> None:
    make, exact = LEAKS[leak]
    grafts = host.grafts()
    head = grafts.model.get_submodule("head")
    assert isinstance(head, nn.Linear)
    grafts.insert("s#0", grafts.sites[0].name, Leak(make(head)))
    monitor = IsolationMonitor(grafts)
    for n in range(1, 4):
        grafts.model.train().zero_grad()
        loss_fn(grafts.model(host.batch(8)[0]), host.batch(8)[1]).backward()
        step(grafts, host, monitor, exact)
        assert monitor.violations("s#0") == n
    assert all(("head" in violation.what) for violation in monitor.newest)
    monitor.forget("s#0")
    assert monitor.violations("s#0") == 0


def test_a_seed_that_writes_into_the_mini_batch_is_found() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))  # flatten's output is the batch itself
    inputs, targets = HOSTS[0].batch(8)
    grafts = Grafts(model, find_sites(model, ["0"], inputs))
    grafts.insert("s#0", "0", Leak(lambda h: h.mul_(0.5)))
    monitor = IsolationMonitor(grafts)
    with monitor.watching("s#0", (inputs,), targets):
        shadow_backward(grafts, "s#0", (inputs,), targets, loss_fn, RandomStream(0))
    assert [v.what for v in monitor.newest] == ["the mini-batch's tensor 0 was changed"]


@each_host
def test_harmless_seeds_are_never_accused(host: Host) -> None:
    class Drawing(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            return h * torch.rand_like(h)

    for site in host.grafts().sites:
        seeds = (seed_module(site, zero=False), seed_module(site), Drawing(), nn.Identity())
        for harmless in (*seeds, Leak(lambda h: h.mul_(0.5))):  # writes into the shadow's own h: no harm
            grafts = host.grafts()
            monitor = IsolationMonitor(grafts)
            grafts.insert("s#0", site.name, harmless)
            loss_fn(grafts.model(host.batch(8)[0]), host.batch(8)[1]).backward()
            for _ in range(3):
                step(grafts, host, monitor, exact=True)
                assert monitor.check(host.batch(8)[0]) == ()
            assert (monitor.violations("s#0"), monitor.newest) == (0, ())


class Counting(nn.Module):
    """A host that is moved by what merely hangs on it: it sums over its own parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 8)
        self.second = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.second(self.first(x)))
        return out * (1.0 + sum((p.sum() for p in self.first.parameters()), torch.zeros(())))


def test_a_host_that_is_moved_by_a_seed_s_presence_is_found_and_the_seed_named() -> None:
    model, inputs = Counting(), HOSTS[0].batch(8)[0]
    grafts = Grafts(model, find_sites(model, ["first", "second"], inputs))
    monitor = IsolationMonitor(grafts)
    assert monitor.check(inputs) == ()
    grafts.insert("harmless", "second", nn.Linear(8, 8))
    assert monitor.check(inputs) == ()
    grafts.insert("felt", "first", nn.Linear(8, 8))
    (found,) = monitor.check(inputs)
    assert (found.seed_id, found.what) == ("felt", "the host's outputs differ with it present")
    assert (monitor.violations("felt"), monitor.violations("harmless")) == (1, 0)
    grafts.set_alpha("felt", 0.5)
    assert monitor.check(inputs) == ()  # live: it may be felt


@each_host
def test_the_check_leaves_nothing_behind(host: Host) -> None:
    grafts, inputs = host.grafts(), host.batch(8)[0]
    for n, site in enumerate(grafts.sites):
        grafts.insert(f"s#{n}", site.name, seed_module(site, zero=False))
    grafts.insert("s#2", grafts.sites[0].name, seed_module(grafts.sites[0], zero=False))
    grafts.set_alpha("s#2", 0.5)
    names = [name for name, _ in grafts.model.named_modules()]
    state = {name: value.clone() for name, value in grafts.model.state_dict().items()}
    random_state = torch.get_rng_state()
    assert IsolationMonitor(grafts).check(inputs) == ()
    assert [name for name, _ in grafts.model.named_modules()] == names
    assert all(torch.equal(state[name], value) for name, value in grafts.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert (grafts.seed_ids(), grafts.live_ids()) == (("s#0", "s#1", "s#2"), ("s#2",))


def test_bits_are_compared_as_bits() -> None:
    nan, zero = torch.tensor([float("nan")]), torch.zeros(())
    assert same_bits(nan, nan.clone())
    assert not same_bits(zero, -zero)
    assert not same_bits(zero, torch.zeros(1))
    assert not same_bits(zero, zero.double())
