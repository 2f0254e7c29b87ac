"""What a seed gains, measured on the same batches with it and without it."""

import pytest
import torch
from torch import nn

from esper.kasmina.aside import call
from esper.kasmina.counterfactual import Batches, compare
from esper.kasmina.graft import GraftError
from tests.hosts import HOSTS, Host, loss_fn, mean_loss, seed_module

each_host = pytest.mark.parametrize("host", HOSTS, ids=lambda h: h.name)


def loss_and_accuracy(model: nn.Module, batches: Batches) -> tuple[float, float]:
    right = [(call(model, x).argmax(1) == y).float().mean().item() for x, y in batches]
    return mean_loss(model, batches)[0], sum(right) / len(right)


def loss_and_accuracy_of(model: nn.Module, batches: Batches) -> tuple[float, float]:
    with torch.no_grad():
        return loss_and_accuracy(model, batches)


@each_host
def test_a_live_seed_is_compared_as_it_is_and_an_isolated_one_at_alpha_1(host: Host) -> None:
    grafts, batches = host.grafts(), [host.batch(16, seed=n) for n in range(2)]
    grafts.model.eval()
    grafts.insert("s#0", grafts.sites[0].name, seed_module(grafts.sites[0], zero=False))
    losses: dict[float, float] = {}
    for alpha in (0.0, 0.5, 1.0):
        grafts.set_alpha("s#0", alpha)
        with torch.no_grad():
            losses[alpha] = mean_loss(grafts.model, batches)[0]
    for alpha, counted in ((0.0, 1.0), (0.5, 0.5), (1.0, 1.0)):
        grafts.set_alpha("s#0", alpha)
        figures = compare(grafts, "s#0", batches, loss_and_accuracy)
        assert (figures.loss_with, figures.loss_without) == (losses[counted], losses[0.0])
        assert figures.gain == losses[0.0] - losses[counted]
        as_is = loss_and_accuracy_of(grafts.model, batches)
        assert compare(grafts, "s#0", batches, loss_and_accuracy, as_is) == figures
        assert figures.accuracy_with is not None
        assert 0.0 <= figures.accuracy_with <= 1.0
        assert grafts.alpha("s#0") == alpha


@each_host
def test_a_seed_that_does_nothing_gains_nothing_however_much_the_host_has_learned(host: Host) -> None:
    grafts, (inputs, targets) = host.grafts(), host.batch(16)
    grafts.insert("s#0", grafts.sites[0].name, seed_module(grafts.sites[0]))
    optimizer = torch.optim.Adam([p for _, p in grafts.host_named_parameters()], lr=1e-2)
    losses = []
    for _ in range(3):
        figures = compare(grafts, "s#0", [(inputs, targets)], mean_loss)
        losses.append(figures.loss_without)
        assert figures.gain == 0.0
        optimizer.zero_grad()
        loss_fn(grafts.model(inputs), targets).backward()
        optimizer.step()
    assert len(set(losses)) == 3


def test_a_mixed_mode_and_every_bit_are_as_before_even_after_a_failure() -> None:
    host = HOSTS[1]
    grafts, batch = host.grafts(), host.batch(16)
    grafts.insert("s#0", "act1", seed_module(grafts.sites[0], zero=False))
    grafts.model.get_submodule("norm1").eval()
    modes = [module.training for module in grafts.model.modules()]
    state = {name: value.clone() for name, value in grafts.model.state_dict().items()}
    random_state = torch.get_rng_state()

    def failing(model: nn.Module, batches: Batches) -> tuple[float, None]:
        model.train()
        torch.rand(3)
        mean_loss(model, batches)
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        compare(grafts, "s#0", [batch], failing)
    compare(grafts, "s#0", [batch], mean_loss)
    assert [module.training for module in grafts.model.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in grafts.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(p.grad is None and p.requires_grad for p in grafts.model.parameters())
    assert not any(module._forward_hooks for module in grafts.model.modules())


def test_no_batches_and_an_unknown_seed_are_refused() -> None:
    grafts = HOSTS[0].grafts()
    with pytest.raises(ValueError, match="s#0 can't be compared on no batches"):
        compare(grafts, "s#0", [], mean_loss)
    with pytest.raises(GraftError, match="there is no seed 's#0'"):
        compare(grafts, "s#0", [HOSTS[0].batch(4)], mean_loss)
