"""What a step and a forward pass of the network cost as it is now, counted once each time it changes."""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from esper.tolaria.flops import Counting, count_forward, count_step
from esper.tolaria.task import LossFn

T = TypeVar("T")
SHADOW = "shadow"
"""The work of one batch on a seed's shadow path."""


class CostBook:
    """FLOPs by the version of the network that the caller states; `batch` is one training mini-batch."""

    def __init__(self, model: nn.Module, batch: tuple[Tensor, Tensor], loss_fn: LossFn) -> None:
        self._model = model
        self._inputs, self._targets = batch
        self._loss_fn = loss_fn
        self._version = -1
        self._step = 0
        self._forward_batch = 0
        self._by_seed: dict[tuple[str, str], int] = {}

    def turn_to(self, version: int) -> None:
        """Count anew if the network has changed since (on copies, some milliseconds for a small one)."""
        if version != self._version:
            self._step = count_step(self._model, self._inputs, self._targets, self._loss_fn)
            self._forward_batch = count_forward(self._model, self._inputs)
            self._by_seed.clear()
            self._version = version

    @property
    def step(self) -> int:
        """One training step on a mini-batch."""
        return self._step

    def forward(self, examples: int) -> int:
        """A forward pass in eval mode over `examples` examples; the cost is linear in them."""
        return self._forward_batch * examples // len(self._inputs)

    def of_seed(self, work: str, seed_id: str, run: Callable[[], T]) -> tuple[T, int]:
        """The result of `run`, some `work` on a seed, and its FLOPs: counted the first time, then known."""
        flops = self._by_seed.get((work, seed_id))
        if flops is not None:
            return run(), flops
        with Counting() as count:
            result = run()
        self._by_seed[work, seed_id] = count.flops
        return result, count.flops

    def known(self, work: str, seed_id: str) -> int | None:
        """FLOPs of a seed's `work` if it has been counted."""
        return self._by_seed.get((work, seed_id))
