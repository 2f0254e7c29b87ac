"""Writes a run's journal: a thread of its own, so that nothing on the event loop ever waits for a disk.

What is handed over within a quarter of a second, or until someone is in a hurry, is one transaction: each
costs a sync, and a few handovers of the interpreter lock. When the disk fails, what it had not acknowledged
is lost and said to be; nothing is tried again, and nothing more is written. Only a disk that was full is
looked at again now and then: once it has room the journal goes on, and says what it lacks.
"""

import asyncio
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol, TypeVar

import anyio.lowlevel

from esper.database import DatabaseFull, DatabaseUnavailable
from esper.journal.book import Book, in_memory, open_book
from esper.journal.notes import Note, write_down

GROUP_S = 0.25
"""Seconds that the first of a group waits for others, if nobody is in a hurry."""
GROUP_MAX = 1_000
"""Pieces of work in one transaction."""
POSTED_MAX = 10_000
POSTED_BYTES_MAX = 16 << 20
"""What may wait for the disk without anyone waiting for it; more is refused."""
OPEN_S = 30.0
CLOSE_S = 10.0
"""Seconds that the disk may take to open the journal, and to take what is left at the end."""
AGAIN_S = 5.0
"""Seconds until a disk that was full is looked at again; then twice as long each time, at most `AGAIN_MAX_S`,
until it has taken something."""
AGAIN_MAX_S = 300.0
ROOM_BYTES = 4 << 20
"""Free space that there has to be then."""
CLOSED = "the journal is closed"
T = TypeVar("T")


class Broken(Exception):
    """The journal takes nothing more; the text says why."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What a journal lacks that has gone on after its disk had been full."""

    pieces: int
    """Pieces of work that nobody waits for, and that were not done."""
    reason: str


class Scribe(Protocol):
    """Carries out work on the journal, in the order in which it was handed over, each piece wholly or not."""

    @property
    def broken(self) -> str:
        """Why nothing more is written; empty while it is."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be told of the journal that was found."""

    @property
    def gap(self) -> Gap | None:
        """What is missing up to where it went on last; None if it never broke off."""

    def post(
        self, work: Callable[[Book], object], size: int = 0, landed: Callable[[], None] | None = None
    ) -> bool:
        """Have it done some time. False if too much waits already, or the journal is broken.

        `landed` is called once it is on the disk, from whatever thread. `size` is in bytes.
        """

    def wait(self, work: Callable[[Book], T]) -> T:
        """Like `run` in a hurry, for who has no loop to hold up: at the start."""

    async def run(self, work: Callable[[Book], T], *, hurry: bool = False) -> T:
        """What `work` returns, once it is on the disk; with `hurry` that is begun at once.

        Raises `Broken`, or what `work` raises. Whoever waits here hands over nothing else meanwhile: that is
        the bound.
        """

    def close(self) -> None:
        """Finish what was handed over, as far as the disk takes it in time; take nothing more."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A piece of work, and who is told of its end."""

    work: Callable[[Book], object]
    size: int
    settle: Callable[[BaseException | None], None] | None


class ThreadScribe:
    """Writes to a file, in a thread. Made on any thread; `OSError` if the folder isn't there."""

    def __init__(self, path: Path, group_s: float = GROUP_S) -> None:
        path.parent.stat()
        self.broken = ""
        self.notes: tuple[str, ...] = ()
        self.gap: Gap | None = None
        self._path = path
        self._group_s = group_s
        self._lock = threading.Lock()
        self._tasks: deque[_Task] = deque()
        self._posted_bytes = 0
        self._missing = 0
        self._again_s = AGAIN_S
        self._closed = False
        self._ending = threading.Event()
        self._there, self._hurry, opened = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write, args=(opened,), name="esper journal", daemon=True)
        self._thread.start()
        if not opened.wait(OPEN_S):
            self._break(f"the disk did not open {path.name} within {OPEN_S:g} s")

    def post(
        self, work: Callable[[Book], object], size: int = 0, landed: Callable[[], None] | None = None
    ) -> bool:
        full = len(self._tasks) >= POSTED_MAX or self._posted_bytes + size > POSTED_BYTES_MAX
        if full or landed is None:
            return not full and self._put(_Task(work, size, None))
        then = landed  # bound
        return self._put(_Task(work, size, lambda error: then() if error is None else None))

    def wait(self, work: Callable[[Book], T]) -> T:
        done, result, failed = threading.Event(), list[T](), list[BaseException]()

        def settle(error: BaseException | None) -> None:
            failed.extend(() if error is None else (error,))
            done.set()

        self._put_or_raise(_Task(lambda book: result.append(work(book)), 0, settle), hurry=True)
        if not done.wait(OPEN_S):
            raise Broken(f"the disk did not answer within {OPEN_S:g} s")
        if failed:
            raise failed[0]
        return result[0]

    async def run(self, work: Callable[[Book], T], *, hurry: bool = False) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        result: list[T] = []

        def settle(error: BaseException | None) -> None:
            def tell() -> None:
                if done.done():
                    return
                if error is not None:
                    done.set_exception(error)
                else:
                    done.set_result(result[0])

            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(tell)

        self._put_or_raise(_Task(lambda book: result.append(work(book)), 0, settle), hurry=hurry)
        return await done

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._there.set()
        self._ending.set()
        self._hurry.set()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._break(f"the disk did not take what was left within {CLOSE_S:g} s")

    def _put_or_raise(self, task: _Task, *, hurry: bool) -> None:
        if not self._put(task, hurry=hurry):
            raise Broken(self.broken or CLOSED)

    def _put(self, task: _Task, *, hurry: bool = False) -> bool:
        with self._lock:
            if self._closed or self.broken:
                self._missing += task.settle is None
                return False
            self._tasks.append(task)
            self._posted_bytes += task.size
            if not self._there.is_set():  # to set it again takes as long as all the rest
                self._there.set()
            if hurry:
                self._hurry.set()
        return True

    # In the thread -----------------------------------------------------------------------------------

    def _write(self, opened: threading.Event) -> None:
        try:
            book, self.notes = open_book(self._path)
        except DatabaseUnavailable as error:
            self._break(str(error))
            return
        finally:
            opened.set()
        going_on: Book | None = book
        while going_on is not None:
            going_on = self._fill(going_on)

    def _fill(self, book: Book) -> Book | None:
        """Write what is handed over, to the end; the book to go on with where the disk was full meanwhile."""
        group: list[_Task] = []
        try:
            while group := self._next():
                _carry_out(book, group)
                self._again_s = AGAIN_S
                book.trim()
            book.finish()
        except DatabaseUnavailable as error:
            self._break(str(error), group)
            book.give_up()
            return self._begin_again() if isinstance(error, DatabaseFull) else None
        except BaseException as error:
            self._break(f"{type(error).__name__}: {error}", group)
            raise
        return None

    def _begin_again(self) -> Book | None:
        """The same journal, once its disk has room again; None at the end, or if it can't be used now."""
        while not self._ending.wait(self._again_s):
            self._again_s = min(2 * self._again_s, AGAIN_MAX_S)
            try:
                if shutil.disk_usage(self._path.parent).free < ROOM_BYTES:
                    continue
                book, notes = open_book(self._path)
            except DatabaseFull:
                continue
            except (DatabaseUnavailable, OSError):
                return None
            with self._lock:
                self.gap = Gap(self._missing, "; ".join((self.broken, *notes)))
                self.broken = ""
                if not self._closed:
                    self._there.clear()
                    self._hurry.clear()
            return book
        return None

    def _next(self) -> list[_Task]:
        """What has come in, a moment after the first of it; nothing at the end."""
        self._there.wait()
        self._hurry.wait(self._group_s)
        with self._lock:
            group = [self._tasks.popleft() for _ in range(min(len(self._tasks), GROUP_MAX))]
            self._posted_bytes -= sum(task.size for task in group)
            if not self._tasks and not self._closed:
                self._there.clear()
                self._hurry.clear()
        return group

    def _break(self, reason: str, group: list[_Task] | None = None) -> None:
        """Give up: nothing that waits has been written."""
        with self._lock:
            self.broken = self.broken or reason
            waiting = [*(group or ()), *self._tasks]
            self._missing += sum(task.settle is None for task in waiting)
            self._tasks.clear()
            self._posted_bytes = 0
        for task in waiting:
            if task.settle is not None:
                task.settle(Broken(self.broken))


