"""What the addresses of one system share: its asks in flight, who asks whom, and post from other threads."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from actors.runtime.asks import Ask, Sweeper
from actors.runtime.errors import ActorStopped, MailboxFull, UndeclaredAsk
from actors.runtime.mailbox import Mailbox
from actors.runtime.ref import ActorRef

POSTED_MAX = 256
"""Messages from other threads that the loop has not yet taken; the next one is refused."""


class Desk:
    """Made with the system, opened when it starts, closed when it has stopped."""

    def __init__(self, monotonic: Callable[[], float], bury: Callable[[str, object, str], None]) -> None:
        self._monotonic = monotonic
        self._bury = bury
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: Sweeper | None = None
        self._callers: dict[asyncio.Task[None], tuple[str, tuple[str, ...]]] = {}
        self._posted: deque[tuple[ActorRef[Any], object]] = deque()

    def open(self) -> None:
        """Take asks and post from now on, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._sweeper = Sweeper(self._loop, self._monotonic)

    def close(self) -> None:
        """Refuse asks and post."""
        if self._sweeper is not None:
            self._sweeper.close()
        self._loop = self._sweeper = None
        while self._posted:
            ref, message = self._posted.popleft()
            self._bury(ref.name, message, "the system stopped")

    @property
    def open_asks(self) -> int:
        """Asks without an answer yet."""
        return 0 if self._sweeper is None else len(self._sweeper)

    # Asks ------------------------------------------------------------------------------------------

    def enter(
        self, coroutine: Coroutine[Any, Any, None], name: str, asks: tuple[str, ...]
    ) -> asyncio.Task[None]:
        """Run an actor's life in a task of its own, whose asks are checked against `asks`."""
        assert self._loop is not None, "opened before any actor lives"
        task = self._loop.create_task(coroutine, name=f"actor {name}")
        self._callers[task] = (name, asks)
        task.add_done_callback(self._callers.pop)
        return task

    def ask(self, mailbox: Mailbox, message: object, deadline_s: float, urgent: bool) -> Ask[object]:
        """Queue a request and watch its deadline; see `ActorRef.ask`."""
        target = mailbox.actor
        if self._loop is None or self._sweeper is None:
            raise ActorStopped(target, "not running: its system is not started")
        self._check_declared(target)
        if mailbox.no_answer is not None:
            raise mailbox.no_answer()
        ask: Ask[object] = Ask(target, message, deadline_s, self._monotonic(), self._loop)
        if not deadline_s > 0:
            ask.expire()
            return ask
        mailbox.offer(ask, urgent=urgent)
        self._sweeper.add(ask)
        return ask

    def answered(self, ask: Ask[object]) -> None:
        """Stop watching the deadline of `ask`."""
        if self._sweeper is not None:
            self._sweeper.discard(ask)

    def _check_declared(self, target: str) -> None:
        task = asyncio.current_task(self._loop)
        caller = None if task is None else self._callers.get(task)
        if caller is not None and target not in caller[1]:
            raise UndeclaredAsk(caller[0], target, caller[1])

    # Other threads ---------------------------------------------------------------------------------

    def post(self, ref: ActorRef[Any], message: object) -> None:
        """Have the loop tell `message` to `ref`; callable from any thread."""
        loop = self._loop
        if loop is None:
            raise ActorStopped(ref.name, "not running: its system is not started")
        if len(self._posted) >= POSTED_MAX:
            raise MailboxFull(ref.name, "thread post", POSTED_MAX)
        self._posted.append((ref, message))
        try:
            loop.call_soon_threadsafe(self._take_posted)
        except RuntimeError as error:  # the loop closed after we looked
            raise ActorStopped(ref.name, "not running: its event loop is closed") from error

    def _take_posted(self) -> None:
        if not self._posted:
            return
        ref, message = self._posted.popleft()
        try:
            ref.tell(message)  # queued, or waiting for a slot, when this returns
        except MailboxFull:
            self._bury(ref.name, message, "posted from a thread into a full mailbox")
