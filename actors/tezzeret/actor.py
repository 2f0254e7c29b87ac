"""Tezzeret's shell: has a smith make what is asked for, announces what came of it and tells how it stands."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from actors.runtime import Actor, ActorStopped, MailboxFull, handles
from actors.tezzeret.shop import Announce, Announcement, Standing
from actors.tezzeret.smith import Smith
from contracts.kernels import KernelSpec

STOP_S: Final = 0.2
"""Seconds for the smith to end; its processes are dead by then, its thread is left to itself after that."""
MakeSmith: TypeAlias = Callable[[Announce], Smith]


@dataclass(frozen=True, slots=True)
class Prefetch:
    """These kernels will be needed, in order of likely use."""

    specs: tuple[KernelSpec, ...]


@dataclass(frozen=True, slots=True)
class Conservative:
    """Take little of the machine, or as much as usual again."""

    on: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """The smith has something to announce."""


class SmithBroke(RuntimeError):
    """The smith's thread ended with an error; a restart makes another smith."""


class Tezzeret(Actor[Prefetch | Conservative | Heard]):
    """Never waits for a compiler: a smith of its own threads does, made anew with each start.

    `announce` gets what becomes known of each kernel, and `stands` how the smith stands whenever that has
    changed; both on the event loop.
    """

    critical = False
    mailbox_size = 64

    def __init__(
        self,
        make_smith: MakeSmith,
        announce: Callable[[Announcement], None],
        stands: Callable[[Standing], None],
    ) -> None:
        self._make_smith = make_smith
        self._announce = announce
        self._stands = stands
        self._heard: deque[Announcement] = deque()
        self._standing = self._told = Standing()
        self._posted = False
        self._smith: Smith | None = None

    async def on_start(self) -> None:
        self._smith = self._make_smith(self._hear)
        self._smith.start()

    async def on_stop(self) -> None:
        smith = self._smith
        if smith is not None:
            await self.context.threads.run(lambda: smith.stop(STOP_S))

    @handles
    async def on_prefetch(self, message: Prefetch) -> None:
        assert self._smith is not None, "started before the first message"
        self._smith.prefetch(message.specs)

    @handles
    async def on_conservative(self, message: Conservative) -> None:
        assert self._smith is not None, "started before the first message"
        self._smith.conserve(message.on)

    @handles
    async def on_heard(self, message: Heard) -> None:
        self._posted = False  # before they are taken: one that comes now is either taken or posted for
        while self._heard:
            self._announce(self._heard.popleft())
        standing = self._standing
        if standing != self._told:
            self._told = standing
            self._stands(standing)
        if standing.broken:
            raise SmithBroke(standing.broken)

    def _hear(self, told: Announcement | Standing) -> None:
        """From the smith's thread: one wake-up of the loop for all that waits there."""
        if isinstance(told, Standing):
            self._standing = told
        else:
            self._heard.append(told)
        if self._posted:
            return
        self._posted = True
        try:
            self.context.me.post_from_thread(Heard())
        except ActorStopped:
            pass  # nobody wants to know any more
        except MailboxFull:
            self._posted = False  # with the next that is told
