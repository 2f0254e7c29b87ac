"""Kasmina acts: answers commands with plans, and keeps a plan once the trainer has applied it."""

from collections.abc import Mapping
from dataclasses import dataclass

from actors.runtime import Actor, handles
from contracts.growth import Candidate, SeedFigures
from contracts.kernels import KernelSpec
from contracts.messages import AdaptationCommand, WallNs
from contracts.request import Request
from esper.kasmina.engine import Engine, EngineState
from esper.kasmina.plan import Verdict


@dataclass(frozen=True, slots=True)
class Adapt(Request[Verdict]):
    """What would this command, and the epoch's own housekeeping, change?"""

    command: AdaptationCommand
    figures: Mapping[str, SeedFigures]
    epoch: int
    now_ns: WallNs
    params: int
    conservative: bool = False
    resting: bool = False


@dataclass(frozen=True, slots=True)
class KernelsFor(Request[tuple[KernelSpec, ...]]):
    """Which kernels would germinating these take, each as the next at its site? In the same order."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """The trainer has applied this plan."""

    plan_id: str


@dataclass(frozen=True, slots=True)
class RememberEngine(Request[EngineState]):
    """What does the engine go on from?"""


@dataclass(frozen=True, slots=True)
class RecallEngine(Request[bool]):
    """Go back to this; True once it is done."""

    state: EngineState


class Kasmina(Actor[Adapt | KernelsFor | Commit | RememberEngine | RecallEngine]):
    """The shell around the grafting engine, which outlives a restart of the shell."""

    mailbox_size = 64

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @handles
    async def on_adapt(self, message: Adapt) -> Verdict:
        return self._engine.propose(
            message.command,
            message.figures,
            message.epoch,
            message.now_ns,
            message.params,
            conservative=message.conservative,
            resting=message.resting,
        )

    @handles
    async def on_kernels_for(self, message: KernelsFor) -> tuple[KernelSpec, ...]:
        specs = [self._engine.kernel_for(candidate) for candidate in message.candidates]
        return tuple({spec.key: spec for spec in specs if spec is not None}.values())

    @handles
    async def on_commit(self, message: Commit) -> None:
        self._engine.commit(message.plan_id)

    @handles
    async def on_remember_engine(self, _: RememberEngine) -> EngineState:
        return self._engine.state()

    @handles
    async def on_recall_engine(self, message: RecallEngine) -> bool:
        self._engine.restore(message.state)
        return True
