"""Performs drills: real training runs with every actor, a dangerous blueprint let loose in each.

    control     the same run without a graft, and in other orders of the data, for what chance alone does
    drill       Company ── Rehearsal ── Trainer; the trial is held in quarantine, from the training thread
    judgement   which check caught it, within how many steps, what became of the host

Training waits while a trial is held: a drill is about harm, not about time.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import stdev

import torch
from msgspec.structs import replace
from torch import Tensor

from actors.company import Company, Outcome, Surroundings
from actors.display import Silent
from actors.lane import ThreadLane
from actors.oona.memory import MemoryBus
from actors.oona.topics import RUN_BUS, run_topics
from actors.play import Play
from actors.runtime import LoopClock
from actors.runtime.governor import Governor
from actors.runtime.own_loop import run_on_own_loop
from actors.runtime.signals import Handler, StopSignals
from actors.tezzeret.quarantine import Quarantine
from contracts.config import Config
from contracts.view import RunFacts
from esper.drill.benign import DRILL_CATALOGUE
from esper.drill.outcome import DrillResult, judged
from esper.drill.programme import Drill
from esper.drill.rehearsal import host_of
from esper.drill.stage import Control, Staged, stage, ungrown
from esper.tolaria.results import FinalFigures
from esper.tolaria.task import Task
from esper.tolaria.trainer import Trainer

NOISE_SEEDS = 4
"""Control runs in other orders of the data."""
NOISE_SPREADS = 2.0
"""Standard deviations of the accuracy that count as noise."""
LANE_CLOSES_S = 10.0
NAMES: Mapping[str, str] = {one.blueprint_id: one.descriptor.name for one in DRILL_CATALOGUE}


class Stopped(Exception):
    """The drills were asked to stop."""


@dataclass(frozen=True)
class Ground:
    """Where drills are held: a task by its seed, and how it is trained."""

    task: Callable[[int], Task]
    config: Config


class Drills:
    """Holds one drill after the other; `again` is what a second SIGINT does."""

    def __init__(self, ground: Ground, quarantine: Quarantine, again: Handler | None = None) -> None:
        self._ground = ground
        self._quarantine = quarantine
        self._again = again
        self._trainer: Trainer | None = None
        self.stopped = False

    def stop(self) -> None:
        """End what is under way after its step, or in the midst of its trial; nothing begins any more."""
        self.stopped = True
        self._quarantine.close()
        if self._trainer is not None:
            self._trainer.stop()

    def control(self, noise_seeds: int = NOISE_SEEDS) -> Control:
        """The run without a graft, and how much its accuracy moves with other orders of the data.

        Raises:
            Stopped: it was asked to.
        """
        seed = self._ground.config.run.seed
        runs = [self._ungrown(seed + offset) for offset in range(noise_seeds + 1)]
        accuracies = [figures.test_accuracy for _, figures in runs]
        known = [accuracy for accuracy in accuracies if accuracy is not None]
        noise = NOISE_SPREADS * stdev(known) if len(known) > 1 else 0.0
        return Control(runs[0][0], accuracies[0], noise)

    def hold(self, drill: Drill, control: Control) -> DrillResult:
        """One drill, from its start to its judgement.

        Raises:
            Stopped: it was asked to.
            HostNotPortable: the task's host can't be taken into quarantine.
            SandboxFailed: there is no quarantine to be had on this machine.
        """
        config = self._ground.config
        staged = stage(drill, config, self._ground.task(config.run.seed), self._quarantine.hold)
        self._trainer, governor = staged.trainer, Governor()
        if self.stopped:
            raise Stopped
        outcome = run_on_own_loop(governor, lambda: self._perform(staged, governor))
        if self.stopped:
            raise Stopped
        if staged.trouble:
            raise staged.trouble[0]
        conclusion = outcome.conclusion
        facts = staged.facts(outcome.witness.recorder.recorded, conclusion.final, conclusion.halted, control)
        return judged(drill, NAMES[drill.blueprint_id], staged.desk.report, staged.rehearsal.seen, facts)

    def _ungrown(self, seed: int) -> tuple[dict[str, Tensor], FinalFigures]:
        """The final host and its figures: the same initial weights, the data in the order of `seed`."""
        config = self._ground.config
        other = replace(config, run=replace(config.run, seed=seed))
        grafts, trainer = ungrown(other, self._ground.task(config.run.seed))
        self._trainer = trainer
        while not trainer.finished:
            if self.stopped or trainer.run_epoch().stopped:
                raise Stopped
        return host_of(grafts), trainer.final()

    async def _perform(self, staged: Staged, governor: Governor) -> Outcome:
        config, clock = self._ground.config, LoopClock(asyncio.get_running_loop())
        bus = MemoryBus(run_topics(), clock, RUN_BUS)
        lane = ThreadLane("training", lambda: torch.set_num_threads(config.run.threads))
        around = Surroundings(clock, bus, lane, governor, random.Random(config.run.seed), time.perf_counter)
        company = Company(_play(staged, config), around)

        def stop() -> None:
            self.stop()
            company.halt("stopped by a signal")

        try:
            async with StopSignals(stop, self._again):
                return await company.perform()
        finally:
            staged.trainer.stop()  # it has ended, or nobody waits for it any more
            lane.close(LANE_CLOSES_S)
            await bus.close()


def _play(staged: Staged, config: Config) -> Play:
    run = config.run
    facts = RunFacts(
        workload=run.workload,
        policy=staged.controller.policy.name,
        seed=run.seed,
        out="",
        epochs=run.epochs,
        boundary_budget_ms=float(config.budgets.epoch_boundary_ms),
    )
    return Play(
        run_id=staged.run_id,
        config=config,
        facts=facts,
        training=staged.rehearsal,
        samples=staged.trainer.samples,
        engine=staged.engine,
        controller=staged.controller,
        observation=staged.observation,
        names=NAMES,
        display=Silent(),
    )
