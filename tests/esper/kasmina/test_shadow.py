"""The shadow path: the seed learns, stays bounded, and the host does not notice."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.counterfactual import Batches, compare
from esper.kasmina.graft import GraftError, Grafts
from esper.kasmina.shadow import shadow_backward
from esper.kasmina.sites import find_sites
from esper.kasmina.stream import RandomStream
from tests.hosts import HOSTS, Host, loss_fn, mean_loss, seed_module

each_host = pytest.mark.parametrize("host", HOSTS, ids=lambda h: h.name)
each_site = pytest.mark.parametrize("which", [0, 1], ids=["upper", "lower"])


def learn(host: Host, which: int, steps: int) -> tuple[Grafts, list[float]]:
    """Train host and isolated seed side by side on the planted problem; the RMS ratio of each step."""
    grafts = host.grafts()
    site, stream = grafts.sites[which], RandomStream(0, "s#0")
    torch.manual_seed(0)
    grafts.insert("s#0", site.name, seed_module(site, width=16))
    optimizers = [
        torch.optim.Adam([p for _, p in named], lr=3e-3)
        for named in (grafts.host_named_parameters(), grafts.named_parameters("s#0"))
    ]
    inputs, targets = host.batch(512)
    ratios = []
    for _ in range(steps):
        rows = torch.randint(512, (64,))
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss_fn(grafts.model(inputs[rows]), targets[rows]).backward()
        ratios.append(shadow_backward(grafts, "s#0", inputs[rows], targets[rows], loss_fn, stream).rms_ratio)
        for optimizer in optimizers:
            optimizer.step()
    return grafts, ratios


def loss_as_trained(model: nn.Module, batches: Batches) -> tuple[float, None]:
    """The loss without dropout, but normalised by the batch as in the shadow pass.

    Running statistics are the host's alone: to be judged by them, a seed above a batch norm would have
    to have been live.
    """
    for module in model.modules():
        module.training = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    return mean_loss(model, batches)


@pytest.mark.parametrize(
    ("host", "which"),
    [
        pytest.param(
            host, which, id=f"{host.name}-{name}", marks=() if (number + which) % 2 else pytest.mark.slow
        )
        for number, host in enumerate(HOSTS)
        for which, name in enumerate(("upper", "lower"))
    ],
)
def test_an_isolated_seed_learns_and_stays_of_the_host_s_order(host: Host, which: int) -> None:
    grafts, ratios = learn(host, which, steps=80)
    figures = compare(grafts, "s#0", [host.batch(512)], loss_as_trained)
    assert figures.gain is not None
    assert figures.gain > 0.002
    assert ratios[0] == 0.0
    assert 0.01 < ratios[-1] < 1.0


@pytest.mark.parametrize(
    ("host", "which"),
    [
        pytest.param(host, which, id=f"{host.name}-{name}", marks=pytest.mark.slow if number or which else ())
        for number, host in enumerate(HOSTS)
        for which, name in enumerate(("upper", "lower"))
    ],
)
def test_a_thousand_isolated_steps_stay_bounded_and_still_pay(host: Host, which: int) -> None:
    grafts, ratios = learn(host, which, steps=1000)
    figures = compare(grafts, "s#0", [host.batch(512)], loss_as_trained)
    assert figures.gain is not None
    assert figures.gain > 0.0
    assert max(ratios) < 1.0


@each_host
def test_a_shadow_pass_leaves_gradients_on_the_seed_only_and_no_random_stream_moved(host: Host) -> None:
    grafts, (inputs, targets) = host.grafts(), host.batch(8)
    for n, site in enumerate(grafts.sites):  # a live seed upstream and the learning one below it
        grafts.insert(f"s#{n}", site.name, seed_module(site, zero=False))
    grafts.set_alpha("s#0", 0.5)
    streams = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    others = {n: b.clone() for n, b in grafts.model.named_buffers() if "at_s_x23_1" not in n}
    flags = [p.requires_grad for p in grafts.model.parameters()]
    result = shadow_backward(grafts, "s#1", inputs, targets, loss_fn, RandomStream(0))
    assert result.finite
    assert result.grad_norm > 0.0
    own = {name for name, _ in grafts.named_parameters("s#1")}
    assert {name for name, p in grafts.model.named_parameters() if p.grad is not None} == own
    assert [p.requires_grad for p in grafts.model.parameters()] == flags
    buffers = dict(grafts.model.named_buffers())
    assert all(torch.equal(buffers[name], value) for name, value in others.items())
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert random.getstate() == streams[1]
    assert np.array_equal(np.random.get_state()[1], streams[2])  # type: ignore[index]


def test_a_seed_that_came_later_is_left_alone_too() -> None:
    host = HOSTS[1]
    grafts, (inputs, targets) = host.grafts(), host.batch(8)
    for n, site in enumerate(grafts.sites):
        grafts.insert(f"s#{n}", site.name, seed_module(site, zero=False))
        grafts.set_alpha(f"s#{n}", float(n))
        before = {name: b.clone() for name, b in grafts.model.named_buffers()}
        shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
        moved = {k for k, b in grafts.model.named_buffers() if not torch.equal(before[k], b)}
        assert moved
        assert all("at_s_x23_0" in name for name in moved)
        assert all("at_s_x23_0" in k for k, p in grafts.model.named_parameters() if p.grad is not None)


def test_the_seed_s_own_statistics_move_as_in_training() -> None:
    grafts, (inputs, targets) = HOSTS[1].grafts(), HOSTS[1].batch(8)
    module = seed_module(grafts.sites[0])
    grafts.insert("s#0", "act1", module)
    shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    assert int(module.get_buffer("1.num_batches_tracked")) == 1


@each_host
@each_site
def test_the_graph_begins_at_the_seed(host: Host, which: int) -> None:
    grafts, (inputs, targets) = host.grafts(), host.batch(8)
    site = grafts.sites[which]
    module = seed_module(site, zero=False)
    grafts.insert("s#0", site.name, module)
    seen: list[bool] = []
    module.register_forward_pre_hook(lambda m, args: seen.append(args[0].requires_grad))
    shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    assert seen == [False]


@each_host
def test_the_shadow_gradient_is_the_joint_one_of_the_seed(host: Host) -> None:
    grafts, (inputs, targets) = host.grafts(), host.batch(8)
    site = grafts.sites[0]
    grafts.insert("s#0", site.name, seed_module(site, zero=False))
    grafts.model.eval()  # no dropout mask differs
    result = shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    shadow = [p.grad for _, p in grafts.named_parameters("s#0")]
    for _, parameter in grafts.named_parameters("s#0"):
        parameter.grad = None
    grafts.set_alpha("s#0", 1.0)
    loss = loss_fn(grafts.model(inputs), targets)
    loss.backward()
    assert result.loss == pytest.approx(loss.item(), abs=1e-6)
    for one, (_, parameter) in zip(shadow, grafts.named_parameters("s#0"), strict=True):
        assert one is not None
        assert parameter.grad is not None
        torch.testing.assert_close(one, parameter.grad, rtol=1e-5, atol=1e-7)


def test_gradients_of_several_passes_add_up() -> None:
    grafts, (inputs, targets) = HOSTS[0].grafts(), HOSTS[0].batch(8)
    grafts.model.eval()
    grafts.insert("s#0", "first", seed_module(grafts.sites[0], zero=False))
    stream = RandomStream(0)
    first = shadow_backward(grafts, "s#0", inputs, targets, loss_fn, stream)
    once = [p.grad.clone() for _, p in grafts.named_parameters("s#0") if p.grad is not None]
    second = shadow_backward(grafts, "s#0", inputs, targets, loss_fn, stream)
    twice = [p.grad for _, p in grafts.named_parameters("s#0") if p.grad is not None]
    assert first.grad_norm == pytest.approx(second.grad_norm)  # of each pass, not of the sum
    assert len(once) == len(twice) == 6
    assert all(torch.equal(b, a + a) for a, b in zip(once, twice, strict=True))


def test_the_figures_are_what_they_say() -> None:
    class Third(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1 / 3))

        def forward(self, h: Tensor) -> Tensor:
            return h * self.scale

    grafts, (inputs, targets) = HOSTS[0].grafts(), HOSTS[0].batch(8)
    grafts.insert("s#0", "first", Third())
    result = shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    (own,) = [p for _, p in grafts.named_parameters("s#0")]
    assert own.grad is not None
    assert result.rms_ratio == pytest.approx(1 / 3, rel=1e-6)
    assert result.grad_norm == pytest.approx(abs(own.grad.item()), rel=1e-6)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_host_of_any_precision_is_measured(precision: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 4)).to(precision)
    inputs, targets = torch.randn(8, 12, dtype=precision), torch.zeros(8, dtype=torch.long)
    grafts = Grafts(model, find_sites(model, ["1"], inputs))
    grafts.insert("s#0", "1", nn.Linear(8, 8))
    result = shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    gradients = [p.grad for _, p in grafts.named_parameters("s#0") if p.grad is not None]
    with torch.no_grad():
        h = model[1](model[0](inputs))
        f = grafts.module("s#0")(h)
    close = {torch.bfloat16: 1e-2, torch.float32: 1e-6, torch.float64: 1e-12}[precision]
    assert result.finite
    square = sum(gradient.double().square().sum().item() for gradient in gradients)
    assert result.grad_norm == pytest.approx(square**0.5, rel=close)
    assert result.rms_ratio == pytest.approx((f.double().norm() / h.double().norm()).item(), rel=close)


def test_a_pass_that_is_not_finite_leaves_no_gradient() -> None:
    class Exploding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(torch.inf))

        def forward(self, h: Tensor) -> Tensor:
            return h * self.scale

    grafts, (inputs, targets) = HOSTS[0].grafts(), HOSTS[0].batch(8)
    grafts.insert("s#0", "first", Exploding())
    result = shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    assert not result.finite
    assert all(p.grad is None for p in grafts.model.parameters())


def test_a_seed_without_parameters_or_effect_passes_without_a_gradient() -> None:
    grafts, (inputs, targets) = HOSTS[0].grafts(), HOSTS[0].batch(8)
    grafts.insert("s#0", "first", nn.Identity())
    result = shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    assert (result.finite, result.grad_norm, result.rms_ratio) == (True, 0.0, 1.0)


def test_a_live_seed_and_an_unreached_site_are_refused() -> None:
    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.side = nn.Linear(4, 4)
            self.head = nn.Linear(4, 4)
            self.skip = False

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(x if self.skip else self.side(x))
            return out

    model, inputs, targets = Skipping(), torch.randn(8, 4), torch.zeros(8, dtype=torch.long)
    grafts = Grafts(model, find_sites(model, ["side"], inputs))
    grafts.insert("s#0", "side", nn.Linear(4, 4))
    model.skip = True
    with pytest.raises(GraftError, match="s#0 was not run: this forward pass does not reach its site"):
        shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    grafts.set_alpha("s#0", 0.5)
    with pytest.raises(GraftError, match=r"s#0 is live at alpha 0\.5: it learns with the host"):
        shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))


def test_a_pass_that_fails_puts_everything_back() -> None:
    class Failing(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            torch.rand(3)
            raise KeyError("inside")

    grafts, (inputs, targets) = HOSTS[1].grafts(), HOSTS[1].batch(8)
    buffers = [id(b) for b in grafts.model.buffers()]
    grafts.insert("s#0", "act1", Failing())
    state = torch.get_rng_state()
    with pytest.raises(KeyError, match="inside"):
        shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.requires_grad for p in grafts.model.parameters())
    assert [id(b) for n, b in grafts.model.named_buffers() if "esper_graft" not in n] == buffers
    assert not any(module._forward_hooks for module in grafts.model.modules())


def test_a_graph_recorded_before_a_shadow_pass_is_still_good_after_it() -> None:
    host = HOSTS[1]
    plain, grafts, (inputs, targets) = host.model(), host.grafts(), host.batch(8)
    grafts.insert("s#0", "act1", seed_module(grafts.sites[0], zero=False))
    torch.manual_seed(0)
    loss_fn(plain(inputs), targets).backward()
    torch.manual_seed(0)
    loss = loss_fn(grafts.model(inputs), targets)
    shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0))
    loss.backward()
    pairs = zip(plain.parameters(), grafts.host_named_parameters(), strict=True)
    assert all(
        a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad) for a, (_, b) in pairs
    )