class InlineScribe:
    """Writes at once, on the loop, to a book in memory or to one that is handed in: for simulations."""

    gap: Gap | None = None

    def __init__(self, book: Book | None = None) -> None:
        self.broken = ""
        self.notes: tuple[str, ...] = ()
        self._book = in_memory() if book is None else book
        self._closed = False

    def post(
        self, work: Callable[[Book], object], size: int = 0, landed: Callable[[], None] | None = None
    ) -> bool:
        try:
            self.wait(work)
        except Broken:
            return False
        if landed is not None:
            landed()
        return True

    async def run(self, work: Callable[[Book], T], *, hurry: bool = False) -> T:
        await anyio.lowlevel.checkpoint()
        return self.wait(work)

    def close(self) -> None:
        self._closed = True
        self._book.close()

    def wait(self, work: Callable[[Book], T]) -> T:
        if self.broken or self._closed:
            raise Broken(self.broken or CLOSED)
        try:
            with self._book.transaction():
                return work(self._book)
        except DatabaseUnavailable as error:
            self.broken = str(error)
            raise Broken(self.broken) from None


def _carry_out(book: Book, group: list[_Task]) -> None:
    """One transaction; work that fails by itself changes nothing, and takes nothing else with it."""
    failed: dict[int, Exception] = {}
    with book.transaction():
        work = [(number, task) for number, task in enumerate(group) if task.work is not nothing]
        for are_notes, tasks in groupby(work, lambda one: isinstance(one[1].work, Note)):
            if are_notes:
                failed |= _write_down(book, list(tasks))
            else:
                failed |= _one_by_one(book, tasks)
    for number, task in enumerate(group):
        if task.settle is not None:
            task.settle(failed.get(number))


def _write_down(book: Book, tasks: Sequence[tuple[int, _Task]]) -> dict[int, Exception]:
    """Notes, all at once if none of them fails by itself; which did."""
    notes = [task.work for _, task in tasks if isinstance(task.work, Note)]
    if all(task.settle is None for _, task in tasks):
        write_down(book, notes)
        return {}
    try:
        with _savepoint(book):
            write_down(book, notes)
    except DatabaseUnavailable:
        raise
    except Exception:  # noqa: BLE001 - whichever of them it was raises it again
        return _one_by_one(book, tasks)
    return {}


def _one_by_one(book: Book, tasks: Iterable[tuple[int, _Task]]) -> dict[int, Exception]:
    """Which have failed, and how."""
    failed: dict[int, Exception] = {}
    for number, task in tasks:
        if task.settle is None:
            task.work(book)
            continue
        try:
            with _savepoint(book):
                task.work(book)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            failed[number] = error
    return failed


def nothing(_: Book) -> None:
    """Work for who wants to know when what was handed over before is on the disk."""


@contextmanager
def _savepoint(book: Book) -> Iterator[None]:
    book.run("SAVEPOINT one")
    try:
        yield
    except DatabaseUnavailable:
        raise
    except BaseException:
        book.run("ROLLBACK TO one")
        book.run("RELEASE one")
        raise
    book.run("RELEASE one")
