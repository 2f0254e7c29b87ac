"""Whole runs in virtual time: what a company has around it, and a run whose trainer only keeps books."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import cast

from actors.company import Outcome, Surroundings
from actors.display import Display
from actors.lane import Lane
from actors.oona.memory import MemoryBus
from actors.oona.topics import run_topics
from actors.play import Play
from actors.runtime import InlineThreads, LoopClock, Threads
from actors.runtime.governor import Governor
from actors.turn import Training
from contracts.config import Config
from contracts.view import RunFacts
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.engine import Engine
from esper.tamiyo.controller import Controller
from esper.tamiyo.observation import Observation
from esper.tamiyo.policy import Policy
from tests.actors.fakes import SITES, FakeTrainer, Spectator, VirtualLane

WALL_NS = 10**18


def surroundings(
    seed: int = 0,
    lane: Lane | None = None,
    threads: Threads | None = None,
    clock: LoopClock | None = None,
    now: Callable[[], float] | None = None,
) -> Surroundings:
    """Of a run on the running loop; its bus is in memory."""
    loop = asyncio.get_running_loop()
    clock = clock or LoopClock(loop, wall_ns=WALL_NS)
    return Surroundings(
        clock,
        MemoryBus(run_topics(), clock),
        lane or VirtualLane(),
        Governor(),
        random.Random(seed),
        now or loop.time,
        threads or InlineThreads(),
    )


def fake_play(
    policy: Policy, trainer: FakeTrainer, config: Config, seed: int = 0, display: Display | None = None
) -> Play:
    """A run of a trainer that only keeps books."""
    return Play(
        run_id="fake",
        config=config,
        facts=RunFacts("fake", policy.name, seed, "nowhere", epochs=trainer.epochs),
        training=cast(Training, trainer),
        samples=deque(),
        engine=Engine(SITES, config.growth, CATALOGUE, seed),
        controller=Controller(policy, "fake"),
        observation=Observation("fake", policy.version, config.tamiyo.window_epochs),
        names={},
        display=display or Spectator(),
    )


def way_of(outcome: Outcome) -> list[tuple[int, int, str]]:
    """Of each rollback: in which epoch it was ordered, to which it led, and how."""
    return [(one.epoch, one.to_epoch, one.kind) for one in outcome.witness.recorder.recorded.rollbacks]
