"""A copy in memory of all that training goes on from, and the way back to it, bit for bit."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from contracts.growth import ProbeReport
from esper.kasmina.graft import Grafts
from esper.tolaria.costs import Counts
from esper.tolaria.flops import FlopLedger
from esper.tolaria.growth import Growth, Seed
from esper.tolaria.loader import Loader, LoaderState
from esper.tolaria.randomness import Stream
from esper.tolaria.rates import Rates, RatesState
from esper.tolaria.results import EpochResult
from esper.tolaria.undo import Undo, restore_undo, take_undo


@dataclass(frozen=True)
class Parts:
    """Everything of a run that changes while it trains."""

    grafts: Grafts
    optimizer: Optimizer
    rates: Rates
    loader: Loader
    growth: Growth
    ledger: FlopLedger
    stream: Stream


@dataclass(frozen=True)
class Position:
    """Where the run is."""

    epoch: int = 0
    step: int = 0
    shape: int = 0
    """Grafts and removals so far."""
    version: int = 0
    """Changes of the forward pass so far."""
    counts: Counts = field(default_factory=Counts)
    """FLOPs of the network as they were known."""
    last: EpochResult | None = None
    evidence: ProbeReport | None = None


@dataclass(frozen=True)
class GlobalStreams:
    """The process's own random streams: torch, numpy, Python."""

    torch: Tensor
    numpy: Mapping[str, Any]
    python: tuple[Any, ...]


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment; nothing in it changes when the run goes on."""

    network: Undo
    rates: RatesState
    loader: LoaderState
    seeds: Mapping[str, Seed]
    accounts: Mapping[str, int]
    stream: Tensor
    global_streams: GlobalStreams
    position: Position


def take_snapshot(parts: Parts, position: Position) -> Snapshot:
    """Copy the run as it is."""
    return Snapshot(
        network=take_undo(parts.grafts.model, parts.optimizer),
        rates=parts.rates.state(),
        loader=parts.loader.state(),
        seeds=parts.growth.copies(),
        accounts=parts.ledger.accounts(),
        stream=parts.stream.state,
        global_streams=GlobalStreams(
            torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate()
        ),
        position=position,
    )


def restore_snapshot(parts: Parts, snapshot: Snapshot) -> None:
    """Bring the run back to where the snapshot was taken; the position is for the trainer to take over.

    Raises:
        PlanRefused: the network has other seeds in it than then; nothing has changed.
    """
    restore_undo(parts.grafts.model, parts.optimizer, snapshot.network)
    parts.growth.restore(snapshot.seeds)
    for seed in parts.growth.seeds.values():
        if seed.in_place:
            parts.grafts.set_alpha(seed.record.seed_id, seed.record.alpha if seed.live else 0.0)
    parts.rates.restore(snapshot.rates)
    parts.loader.restore(snapshot.loader)
    parts.ledger.restore(snapshot.accounts)
    parts.stream.state = snapshot.stream
    torch.set_rng_state(snapshot.global_streams.torch)
    np.random.set_state(dict(snapshot.global_streams.numpy))
    random.setstate(snapshot.global_streams.python)
