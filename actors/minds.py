"""What the actors of a run remember: asked for at a quiet moment, given back in the order of a rollback.

An answer comes after everything that the actor was told before, so that what is asked once a boundary has
been told is what the run goes on from.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeAlias

from actors.kasmina import Adapt, Commit, RecallEngine, RememberEngine
from actors.reports import RecallWindows, RememberWindows
from actors.runtime import ActorError, ActorRef, sent
from actors.tamiyo import RecallPolicy, RememberPolicy
from contracts.control import CloseWindows, Decided, Evaluate, Ready, Survey
from esper.kasmina.engine import EngineState
from esper.moment import Memories
from esper.tamiyo.controller import ControllerMemory
from esper.tamiyo.observation import ObservationMemory

Answers: TypeAlias = Awaitable[
    tuple[ControllerMemory | BaseException, ObservationMemory | BaseException, EngineState | BaseException]
]
"""What Tamiyo, the reports and Kasmina say, each for itself."""
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
    """What they remember now; None if one of them does not answer."""
    return await remembered(ask_memories(minds))


def ask_memories(minds: Minds) -> Answers:
    """Ask them all now; what comes is for `remembered`."""
    return asyncio.gather(
        sent(lambda: minds.tamiyo.ask(RememberPolicy(), deadline_s=REMEMBER_S)),
        sent(lambda: minds.reports.ask(RememberWindows(), deadline_s=REMEMBER_S)),
        sent(lambda: minds.kasmina.ask(RememberEngine(), deadline_s=REMEMBER_S)),
        return_exceptions=True,  # whoever fails, the others are heard out
    )


async def remembered(answers: Answers) -> Remembered | None:
    """What they remembered when they were asked; None if one of them does not answer."""
    controller, windows, engine = await answers
    for answer in (controller, windows, engine):
        if isinstance(answer, BaseException) and not isinstance(answer, ActorError):
            raise answer
    if isinstance(controller, BaseException) or isinstance(windows, BaseException):
        return None
    return None if isinstance(engine, BaseException) else Remembered(controller, windows, engine)


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
