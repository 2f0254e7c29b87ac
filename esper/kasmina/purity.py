"""Whether a seed is a function: equal inputs give equal bits, and what it is given it leaves alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from esper.kasmina.aside import Inputs, call, device_of, evaluating
from esper.kasmina.footprint import same_bits
from esper.kasmina.graft import Grafts

IMPURE = "equal inputs gave different outputs"
WRITES = "it wrote into its input"


class InputGuard:
    """Forward hooks on a seed that compare its input's bits after a call with those before it."""

    def __init__(self) -> None:
        self.written = False
        self._seen: list[tuple[Tensor, Tensor]] = []

    def before(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen.append((inputs[0].detach(), inputs[0].detach().clone()))

    def look(self) -> None:
        """Compare now: a write may also come after the call, from another thread."""
        self.written |= any(not same_bits(given, kept) for given, kept in self._seen)
        self._seen.clear()


@contextmanager
def guarded_input(grafts: Grafts, seed_id: str) -> Iterator[InputGuard]:
    """Passes in which the seed's inputs are watched; the guard has looked when the block is left."""
    guard = InputGuard()
    handle = grafts.module(seed_id).register_forward_pre_hook(guard.before)
    try:
        yield guard
    finally:
        handle.remove()
        guard.look()


def impurity(grafts: Grafts, seed_id: str, inputs: Inputs) -> str:
    """What keeps the seed from being a function; empty if nothing does.

    Two passes of the network in eval mode with the seed at alpha 1, and nothing is left behind.

    Raises:
        GraftError: there is no such seed.
    """
    with (
        guarded_input(grafts, seed_id) as guard,
        evaluating(grafts.model, device_of(inputs)),
        grafts.with_(seed_id),
    ):
        one, other = (_outputs(grafts.model, inputs) for _ in range(2))
    if guard.written:
        return WRITES
    return "" if same_bits(one, other) else IMPURE


def _outputs(model: nn.Module, inputs: Inputs) -> Tensor:
    stream = torch.get_rng_state()
    try:
        return call(model, inputs)
    finally:
        torch.set_rng_state(stream)
