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
class Chunk:
    """Batches that are gathered at once; the loader stands at the first of them, in the pass of `order`.

    `generator` is the state after `order` was drawn; None if it is an earlier chunk's.
    """

    order: Tensor
    position: int
    generator: Tensor | None
    inputs: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]


@dataclass(frozen=True)
class Ahead:
    """A chunk that was gathered before it was asked for, and where the loader stood then."""

    steps: int
    state: "LoaderState"
    chunk: Chunk

    def is_next(self, steps: int, state: "LoaderState") -> bool:
        """Whether the loader stands there, and as much is wanted."""
        then = self.state
        return (
            self.steps == steps
            and then.order is state.order
            and then.position == state.position
            and torch.equal(then.generator, state.generator)
        )


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
        self._ahead: Ahead | None = None

    def batches(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The next `steps` batches of inputs and targets; one that was not asked for was not used up."""
        while steps > 0:
            ahead, self._ahead = self._ahead, None
            fits = ahead is not None and ahead.is_next(steps, self.state())
            chunk = ahead.chunk if ahead is not None and fits else self._chunk(steps)
            self._order, self._position = chunk.order, chunk.position
            if chunk.generator is not None:
                self._generator.set_state(chunk.generator)
            for batch in zip(chunk.inputs, chunk.targets, strict=True):
                self._position += 1
                beat()
                yield batch
            steps -= len(chunk.inputs)

    def look_ahead(self, steps: int) -> None:
        """Gather what `batches(steps)` begins with, at a time that costs nothing; it stays where it is."""
        if steps > 0:
            self._ahead = Ahead(steps, self.state(), self._chunk(steps))

    def _chunk(self, steps: int) -> Chunk:
        """The next batches, at most `steps`, of one pass; nothing has changed."""
        order, position, after = self._order, self._position, None
        if position >= self._pass_batches:
            generator = torch.Generator()
            generator.set_state(self._generator.get_state())
            order, position = torch.randperm(len(self._data), generator=generator), 0
            after = generator.get_state()
        count = min(steps, self._gather, self._pass_batches - position)
        start = position * self.batch_size
        index = order[start : start + count * self.batch_size]
        inputs = torch.split(self._data.inputs[index], self.batch_size)
        targets = torch.split(self._data.targets[index], self.batch_size)
        return Chunk(order, position, after, inputs, targets)

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
