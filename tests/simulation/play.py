"""One simulated run: the real system on a seeded loop, with a storm over it."""

import asyncio
import logging
import random
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from actors.company import Company, Outcome, Play, Surroundings
from actors.nissa.journal import Journal
from actors.runtime import ActorSnapshot, ActorState, DeadLetter
from actors.runtime.dead_letters import DeadLetters
from actors.runtime.governor import Governor
from actors.runtime.simulation import SimulatedLoop, Stuck, run_simulated
from actors.tolaria import Conclusion
from contracts import topics
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
from tests.simulation.scribe import SimulatedScribe, not_on_disk, slow_now_and_then
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

    def __init__(self, seed: int | None, why: BaseException, storm: Storm, trace: Trace) -> None:
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
    writing: Moment | None = None
    """The moment that was on its way to the disk then."""
    last_job_s: float = 0.0
    """When the newest job was delivered."""
    concluded_at_s: float | None = None
    announced: list[FieldReport] = field(default_factory=list)
    """Reports that were announced when the run was cut off."""

    def delivered(self) -> None:
        """A job is over."""
        self.stalled_at_delivery_s, self.last_job_s = self.weather.stalled_s, self.loop.time()


class WatchedCompany(Company):
    """The company, which says whether it has come to its conclusion."""

    @property
    def concluded(self) -> bool:
        return self._done.done()

    @property
    def failed(self) -> str:
        """How the actor that trains failed; empty while it has not."""
        ended = self._done.done() and not self._done.cancelled()
        halted = self._done.result().halted if ended else ""
        return halted if "has failed for good" in halted else ""


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
    newest: Moment | None
    """Of what has happened."""
    on_disk: tuple[FieldReport, ...]
    """Reports that nobody has acknowledged."""
    lost_reports: list[str]
    """Announced, and not on the disk."""
    open: list[str] = field(default_factory=list)
    """What did not hold and is known not to."""

    def state_of(self, actor: str) -> ActorState:
        return next(one.state for one in self.actors if one.name == actor)


class Simulation:
    """Builds and plays the run of one seed, and checks it."""

    def __init__(
        self, storm: Storm, order: int | None, config: Config = CONFIG, limit_s: float = LIMIT_S
    ) -> None:
        """`order` is the seed of the loop's order; None is first in, first out."""
        self.storm = storm
        self._order = order
        self._config = config
        self._limit_s = limit_s
        self.trace = Trace()
        self._stage: Stage | None = None
        self._lanes: list[SteppedLane] = []

    def play(self) -> Played:
        """The run, from its first epoch to its end; raises `Failed` if an invariant broke."""
        logging.disable(logging.CRITICAL)
        try:
            with moments_as_they_are():
                played = run_simulated(self._main, seed=self._order, watch=self._look)
            invariants.at_the_end(played)
        except (Violation, Stuck) as error:
            raise Failed(self._order, error, self.storm, self.trace) from error
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
        storm, trace, config = self.storm, self.trace, self._config
        clock, governor, threads = JumpingClock(loop), Governor(), StormyThreads(storm)
        lane = SteppedLane(lambda: storm.between("lane", 0.0, 0.001))
        writer = SteppedLane(lambda: storm.between("writer", 0.0, 0.001))
        self._lanes = [lane, writer]
        store, desk = simulated_desk(storm, writer)
        scribe = SimulatedScribe(slow_now_and_then(storm)) if Kind.SLOW_JOURNAL in storm.kinds else None
        journal = Journal(scribe=scribe)
        bus, trainer = StormyBus(clock, storm, trace), StormyTrainer(storm, lane, trace, loop.time)
        engine = StormyEngine(SITES, config.growth, CATALOGUE, storm.seed)
        engine.begin(storm, lambda line: trace.add(loop.time(), line))
        policy = draw_policy(storm, config)
        observation = StormyObservation("sim", policy.version, config.tamiyo.window_epochs)
        observation.begin(storm)
        play = Play(
            run_id="sim",
            config=config,
            facts=RunFacts("sim", policy.name, storm.seed, "nowhere", epochs=trainer.epochs),
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
        around = Surroundings(clock, bus, lane, governor, random.Random(storm.seed), loop.time, threads)
        company = WatchedCompany(play, around)
        company.system.dead_letters = DeadLetters(LETTERS_MAX)
        weather = Weather(storm, company, clock, trace, loop)
        stage = Stage(loop, lane, company, weather)

        def cut() -> None:
            stage.announced = bus.sent_of(topics.FIELD_REPORT, FieldReport)
            if scribe is not None:
                scribe.cut()

        weather.when_cut = cut
        lane.delivered = stage.delivered
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
        elif scribe is not None:
            scribe.finish()
        snapshot = company.system.snapshot()
        announced = stage.announced if weather.cut else bus.sent_of(topics.FIELD_REPORT, FieldReport)
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
            newest=company.keeper._newest,
            on_disk=journal.scribe.wait(lambda book: book.reports.pending(PENDING_MAX)).reports,
            lost_reports=journal.scribe.wait(partial(not_on_disk, announced)),
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
        done, _ = await asyncio.wait({run}, timeout=self._limit_s)
        if not done:
            raise Violation(f"the run has not ended after {self._limit_s:g} s")
        return None if run.cancelled() else run.result()


def _stray(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"


def simulate(seed: int, kinds: frozenset[Kind] | None = None) -> Played:
    """Play the run of one seed; raises `Failed` if an invariant broke."""
    return Simulation(Storm(seed, kinds), seed).play()
