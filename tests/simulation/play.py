"""One simulated run: the real system on a seeded loop, with a storm over it."""

import asyncio
import logging
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from actors.company import Company, Outcome, Play, Surroundings
from actors.nissa.journal import Journal
from actors.runtime import ActorSnapshot, ActorState, DeadLetter
from actors.runtime.dead_letters import DeadLetters
from actors.runtime.governor import Governor
from actors.runtime.simulation import SimulatedLoop, Stuck, run_simulated
from actors.tolaria import Conclusion
from contracts.config import Config, GrowthConfig
from contracts.growth import Path
from contracts.messages import FieldReport
from contracts.view import RunFacts
from esper.karn.catalogue import CATALOGUE
from esper.moment import Moment
from esper.report.record import Recorded
from esper.tamiyo.controller import Controller
from tests.actors.fakes import SITES
from tests.simulation import invariants
from tests.simulation.disk import moments_as_they_are, simulated_desk
from tests.simulation.lane import SteppedLane
from tests.simulation.players import (
    JumpingClock,
    StormyBus,
    StormyDisplay,
    StormyEngine,
    StormyObservation,
    StormyThreads,
    StormyTrainer,
)
from tests.simulation.policies import draw_policy
from tests.simulation.storm import Kind, Storm
from tests.simulation.trace import Trace, Violation
from tests.simulation.weather import Weather

CONFIG = Config(growth=GrowthConfig(path=Path(1, 1, 1, 2), embargo_epochs=2, max_params=1300))
LIMIT_S = 3_000.0
"""Virtual seconds after which a run that has not ended never will."""
LETTERS_MAX = 1_000_000
"""All dead letters are looked through, also those of a flood."""
PENDING_MAX = 10_000
"""Reports that are looked through in the end."""
LOOK_EVERY = 97
"""Steps from one dear look to the next."""


class Failed(AssertionError):
    """A simulated run broke an invariant; the text has all that replays it."""

    def __init__(self, seed: int, why: BaseException, storm: Storm, trace: Trace) -> None:
        super().__init__(f"seed {seed}: {type(why).__name__}: {why}\nstorm: {storm.told()}\n{trace.tail()}")
        self.seed = seed
        self.why = f"{type(why).__name__}: {why}"


@dataclass
class Stage:
    """All that the watch looks at while the run goes on."""

    loop: SimulatedLoop
    lane: SteppedLane
    company: "WatchedCompany"
    weather: Weather
    strays: list[str] = field(default_factory=list)
    stalled_at_delivery_s: float = 0.0
    newest: Moment | None = None
    """The newest moment that was looked at."""


class WatchedCompany(Company):
    """The company, which says whether it has come to its conclusion."""

    @property
    def concluded(self) -> bool:
        return self._done.done()


@dataclass
class Played:
    """One run and everything that can be asked about it afterwards."""

    storm: Storm
    trace: Trace
    trainer: StormyTrainer
    engine: StormyEngine
    observation: StormyObservation
    bus: StormyBus
    governor: Governor
    recorded: Recorded
    conclusion: Conclusion | None
    cut: bool
    actors: tuple[ActorSnapshot, ...]
    errors: dict[str, str]
    letters: list[DeadLetter]
    left_running: list[str]
    timers_left: list[str]
    took_s: float
    saved: list[Moment]
    on_disk: tuple[FieldReport, ...]
    """Reports that nobody has acknowledged."""
    open: list[str] = field(default_factory=list)
    """What did not hold and is known not to."""

    def state_of(self, actor: str) -> ActorState:
        return next(one.state for one in self.actors if one.name == actor)


