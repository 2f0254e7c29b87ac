"""The blueprint pipeline of one run: Urza, Tezzeret, and who carries requests and kernels between them."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from actors.karn import Karn
from actors.kasmina import KernelsFor
from actors.lane import ThreadLane
from actors.oona.bus import Bus
from actors.prefetch import Audience, Depot, Prefetch
from actors.runtime import ActorRef, ActorSystem, Clock
from actors.tezzeret.actor import Tezzeret
from actors.tezzeret.confinement import HeadStart
from actors.tezzeret.requests import Crier, Requests
from actors.tezzeret.sandbox import Limits
from actors.tezzeret.shop import HEAD_START, Shop
from actors.tezzeret.smith import Smith
from actors.urza import Urza
from contracts.config import KernelConfig
from contracts.control import Foresee, Look
from contracts.kernels import Strategy
from esper.karn.catalogue import Catalogue
from esper.karn.source import Source
from esper.kasmina.stock import Stock
from esper.kernels import MIB, open_library
from esper.processors import processors
from esper.tezzeret.agenda import Policy
from esper.urza.library import Library

EQUAL = HeadStart(nice=0)
"""Where training has a processor for itself. Others may want them all, and what is not made now, the next run
begins anew."""


@dataclass(frozen=True)
class Pipeline:
    """What the pipeline of a run is made of."""

    folder: Path
    """Of the kernel store."""
    config: KernelConfig
    catalogue: Catalogue
    approved: frozenset[str]
    """Experimental blueprints that may be made."""
    stock: Stock
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Where a compiler's process finds blueprints of the user's own, by id."""

    def open_library(self) -> Library:
        """The store, for the thread that calls.

        Raises:
            Unavailable: it can't be used.
        """
        return open_library(self.config, self.folder, self.catalogue)

    def shop(self) -> Shop:
        """How Tezzeret works.

        A second compiler that shares a processor with the first only delays it: to start takes as long as a
        dozen kernels.
        """
        config, strategy = self.config, Strategy(self.config.strategy)
        spare = processors() - 1  # beside the one that trains
        return Shop(
            folder=self.folder,
            policy=Policy(strategy=strategy, at_most=min(config.workers, max(1, spare))),
            head_start=EQUAL if spare else HEAD_START,
            limits=Limits(
                job_s=config.compile_s,
                memory_bytes=config.memory_mb * MIB,
                fork=strategy is Strategy.AGGRESSIVE,
            ),
            catalogue=self.catalogue,
            sources=self.sources,
            approved=self.approved,
        )


class Public(Audience, Protocol):
    """Is told how the compiler does, too."""

    def compiling(self, blueprint_ids: tuple[str, ...], trouble: str) -> None:
        """Kernels of these are being made; and why none can be made at present, if none can."""


@dataclass(frozen=True)
class Neighbours:
    """The actors of the run that prefetching asks, and whom it tells."""

    bus: Bus
    clock: Clock
    stream: random.Random
    tamiyo: ActorRef[Foresee]
    kasmina: ActorRef[KernelsFor]
    audience: Public
    run_id: str


def spawn_pipeline(system: ActorSystem, pipeline: Pipeline, near: Neighbours) -> ActorRef[Look]:
    """Add the pipeline's actors; returns whom to show how growth stands."""
    urza = system.spawn("urza", lambda: Urza(pipeline.open_library, partial(ThreadLane, "urza")))
    crier = Crier(near.bus, near.run_id)
    tezzeret = system.spawn(
        "tezzeret",
        lambda: Tezzeret(
            lambda announce: Smith(pipeline.open_library, pipeline.shop(), near.stream, announce),
            crier.announce,
            lambda standing: near.audience.compiling(standing.progress.busy, standing.trouble),
        ),
    )
    karn = system.spawn("karn", lambda: Karn(pipeline.catalogue, pipeline.approved))
    system.spawn("requests", lambda: Requests(near.bus, crier, urza, karn, tezzeret))
    depot = Depot(
        bus=near.bus,
        clock=near.clock,
        stock=pipeline.stock,
        tamiyo=near.tamiyo,
        kasmina=near.kasmina,
        urza=urza,
        tezzeret=tezzeret,
        audience=near.audience,
        run_id=near.run_id,
    )
    return system.spawn("prefetch", lambda: Prefetch(depot))
