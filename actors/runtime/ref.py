"""The address of an actor: all that others hold of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from actors.runtime.errors import ActorError
from actors.runtime.lanes import DONE
from actors.runtime.mailbox import Mailbox
from contracts.request import Request

if TYPE_CHECKING:
    from actors.runtime.desk import Desk

M = TypeVar("M", contravariant=True)
R = TypeVar("R")


def sent(ask: Callable[[], Awaitable[R]]) -> Awaitable[R]:
    """Send a request now; what is raised at once is raised where the reply is awaited, as all else is."""
    try:
        return ask()
    except ActorError as error:
        failed: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        failed.set_exception(error)
        return failed


class ActorRef(Generic[M]):
    """Sends messages of the types in `M`; stays valid across restarts of the actor behind it."""

    __slots__ = ("_desk", "_mailbox", "_open_below", "_queue", "name")

    def __init__(self, name: str, mailbox: Mailbox, desk: "Desk") -> None:
        self.name = name
        self._mailbox = mailbox
        self._queue = mailbox.queue
        self._desk = desk
        self._open_below = 0
        mailbox.watch(self._moved)

    def __repr__(self) -> str:
        return f"ActorRef({self.name!r})"

    def tell(self, message: M, urgent: bool = False) -> Awaitable[None]:
        """Send and go on; awaiting it waits for a slot where a full receiver makes senders wait.

        The message is on its way when this returns, awaited or not. Raises `MailboxFull` where the
        receiver refuses. A stopped receiver makes it a dead letter, without an error.
        """
        # `urgent` is positional on purpose: a keyword-only default makes this call 4 % of a tell slower.
        if len(self._queue) < self._open_below and not urgent:
            self._queue.append(message)
            return DONE
        return self._mailbox.offer(message, urgent=urgent)

    def tell_nowait(self, message: M, *, urgent: bool = False) -> None:
        """Send now or raise `MailboxFull`; a receiver that drops its oldest takes it always."""
        self._mailbox.offer_nowait(message, urgent=urgent)

    def ask(self, message: Request[R], *, deadline_s: float, urgent: bool = False) -> Awaitable[R]:
        """Send a request; awaiting it gives the handler's reply.

        `deadline_s` is in seconds from now, waiting for a slot included; a request that is still queued
        then is not run. Raises `AskTimeout`, `AskFailed` (the handler's error is its cause),
        `ActorStopped`, `ActorRestarting`, or at once `MailboxFull` and `UndeclaredAsk`.
        """
        reply = self._desk.ask(self._mailbox, message, deadline_s, urgent)
        return cast(
            "Awaitable[R]", reply
        )  # handlers of a Request[R] return R: checked when the class is made

    def post_from_thread(self, message: M) -> None:
        """Tell from another thread. Wakes the loop, so it is for rare messages: one an epoch, not one a step.

        Raises `MailboxFull` beyond `desk.POSTED_MAX` that the loop has not yet taken, and `ActorStopped`
        when the loop has ended.
        """
        self._desk.post(self, message)

    def _moved(self, open_below: int) -> None:
        self._open_below = open_below
