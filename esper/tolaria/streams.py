"""The process's own random streams: torch, numpy, Python. A host or its data may draw from any of them."""

import ctypes
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator
from torch import Tensor

_MT19937_BYTES = 4 * (624 + 1)
"""624 words and a position (Matsumoto and Nishimura 1998; numpy's `mt19937_state`)."""
_UNFIT = (KeyError, OverflowError, RuntimeError, TypeError, ValueError)
"""What a generator raises for what is no state of its own."""


@dataclass(frozen=True)
class GlobalStreams:
    """Where each of them is."""

    torch: Tensor
    numpy: Mapping[str, Any]
    python: tuple[Any, ...]


class Streams:
    """Says where they are, as often as it is asked.

    numpy takes ten times as long over its state as torch does. So its generator's words are looked at where
    they lie, and what was said last is said again if none of them has changed.
    """

    def __init__(self) -> None:
        self._numpy: Mapping[str, Any] = {}
        self._words = b""
        """Of numpy's generator when `_numpy` was taken; empty if they don't tell whether it has moved."""

    def now(self) -> GlobalStreams:
        """Where they are now."""
        words = _numpy_words()
        if not words or words != self._words:
            self._numpy = np.random.get_state(legacy=False)
            # While it holds the second of two normal numbers, the next draw leaves the words as they are.
            self._words = b"" if self._numpy["has_gauss"] else words
        return GlobalStreams(torch.get_rng_state(), self._numpy, random.getstate())


def _numpy_words() -> bytes:
    """The generator's own words, its position behind them; empty for another kind than numpy begins with."""
    generator = get_bit_generator()
    if type(generator) is not np.random.MT19937:
        return b""
    return ctypes.string_at(generator.ctypes.state_address, _MT19937_BYTES)


def put_streams(streams: GlobalStreams) -> None:
    """Have them go on from there."""
    torch.set_rng_state(streams.torch)
    np.random.set_state(dict(streams.numpy))
    random.setstate(streams.python)


def flaw_of_stream(state: Tensor) -> str:
    """Why torch could not go on from `state`; empty if it could."""
    try:
        torch.Generator().set_state(state)
    except _UNFIT as error:
        return str(error)
    return ""


def flaw_of_streams(streams: GlobalStreams) -> str:
    """Why they could not go on from there, found on others of their kind; empty if they could."""
    try:
        np.random.RandomState(0).set_state(dict(streams.numpy))
        random.Random(0).setstate(streams.python)
    except _UNFIT as error:
        return str(error)
    return flaw_of_stream(streams.torch)
