"""Who and what a simulated run consists of, while it goes on and afterwards."""

from collections import deque
from dataclasses import dataclass, field
from typing import cast

from actors.company import Company
from actors.nissa.journal import Journal
from actors.play import Play
from actors.runtime import ActorSnapshot, ActorState, DeadLetter
from actors.runtime.governor import Governor
from actors.runtime.simulation import SimulatedLoop
from actors.turn import Training
from actors.workplace import Conclusion
from contracts import topics
from contracts.config import Config
from contracts.messages import FieldReport
from contracts.view import RunFacts
from esper.karn.catalogue import CATALOGUE
from esper.moment import Moment
from esper.report.record import Recorded
from esper.tamiyo.controller import Controller
from tests.actors.fakes import SITES
from tests.simulation.disk import simulated_desk
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
from tests.simulation.scribe import SimulatedScribe, slow_now_and_then
from tests.simulation.storm import Kind, Storm
from tests.simulation.trace import Trace
from tests.simulation.weather import Weather


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


class Cast:
    """Everything that takes part in the run of one storm, in its stormy version."""

    def __init__(self, loop: SimulatedLoop, storm: Storm, trace: Trace, config: Config) -> None:
        self.clock, self.governor, self.threads = JumpingClock(loop), Governor(), StormyThreads(storm)
        self.lane = SteppedLane(lambda: storm.between("lane", 0.0, 0.001))
        self.writer = SteppedLane(lambda: storm.between("writer", 0.0, 0.001))
        self.store, self.desk = simulated_desk(storm, self.writer)
        slow = Kind.SLOW_JOURNAL in storm.kinds
        self.scribe = SimulatedScribe(slow_now_and_then(storm)) if slow else None
        self.journal = Journal(scribe=self.scribe)
        self.bus = StormyBus(self.clock, storm, trace)
        self.trainer = StormyTrainer(storm, self.lane, trace, loop.time)
        self.engine = StormyEngine(SITES, config.growth, CATALOGUE, storm.seed)
        self.engine.begin(storm, lambda line: trace.add(loop.time(), line))
        self.policy = draw_policy(storm, config)
        self.observation = StormyObservation("sim", self.policy.version, config.tamiyo.window_epochs)
        self.observation.begin(storm)

    def play(self, storm: Storm, config: Config) -> Play:
        """What they play."""
        facts = RunFacts("sim", self.policy.name, storm.seed, "nowhere", epochs=self.trainer.epochs)
        return Play(
            run_id="sim",
            config=config,
            facts=facts,
            training=cast(Training, self.trainer),
            samples=deque(),
            engine=self.engine,
            controller=Controller(self.policy, "sim"),
            observation=self.observation,
            policy_in_thread=storm.stream("threads").random() < 0.7 or Kind.SLOW_POLICY in storm.kinds,
            names={},
            display=StormyDisplay(storm),
            desk=self.desk,
            journal=self.journal,
        )

    def announced(self) -> list[FieldReport]:
        """The reports that were published so far."""
        return self.bus.sent_of(topics.FIELD_REPORT, FieldReport)


@dataclass
class Scene:
    """All that the watch looks at while the run goes on."""

    loop: SimulatedLoop
    lane: SteppedLane
    company: WatchedCompany
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
    """Reports that had been announced when the run ended, or was cut off."""

    def delivered(self) -> None:
        """A job is over."""
        self.stalled_at_delivery_s, self.last_job_s = self.weather.stalled_s, self.loop.time()


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
