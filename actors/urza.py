"""Urza acts: asks and changes the library, in a thread of its own; the event loop never waits for a disk."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias, TypeVar

import msgspec

from actors.lane import JobFailed, Lane
from actors.runtime import Actor, handles
from contracts.kernels import KernelSpec
from contracts.request import Request
from esper.karn.blueprint import BlueprintError
from esper.karn.catalogue import UnknownBlueprint
from esper.urza.errors import UrzaError
from esper.urza.kernel import Kernel
from esper.urza.library import Library

T = TypeVar("T")
Refused: TypeAlias = UrzaError | BlueprintError | UnknownBlueprint
"""Why there is no answer. It is an answer itself: the store goes on, and so does the actor."""
CLOSE_S = 1.0
"""Longest wait for the thread once the library is closed."""


class Fetch(msgspec.Struct, Request[Kernel | Refused], frozen=True):
    """A verified module of one's own."""

    spec: KernelSpec


class Want(msgspec.Struct, Request[bool | Refused], frozen=True):
    """Put a kernel on the durable list of work, for whoever wants it: a run, or nobody in particular."""

    spec: KernelSpec
    wanter: str = ""


class WantedSpec(msgspec.Struct, Request[KernelSpec | Refused | None], frozen=True):
    """Which one on the list of work has this key?"""

    key: str


class GivenUp(msgspec.Struct, Request[dict[str, str] | Refused], frozen=True):
    """Why, by the key of the design, for what can't be made?"""


class Hold(msgspec.Struct, Request[Refused | None], frozen=True):
    """Keep an artifact from being collected."""

    ref: str
    holder: str


class LetGo(msgspec.Struct, Request[Refused | None], frozen=True):
    """Let go one artifact that is held for a holder."""

    ref: str
    holder: str


UrzaMessage: TypeAlias = Fetch | Want | WantedSpec | GivenUp | Hold | LetGo


class Urza(Actor[UrzaMessage]):
    """The shell around a library, which it uses in one lane: opened by the first question, closed at the end.

    Not critical: without it the run builds its modules itself. What can't be answered is answered with the
    reason, a store that can't be opened included, and the next question tries again; any other error is a
    fault of ours, and the actor starts anew.
    """

    critical = False
    mailbox_size = 256

    def __init__(self, open_library: Callable[[], Library], lane: Callable[[], Lane]) -> None:
        self._open_library = open_library
        self._make_lane = lane
        self._library: Library | None = None

    async def on_start(self) -> None:
        self._lane = self._make_lane()

    async def on_stop(self) -> None:
        try:
            await self._run(self._close)
        finally:
            self._lane.close(CLOSE_S)

    @handles
    async def on_fetch(self, message: Fetch) -> Kernel | Refused:
        return await self._asked(lambda library: library.fetch(message.spec))

    @handles
    async def on_want(self, message: Want) -> bool | Refused:
        return await self._asked(lambda library: library.want(message.spec, message.wanter))

    @handles
    async def on_wanted_spec(self, message: WantedSpec) -> KernelSpec | Refused | None:
        return await self._asked(lambda library: library.wanted_spec(message.key))

    @handles
    async def on_given_up(self, _: GivenUp) -> dict[str, str] | Refused:
        return await self._asked(lambda library: library.given_up())

    @handles
    async def on_hold(self, message: Hold) -> Refused | None:
        return await self._asked(lambda library: library.hold(message.ref, message.holder))

    @handles
    async def on_let_go(self, message: LetGo) -> Refused | None:
        return await self._asked(lambda library: library.let_go(message.ref, message.holder))

    async def _asked(self, work: Callable[[Library], T]) -> T | Refused:
        try:
            return await self._run(lambda: work(self._opened()))
        except (UrzaError, BlueprintError, UnknownBlueprint) as error:
            return error

    def _opened(self) -> Library:
        """In the lane, as all use of the library."""
        if self._library is None:
            self._library = self._open_library()
        return self._library

    def _close(self) -> None:
        if self._library is not None:
            self._library.close()

    async def _run(self, work: Callable[[], T]) -> T:
        """Do the work in the lane, and wait for it without holding the loop."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        made: list[T] = []

        def settle(failed: BaseException | None) -> None:
            if not outcome.done():
                outcome.set_result(made[0]) if failed is None else outcome.set_exception(failed)

        def deliver(result: object) -> None:
            failed = result.error if isinstance(result, JobFailed) else None
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(settle, failed)

        self._lane.submit(lambda: made.append(work()), deliver)
        return await outcome
