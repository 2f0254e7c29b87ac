"""What Tolaria is told, and what it works with."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import msgspec

from actors.alarms import RunAlarms
from actors.deciding import Counsel
from actors.keeping import Keeper, Wrote
from actors.lane import Lane
from actors.minds import Minds, Remembered
from actors.oona.bus import Bus
from actors.orders import Orders
from actors.runtime import ActorRef
from actors.turn import Opened, Training, Turned, TurnTools
from contracts.control import Look
from contracts.growth import ProbePlan, ProbeReport
from contracts.messages import FieldReport
from contracts.report import RollbackFacts
from esper.boundary import Boundary
from esper.breaker import BreakerMemory
from esper.kasmina.stock import Stock
from esper.moment import Moment, WitnessMemory
from esper.tolaria.emergency import Emergencies
from esper.tolaria.results import Assembled, FinalFigures


class Begin(msgspec.Struct, frozen=True):
    """Train the first epoch, or go on from the moment that the workplace names."""


class Halt(msgspec.Struct, frozen=True):
    """End the run after the present step: because someone asked for it, or because it must not go on."""

    reason: str
    emergency: bool = False
    at_once: bool = False
    """The training thread does not come back: nobody waits for it, and the network is not judged."""


class GoBack(msgspec.Struct, frozen=True):
    """At the end of this epoch return to the boundary before it."""

    reason: str


class KeepNow(msgspec.Struct, frozen=True):
    """Have the newest moment on disk, due or not."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What follows a boundary while training runs is done: the survey, and what everyone remembers."""

    epoch: int
    probe: ProbePlan | None
    remembered: Remembered | None
    nonsense: str = ""
    life: int = 0
    """Rollbacks by then: what was prepared before one is of no use after it."""


class Available(msgspec.Struct, frozen=True):
    """The controller has answered what was overdue."""


@dataclass(frozen=True, slots=True)
class Finalised:
    """The finished network has been judged."""

    final: FinalFigures


Submit: TypeAlias = Callable[[Callable[[], Turned | Opened | Finalised]], None]
"""Gives the training lane a job; Tolaria is told what comes of it."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How the run ended; at most one of `halted` and `interrupted` holds a reason."""

    final: FinalFigures | None = None
    halted: str = ""
    interrupted: str = ""
    reports: tuple[FieldReport, ...] = ()
    """Field reports on the windows that were open at the end."""


class Witness(Protocol):
    """Is told the facts of the run as they happen; it has to be quick."""

    def boundary(self, boundary: Boundary) -> None: ...
    def reached(self, epoch: int) -> None: ...
    def last_epoch(self, assembled: Assembled) -> None: ...
    def probe(self, report: ProbeReport) -> None: ...
    def alert(self, name: str, text: str) -> None: ...
    def wrote(self, wrote: Wrote) -> None: ...
    def rolled_back(self, memory: WitnessMemory, facts: RollbackFacts) -> None: ...
    def memory(self) -> WitnessMemory: ...
    def event_id(self, name: str) -> str:
        """The id of what is told once an epoch: another one when the epoch comes again after a rollback."""

    def tell_others(self) -> None:
        """Training runs again: there is time to publish."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What Tolaria works with; all of it outlives a restart."""

    training: Training
    lane: Lane
    tools: TurnTools
    bus: Bus
    minds: Minds
    counsel: Counsel
    witness: Witness
    emergencies: Emergencies
    alarms: RunAlarms
    keeper: Keeper
    orders: Orders
    breakers: Callable[[], dict[str, BreakerMemory]]
    """As they stand while no operation of the engine is under way."""
    done: asyncio.Future[Conclusion]
    start: Moment | None = None
    """Where the run goes on; None at its beginning."""
    before: Callable[[], Iterable[Moment]] = tuple
    """Reads earlier moments that it may go back to, the oldest first; nobody but the keeper holds them."""
    prefetch: ActorRef[Look] | None = None
    """Is shown how growth stands after each boundary; None if nothing is fetched ahead."""
    stock: Stock | None = None
