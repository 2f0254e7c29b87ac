"""The process's own random streams: torch, numpy, Python. A host or its data may draw from any of them."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_UNFIT = (KeyError, OverflowError, RuntimeError, TypeError, ValueError)
"""What a generator raises for what is no state of its own."""


@dataclass(frozen=True)
class GlobalStreams:
    """Where each of them is."""

    torch: Tensor
    numpy: Mapping[str, Any]
    python: tuple[Any, ...]


def take_streams() -> GlobalStreams:
    """Where they are now."""
    return GlobalStreams(torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate())


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
