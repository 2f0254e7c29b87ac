"""Messages and actors that the runtime's tests share."""

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

import msgspec

from actors.runtime import Actor, ActorRef, ActorSystem, Escalated, InlineThreads, LoopClock, handles
from actors.runtime.simulation import run_simulated
from contracts.request import Request

P = ParamSpec("P")
T = TypeVar("T")


class Note(msgspec.Struct, frozen=True):
    """Written down by a `Notebook`."""

    n: int


class Break(msgspec.Struct, frozen=True):
    """Makes the handler raise."""

    why: str = "broken"


class Rest(msgspec.Struct, frozen=True):
    """Keeps the handler busy for some seconds."""

    seconds: float


class Read(msgspec.Struct, Request[list[int]], frozen=True):
    """Asks for what was written down."""


class BreakAsk(msgspec.Struct, Request[int], frozen=True):
    """Makes the handler of a request raise."""


NotebookMessage = Note | Break | Rest | Read | BreakAsk


class Notebook(Actor[NotebookMessage]):
    """Writes notes into a list that outlives it."""

    def __init__(self, notes: list[int] | None = None, life: list[str] | None = None) -> None:
        self.notes = [] if notes is None else notes
        self.life = [] if life is None else life

    async def on_start(self) -> None:
        self.life.append(f"{self.context.name} started")

    async def on_stop(self) -> None:
        self.life.append(f"{self.context.name} stopped")

    @handles
    async def note(self, message: Note) -> None:
        self.notes.append(message.n)

    @handles
    async def fail(self, message: Break) -> None:
        raise ValueError(message.why)

    @handles
    async def rest(self, message: Rest) -> None:
        await self.context.clock.sleep(message.seconds)

    @handles
    async def read(self, message: Read) -> list[int]:
        return list(self.notes)

    @handles
    async def fail_answer(self, message: BreakAsk) -> int:
        raise ValueError("no answer")


def make_system(seed: int = 1, on_escalation: Callable[[Escalated], None] | None = None) -> ActorSystem:
    """A system on the running (simulated) loop; its wall clock starts at the epoch."""
    clock = LoopClock(asyncio.get_running_loop(), wall_ns=0)
    return ActorSystem(clock, random.Random(seed), on_escalation=on_escalation, threads=InlineThreads())


def simulated(main: Callable[[], Coroutine[Any, Any, T]], seed: int = 7) -> T:
    """Run a test's coroutine in virtual time."""
    return run_simulated(main, seed=seed)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine, run on the simulated loop."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        simulated(lambda: test(*args, **kwargs))

    return run


@asynccontextmanager
async def running(
    make: Callable[[], Actor[Any]] = Notebook,
    name: str = "book",
    on_escalation: Callable[[Escalated], None] | None = None,
) -> AsyncIterator[tuple[ActorSystem, ActorRef[Any]]]:
    """A system of one actor from its start to its stop; it can be asked afterwards, too."""
    system = make_system(on_escalation=on_escalation)
    ref = system.spawn(name, make)
    async with system:
        yield system, ref
