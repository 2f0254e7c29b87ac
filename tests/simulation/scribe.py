"""A journal in virtual time: what is handed over is on the disk after a while, in its order, or never."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from actors.scribe import Broken, InlineScribe
from contracts.messages import FieldReport
from esper.journal.book import Book
from tests.simulation.storm import Kind, Storm

T = TypeVar("T")

QUICK_S = 0.001
SLOW_S = 0.3


def slow_now_and_then(storm: Storm) -> Callable[[], float]:
    """What a storm's disk takes."""

    def takes_s() -> float:
        slow = storm.strikes(Kind.SLOW_JOURNAL, "journal", 0.5)
        return storm.between("journal", QUICK_S, SLOW_S) if slow else QUICK_S

    return takes_s


class SimulatedScribe(InlineScribe):
    """A scribe whose disk takes its time; where the process ends, it loses what was not on the disk."""

    def __init__(self, takes_s: Callable[[], float]) -> None:
        """`takes_s` gives the seconds that the next piece of work takes, with all that comes meanwhile."""
        super().__init__()
        self._takes_s = takes_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Callable[[], None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._cut = False

    def post(
        self, work: Callable[[Book], object], size: int = 0, landed: Callable[[], None] | None = None
    ) -> bool:
        if self.broken or self._closed:
            return False

        def write() -> None:
            self.wait(work)
            if landed is not None:
                landed()

        self._put(write)
        return True

    async def run(self, work: Callable[[Book], T], *, hurry: bool = False) -> T:
        outcome: asyncio.Future[T] = self._loop.create_future()

        def write() -> None:
            try:
                result = self.wait(work)
            except Broken as error:
                if not outcome.done():
                    outcome.set_exception(error)
            else:
                if not outcome.done():
                    outcome.set_result(result)

        self._put(write)
        return await outcome

    def cut(self) -> None:
        """The process ends: what waits is lost."""
        self._cut = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def finish(self) -> None:
        """Write what waits."""
        while self._waiting:
            self._waiting.popleft()()
        if self._timer is not None:
            self._timer.cancel()

    def _put(self, write: Callable[[], None]) -> None:
        if self._cut:
            return
        self._waiting.append(write)
        if self._timer is None:
            self._timer = self._loop.call_later(self._takes_s(), self._write)

    def _write(self) -> None:
        """All that has been handed over by now, in one go."""
        self._timer = None
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()


def not_on_disk(sent: Iterable[FieldReport], book: Book) -> list[str]:
    """Ids of what was announced and is not there."""
    ids = sorted({report.report_id for report in sent})
    return [one for one in ids if not book.number("SELECT count(*) FROM reports WHERE report_id = ?", one)]
