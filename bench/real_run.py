"""A real run on MNIST-1D with all its actors, for benchmarks that look at it from inside."""

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import torch

from actors.company import Company, Outcome, Surroundings
from actors.display import Silent
from actors.keeping import Desk
from actors.lane import ThreadLane
from actors.nissa.journal import Journal
from actors.oona.memory import MemoryBus
from actors.oona.topics import RUN_BUS, run_topics
from actors.play import play_of
from actors.runtime import LoopClock
from actors.runtime.governor import Governor, governed_loop
from actors.runtime.interpreter import shared_interpreter
from actors.turn import Training
from contracts.config import Config
from contracts.view import RunFacts
from esper.assembly import Parts, assemble_parts
from esper.checkpoint.store import CheckpointStore
from esper.place import about_run
from esper.settings import load
from esper.tamiyo.policy import Policy
from esper.workloads.registry import find_workload

LANE_CLOSES_S = 10.0


def mnist1d(*settings: str, **values: object) -> Config:
    """The workload's configuration; `values` are those of the `run` section."""
    named = {f"run.{name}": value for name, value in values.items()}
    return find_workload("mnist1d").complete(load(None, settings, named))


def make_parts(config: Config, policy: Policy | None = None) -> Parts:
    """Host, data and the thinking half, ready to run."""
    torch.set_num_threads(config.run.threads)
    return assemble_parts(config, find_workload("mnist1d").task(config.run.seed), "bench", policy)


Meet: TypeAlias = Callable[[Company, Journal], None]
"""Is told of a run's company and of its journal before it begins, on the running loop."""


def meet_nobody(company: Company, journal: Journal) -> None:
    """Nobody wants to know them."""


def real_run(
    parts: Parts,
    beside: Callable[[], Awaitable[None]] | None = None,
    *,
    training: Training | None = None,
    meet: Meet = meet_nobody,
) -> Outcome:
    """Play `parts` to the end, as `esper.run` does without a terminal; `beside` runs on the same loop.

    `training` stands in for their trainer.
    """
    governor = Governor()
    with (
        tempfile.TemporaryDirectory() as folder,
        shared_interpreter(),
        asyncio.Runner(loop_factory=lambda: governed_loop(governor)) as runner,
    ):
        return runner.run(_perform(parts, governor, Path(folder), beside, training or parts.trainer, meet))


async def _perform(
    parts: Parts,
    governor: Governor,
    folder: Path,
    beside: Callable[[], Awaitable[None]] | None,
    training: Training,
    meet: Meet,
) -> Outcome:
    lane = ThreadLane("training", lambda: torch.set_num_threads(parts.config.run.threads))
    writer = ThreadLane("checkpoints")
    store = CheckpointStore(folder, parts.config.checkpoint.keep)
    clock = LoopClock(asyncio.get_running_loop())
    bus, stream = MemoryBus(run_topics(), clock, RUN_BUS), random.Random(parts.config.run.seed)
    around = Surroundings(clock, bus, lane, governor, stream, time.perf_counter)
    with Journal(folder) as journal:
        facts = RunFacts("mnist1d", parts.policy.name, parts.config.run.seed, "")
        play = play_of(parts, "bench", facts, Silent(), training)
        desk = Desk(store, writer, about_run(parts, "bench"), parts.build)
        play = replace(play, journal=journal, desk=desk)
        company = Company(play, around)
        meet(company, journal)
        watcher = asyncio.ensure_future(beside()) if beside is not None else None
        try:
            return await company.perform()
        finally:
            await bus.close()
            lane.close(LANE_CLOSES_S)
            writer.close(LANE_CLOSES_S)
            if watcher is not None:
                watcher.cancel()
                with suppress(asyncio.CancelledError):
                    await watcher
