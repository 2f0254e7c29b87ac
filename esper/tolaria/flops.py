"""Floating-point operations, counted and kept in accounts, never timed.

The convention is that of `torch.utils.flop_counter`: matrix products, convolutions and attention, two
operations per multiply-add, padding included; elementwise work counts 0. `Counting` reads torch's own
formulas, but as a dispatch mode of the calling thread only: it puts no hook on any module, so that
another thread's forward pass is neither counted nor slowed.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from esper.tolaria.measure import evaluating
from esper.tolaria.randomness import untouched_streams
from esper.tolaria.task import LossFn


class Account(StrEnum):
    """What FLOPs were spent on."""

    TRAIN = "train"
    SHADOW = "shadow"
    CONFLICT = "conflict"
    PROBE = "probe"
    GAUGE = "gauge"
    COUNTERFACTUAL = "counterfactual"
    VALIDATION = "validation"


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts in `flops` what runs in this thread inside the `with` block, and changes nothing of it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: int = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # a composite operation shows what it is made of
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        self.flops += int(formula(*args, **kwargs, out_val=out))
        return out


class FlopLedger:
    """What a run has spent, by account.

    `counts_validation` says whether the validation pass after each epoch is part of what is spent: it
    is exactly when a policy reads it to decide. The pass of an epoch in which seeds are compared serves
    as one side of the comparison, which is always spent: where validation is not, that pass is in the
    COUNTERFACTUAL account. Passes that are made to count FLOPs are spent too: in PROBE for forks, in
    GAUGE for a network that has changed. What is not booked is the first count of the host, and the
    judgement of the finished network.
    """

    def __init__(self, *, counts_validation: bool) -> None:
        self.counts_validation = counts_validation
        self._accounts = dict.fromkeys(Account, 0)

    def add(self, account: Account, flops: int) -> None:
        """Book `flops`, at least 0."""
        assert flops >= 0
        self._accounts[account] += flops

    def of(self, account: Account) -> int:
        """What `account` has spent."""
        return self._accounts[account]

    @property
    def spent(self) -> int:
        """All that training and growth have spent; what a FLOP budget is held against."""
        unread = 0 if self.counts_validation else self._accounts[Account.VALIDATION]
        return sum(self._accounts.values()) - unread

    def accounts(self) -> dict[str, int]:
        """Every account's sum."""
        return {account.value: flops for account, flops in self._accounts.items()}

    def restore(self, accounts: Mapping[str, int]) -> None:
        """Take over what `accounts()` said earlier."""
        self._accounts = {account: accounts[account.value] for account in Account}


def counted(work: Callable[[], object]) -> int:
    """FLOPs of one call of `work`."""
    count = Counting()
    with count:
        work()
    return count.flops


def count_step(model: nn.Module, inputs: Tensor, targets: Tensor, loss_fn: LossFn) -> int:
    """FLOPs of one training step (forward and backward) of `model` on a batch of this shape.

    Runs on a throw-away copy: weights, buffers, gradients and random streams are left alone.
    """
    twin = copy.deepcopy(model)
    with untouched_streams():
        return counted(lambda: torch.autograd.backward(loss_fn(twin(inputs), targets)))


def count_forward(model: nn.Module, inputs: Tensor) -> int:
    """FLOPs of one forward pass of `model` in eval mode, on a throw-away copy as in `count_step`."""
    twin = copy.deepcopy(model)
    with untouched_streams(), evaluating(twin):
        return counted(lambda: twin(inputs))