class Simulation:
    """Builds and plays the run of one seed, and checks it."""

    def __init__(self, seed: int, kinds: frozenset[Kind] | None = None) -> None:
        self.seed = seed
        self.storm = Storm(seed, kinds)
        self.trace = Trace()
        self._stage: Stage | None = None
        self._lanes: list[SteppedLane] = []

    def play(self) -> Played:
        """The run, from its first epoch to its end; raises `Failed` if an invariant broke."""
        logging.disable(logging.CRITICAL)
        try:
            with moments_as_they_are():
                played = run_simulated(self._main, seed=self.seed, watch=self._look)
            invariants.at_the_end(played)
        except (Violation, Stuck) as error:
            raise Failed(self.seed, error, self.storm, self.trace) from error
        finally:
            logging.disable(logging.NOTSET)
            for lane in self._lanes:
                assert lane.close(0.0), f"the thread of {lane} does not end"
        return played

    def _look(self, now_s: float, name: str) -> None:
        self.trace.step(now_s, name)
        if self._stage is not None:
            invariants.after_step(self._stage)
            if self.trace.steps % LOOK_EVERY == 0:
                invariants.now_and_then(self._stage)

    async def _main(self) -> Played:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        storm, trace = self.storm, self.trace
        clock, governor, threads = JumpingClock(loop), Governor(), StormyThreads(storm)
        lane = SteppedLane(lambda: storm.between("lane", 0.0, 0.001))
        writer = SteppedLane(lambda: storm.between("writer", 0.0, 0.001))
        self._lanes = [lane, writer]
        store, desk = simulated_desk(storm, writer)
        journal = Journal()
        bus, trainer = StormyBus(clock, storm, trace), StormyTrainer(storm, lane, trace, loop.time)
        engine = StormyEngine(SITES, CONFIG.growth, CATALOGUE, self.seed)
        engine.begin(storm, lambda line: trace.add(loop.time(), line))
        policy = draw_policy(storm, CONFIG)
        observation = StormyObservation("sim", policy.version, CONFIG.tamiyo.window_epochs)
        observation.begin(storm)
        play = Play(
            run_id="sim",
            config=CONFIG,
            facts=RunFacts("sim", policy.name, self.seed, "nowhere", epochs=trainer.epochs),
            training=trainer,
            samples=deque(),
            engine=engine,
            controller=Controller(policy, "sim"),
            observation=observation,
            policy_in_thread=storm.stream("threads").random() < 0.7 or Kind.SLOW_POLICY in storm.kinds,
            names={},
            display=StormyDisplay(storm),
            desk=desk,
            journal=journal,
        )
        around = Surroundings(clock, bus, lane, governor, random.Random(self.seed), loop.time, threads)
        company = WatchedCompany(play, around)
        company.system.dead_letters = DeadLetters(LETTERS_MAX)
        weather = Weather(storm, company, clock, trace, loop)
        stage = Stage(loop, lane, company, weather)
        lane.delivered = lambda: setattr(stage, "stalled_at_delivery_s", weather.stalled_s)
        loop.set_exception_handler(lambda _, context: stage.strays.append(_stray(context)))
        self._stage = stage
        run = loop.create_task(company.perform(), name="perform")
        weather.begin(run)
        outcome = await self._ended(run)
        if weather.cut:
            lane.close(0.0)
        await self._written(writer)
        await weather.end()
        threads.end()
        if weather.cut:
            await self._clean_up()
        snapshot = company.system.snapshot()
        me = asyncio.current_task()
        await asyncio.sleep(0)
        return Played(
            storm=storm,
            trace=trace,
            trainer=trainer,
            engine=engine,
            observation=observation,
            bus=bus,
            governor=governor,
            recorded=company.witness.recorder.recorded,
            conclusion=outcome.conclusion if outcome is not None else None,
            cut=weather.cut,
            actors=snapshot.actors,
            errors={name: one.last_error for name, one in company.system._supervisors.items()},
            letters=company.system.dead_letters.listed(),
            left_running=sorted(task.get_name() for task in asyncio.all_tasks() if task is not me),
            timers_left=[] if weather.cut else loop.timers(),
            took_s=loop.time(),
            saved=store.saved,
            on_disk=journal.scribe.wait(lambda book: book.reports.pending(PENDING_MAX)).reports,
        )

    async def _written(self, writer: SteppedLane) -> None:
        """The session waits for the writer before it leaves."""
        while writer.idle_since_s is None:  # noqa: ASYNC110 - of virtual time there is enough
            await asyncio.sleep(0.01)

    async def _clean_up(self) -> None:
        """What asyncio's runner does once the main task was cancelled: all others are, and waited for."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in sorted(others, key=asyncio.Task.get_name):
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=invariants.ACTORS_S)

    async def _ended(self, run: "asyncio.Task[Outcome]") -> Outcome | None:
        done, _ = await asyncio.wait({run}, timeout=LIMIT_S)
        if not done:
            raise Violation(f"the run has not ended after {LIMIT_S:g} s")
        return None if run.cancelled() else run.result()


def _stray(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"


def simulate(seed: int, kinds: frozenset[Kind] | None = None) -> Played:
    """Play the run of one seed; raises `Failed` if an invariant broke."""
    return Simulation(seed, kinds).play()
