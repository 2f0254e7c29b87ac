"""A random stream of a seed's own: what it draws does not move the host's stream."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_CPU = torch.device("cpu")


class RandomStream:
    """Random numbers for the passes of one seed, set apart from the global streams.

    Each time it flows it starts from a fresh number made of its seed, its name and how often it has
    flowed: those three are its whole state. It stands in for torch's default generators, Python's
    `random` and numpy's global one, because a host or a seed may draw from any of them (dropout,
    stochastic depth). One thread at a time: the global streams belong to the process.
    """

    def __init__(self, seed: int, name: str = "", flowed: int = 0) -> None:
        self.seed = seed
        self.name = name
        self.flowed = flowed
        """How often it has flowed; a stream made with this number goes on from there."""

    @contextmanager
    def flowing(self, device: torch.device = _CPU) -> Iterator[None]:
        """Draws on the CPU and on `device` come from this stream; the global ones are left as they were."""
        start = self._next_start()
        with kept_streams(device):
            random.seed(start)
            np.random.seed(start)
            torch.default_generator.manual_seed(start)
            if device.type != "cpu":
                with torch.get_device_module(device).device(device):
                    torch.get_device_module(device).manual_seed(start)
            yield

    def _next_start(self) -> int:
        text = f"{self.seed}/{self.flowed}/{self.name}"
        self.flowed += 1
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


@contextmanager
def kept_streams(device: torch.device = _CPU) -> Iterator[None]:
    """Whatever is drawn inside, the global streams are afterwards as they were before.

    Numpy's costs the most (0.08 ms): its generator can be swapped for less, but that forgets the
    second of a pair of normal numbers, which would move the host's stream.
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    accelerator = None if device.type == "cpu" else torch.get_device_module(device)
    state = None if accelerator is None else accelerator.get_rng_state(device)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if accelerator is not None:
            accelerator.set_rng_state(state, device)
