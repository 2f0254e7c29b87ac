"""What the actors of a run remember: asked for at a quiet moment, given back in the order of a rollback.

An answer comes after everything that the actor was told before, so that what is asked once a boundary has
been told is what the run goes on from.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from actors.kasmina import Adapt, Commit, RecallEngine, RememberEngine
from actors.reports import RecallWindows, RememberWindows
from actors.runtime import ActorError, ActorRef
from actors.tamiyo import RecallPolicy, RememberPolicy
from contracts.control import CloseWindows, Decided, Evaluate, Ready, Survey
from esper.kasmina.engine import EngineState
from esper.moment import Memories
from esper.tamiyo.controller import ControllerMemory
from esper.tamiyo.observation import ObservationMemory

T = TypeVar("T")

REMEMBER_S = 2.0
"""For what is asked while training runs, behind a survey that may take its own time."""
RECALL_S = 5.0
"""For what is asked while training stands still."""


@dataclass(frozen=True, slots=True)
class Minds:
    """Who remembers something."""

    tamiyo: ActorRef[Evaluate | Survey | Ready | RememberPolicy | RecallPolicy]
    reports: ActorRef[Decided | CloseWindows | RememberWindows | RecallWindows]
    kasmina: ActorRef[Adapt | Commit | RememberEngine | RecallEngine]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What they remember after one boundary."""

    controller: ControllerMemory
    windows: ObservationMemory
    engine: EngineState


async def remember(minds: Minds) -> Remembered | None:
    """What they remember now; None if one of them does not answer. All are asked at once, and waited for."""
    controller, windows, engine = await asyncio.gather(
        _asked(lambda: minds.tamiyo.ask(RememberPolicy(), deadline_s=REMEMBER_S)),
        _asked(lambda: minds.reports.ask(RememberWindows(), deadline_s=REMEMBER_S)),
        _asked(lambda: minds.kasmina.ask(RememberEngine(), deadline_s=REMEMBER_S)),
    )
    if controller is None or windows is None or engine is None:
        return None
    return Remembered(controller, windows, engine)


async def _asked(ask: Callable[[], Awaitable[T]]) -> T | None:
    """The answer; None if there is none, and the others are heard out all the same."""
    try:
        return await ask()
    except ActorError:
        return None


async def recall(minds: Minds, memories: Memories) -> tuple[str, ...]:
    """Have them go back: Tamiyo with her windows first, then Kasmina.

    Who decides is not needed to train on: a policy that does not answer is passed over, and named in what
    is returned.

    Raises:
        ActorError: the grafting engine has not gone back. It is as it was.
    """
    passed_over: list[str] = []
    try:
        await minds.tamiyo.ask(RecallPolicy(memories.controller), deadline_s=RECALL_S)
    except ActorError as error:
        passed_over.append(f"the policy goes on with what it knew: {error}")
    try:
        await minds.reports.ask(RecallWindows(memories.windows), deadline_s=RECALL_S)
    except ActorError as error:
        passed_over.append(f"the observation windows stay as they are: {error}")
    await minds.kasmina.ask(RecallEngine(memories.engine), deadline_s=RECALL_S)
    return tuple(passed_over)
