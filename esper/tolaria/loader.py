"""Mini-batches in an order of their own: reshuffled every pass, the same whatever grows."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from esper.tolaria.pulse import beat
from esper.tolaria.streams import flaw_of_stream
from esper.tolaria.task import Tensors

GATHER_BYTES = 8 << 20
"""Inputs that are gathered at once, so that a step only takes a view."""


@dataclass(frozen=True)
class LoaderState:
    """Where a loader is: the order of this pass, the next batch in it, the generator's state after it."""

    order: Tensor
    position: int
    generator: Tensor


class Loader:
    """Endless mini-batches of `batch_size` examples; the examples left over at a pass's end are left out.

    A data set smaller than a batch is one batch.
    """

    def __init__(self, data: Tensors, batch_size: int, generator: torch.Generator) -> None:
        self._data = data
        self.batch_size = min(batch_size, len(data))
        self._generator = generator
        self._pass_batches = len(data) // self.batch_size
        example_bytes = data.inputs[0].numel() * data.inputs.element_size()
        self._gather = max(1, GATHER_BYTES // max(1, example_bytes * self.batch_size))
        self._order = torch.empty(0, dtype=torch.int64)
        self._position = self._pass_batches

    def batches(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The next `steps` batches of inputs and targets; one that was not asked for was not used up."""
        while steps > 0:
            if self._position >= self._pass_batches:
                self._order = torch.randperm(len(self._data), generator=self._generator)
                self._position = 0
            count = min(steps, self._gather, self._pass_batches - self._position)
            start = self._position * self.batch_size
            index = self._order[start : start + count * self.batch_size]
            inputs = torch.split(self._data.inputs[index], self.batch_size)
            targets = torch.split(self._data.targets[index], self.batch_size)
            for batch in zip(inputs, targets, strict=True):
                self._position += 1
                beat()
                yield batch
            steps -= count

    def example(self) -> tuple[Tensor, Tensor]:
        """The first examples in the data's own order, one batch: a shape to measure with."""
        return self._data.inputs[: self.batch_size], self._data.targets[: self.batch_size]

    def state(self) -> LoaderState:
        """Where it is; holds no reference to what changes later."""
        return LoaderState(self._order, self._position, self._generator.get_state())

    def flaw(self, state: LoaderState) -> str:
        """Why it could not go on from `state`; empty if it could."""
        order, examples = state.order, len(self._data)
        if order.dtype is not torch.int64 or order.ndim != 1 or len(order) not in (0, examples):
            return f"the order of the data is of {order.numel()} examples; there are {examples}"
        if len(order) and not 0 <= int(order.min()) <= int(order.max()) < examples:
            return "the order of the data names examples that there are not"
        if not 0 <= state.position <= self._pass_batches or (
            not len(order) and state.position < self._pass_batches
        ):
            return f"the data are at batch {state.position}; a pass has {self._pass_batches}"
        return flaw_of_stream(state.generator)

    def restore(self, state: LoaderState) -> None:
        """Go back to where `state()` was called."""
        self._order, self._position = state.order, state.position
        self._generator.set_state(state.generator)
