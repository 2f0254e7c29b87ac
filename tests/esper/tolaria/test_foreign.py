import copy
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer, SparseAdam

from esper.tolaria.errors import BadOptimizer
from esper.tolaria.foreign import foreign_optimizer
from esper.tolaria.optimizer import Named, twin
from tests.esper.tolaria.world import Host

Groups = list[dict[str, Any]]


def host() -> Named:
    return list(Host().named_parameters())


def every(groups: Groups) -> list[nn.Parameter]:
    return [parameter for group in groups for parameter in group["params"]]


class Counting(SGD):
    """Has attributes of its own, as torch's own copying loses them, and counts its steps in one."""

    def __init__(self, params: Iterable[Any], lr: float) -> None:
        super().__init__(params, lr=lr)
        self.steps = 0
        self.last: list[torch.Tensor] = []

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        self.last.append(self.param_groups[0]["params"][0])
        return super().step(closure)


def test_its_groups_are_named_and_nothing_is_trained_by_trying_it_out() -> None:
    named = host()
    before = [parameter.detach().clone() for _, parameter in named]
    torch.manual_seed(3)
    stream = torch.get_rng_state()

    def make(groups: Groups) -> Optimizer:
        matrices = [p for p in every(groups) if p.dim() > 1]
        rest = [p for p in every(groups) if p.dim() < 2]
        return AdamW([{"params": matrices}, {"params": rest, "weight_decay": 0.0, "lr": 0.5}], lr=0.1)

    optimizer = foreign_optimizer(make, named)
    assert [group["name"] for group in optimizer.param_groups] == ["host", "host/1"]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]
    assert all(torch.equal(p, was) for (_, p), was in zip(named, before, strict=True))
    assert all(parameter.grad is None for _, parameter in named)
    assert not optimizer.state
    assert torch.equal(torch.get_rng_state(), stream)


def test_frozen_parameters_may_be_left_out() -> None:
    named = host()
    named[0][1].requires_grad_(False)
    optimizer = foreign_optimizer(
        lambda groups: SGD([p for p in every(groups) if p.requires_grad], 0.1), named
    )
    assert len(optimizer.param_groups[0]["params"]) == len(named) - 1


def test_a_copy_has_the_attributes_of_a_users_own_class() -> None:
    named = host()
    optimizer = foreign_optimizer(lambda groups: Counting(groups, 0.1), named)
    memo: dict[int, Any] = {}
    parameters = copy.deepcopy([parameter for _, parameter in named], memo)
    copied = twin(optimizer, memo)
    assert isinstance(copied, Counting)
    parameters[0].grad = torch.ones_like(parameters[0])
    copied.step()
    assert copied.last[0] is parameters[0]
    assert (copied.steps, optimizer.steps if isinstance(optimizer, Counting) else -1) == (1, 0)


def test_a_wrapped_step_does_not_come_along_into_a_copy() -> None:
    named = host()
    optimizer = SGD([parameter for _, parameter in named], lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 3)  # wraps its step
    before = named[0][1].detach().clone()
    memo: dict[int, Any] = {}
    parameters = copy.deepcopy([parameter for _, parameter in named], memo)
    copied = twin(optimizer, memo)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    copied.step()
    assert torch.equal(named[0][1], before)
    assert not torch.equal(parameters[0], before)


def test_what_it_counts_outside_its_state_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        foreign_optimizer(lambda groups: SGD(groups, 0.1), host())
        assert not caplog.records
        foreign_optimizer(lambda groups: Counting(groups, 0.1), host())
    assert "counts in steps, outside its state" in caplog.text


class Locked(SGD):
    """Can't be copied."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params, lr=0.1)
        self.lock = threading.Lock()


class Global(SGD):
    """Keeps state that is no parameter's."""

    def step(self, closure: Any = None) -> Any:
        self.state["all"] = {"steps": 1}  # type: ignore[index]
        return super().step(closure)


class Historian(SGD):
    """Keeps a list for each parameter."""

    def step(self, closure: Any = None) -> Any:
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["history"] = [0.1]
        return super().step(closure)


class Fixed(SGD):
    """Takes no further group."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if getattr(self, "param_groups", []):
            raise ValueError("it is complete")
        super().add_param_group(param_group)


STRANGER = nn.Parameter(torch.ones(1))
FAULTY: dict[str, tuple[Callable[[Groups], Any], str]] = {
    "no optimizer": (lambda groups: groups, "returned a list; it has to be a torch.optim.Optimizer"),
    "raises": (lambda groups: SGD(groups, lr=-1.0), "can't be made: Invalid learning rate: -1.0"),
    "leaves out": (
        lambda groups: SGD(every(groups)[2:], 0.1),
        r"SGD leaves out 2 of the model's parameters \(enter.weight, enter.bias\)",
    ),
    "has others": (lambda groups: SGD([*every(groups), STRANGER], 0.1), "has 1 parameters that are not the"),
    "no rate": (lambda groups: SGD(groups, lr=0.0), "has lr = 0.0; it has to be a number above 0"),
    "a rate of a group": (
        lambda groups: SGD([{"params": every(groups)[:1], "lr": 0.0}, {"params": every(groups)[1:]}], 0.1),
        "has lr = 0.0",
    ),
    "a closure": (lambda groups: LBFGS(every(groups)), "LBFGS can't train a network that grows"),
    "sparse": (lambda groups: SparseAdam(every(groups)), "SparseAdam can't train a network that grows"),
    "can't grow": (lambda groups: Fixed(groups, 0.1), "can't train a network that grows: it is complete"),
    "can't be copied": (lambda groups: Locked(groups), "Locked can't be copied"),
    "state of its own": (lambda groups: Global(groups, 0.1), "state under 'all', which is no parameter"),
    "lists": (lambda groups: Historian(groups, 0.1), r"keeps history \(list\) of a parameter"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_what_can_not_be_used_is_refused_at_once_and_the_host_stays_as_it_was(fault: str) -> None:
    make, said = FAULTY[fault]
    named = host()
    before = [parameter.detach().clone() for _, parameter in named]
    with pytest.raises(BadOptimizer, match=said):
        foreign_optimizer(make, named)
    assert all(torch.equal(p, was) for (_, p), was in zip(named, before, strict=True))
    assert all(parameter.grad is None for _, parameter in named)


def test_what_only_a_programmer_can_mend_is_not_taken_for_a_refusal() -> None:
    def interrupted(groups: Groups) -> Optimizer:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        foreign_optimizer(interrupted, host())


def test_a_rate_that_is_a_tensor_is_taken_for_its_number() -> None:
    optimizer = foreign_optimizer(lambda groups: Adam(groups, lr=torch.tensor(0.5)), host())
    assert float(optimizer.param_groups[0]["lr"]) == 0.5
