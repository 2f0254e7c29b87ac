"""Random streams as values: derived from one seed, swapped in and out, never left changed.

Torch has one global stream a process. The trainer keeps a stream of its own and puts it in place only
while it trains, so that a run's numbers depend neither on what was drawn before it nor, at a boundary,
on what others draw.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def derived_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose; different purposes give unrelated streams."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_for(seed: int, purpose: str) -> torch.Generator:
    """A generator of its own for one purpose of the run `seed`."""
    generator = torch.Generator()
    generator.manual_seed(derived_seed(seed, purpose))
    return generator


class Stream:
    """A torch stream that takes the global one's place while it is used."""

    def __init__(self, seed: int, purpose: str) -> None:
        self.state: Tensor = generator_for(seed, purpose).get_state()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, torch's global stream is this one; afterwards it is as it was before."""
        before = torch.get_rng_state()
        torch.set_rng_state(self.state)
        try:
            yield
        finally:
            self.state = torch.get_rng_state()
            torch.set_rng_state(before)


@contextmanager
def untouched_streams() -> Iterator[None]:
    """Whatever is drawn inside from torch's global stream is put back afterwards."""
    before = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(before)
