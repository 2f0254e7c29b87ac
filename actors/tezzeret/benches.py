"""The benches of one smith: hired when there is work, let go when there is none, killed when it stops."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from actors.tezzeret.bench import Bench, Finished
from actors.tezzeret.shop import Shop
from esper.tezzeret.agenda import Task
from esper.urza.errors import Unavailable

SCRATCH = "scratch"


class Benches:
    """Used by the foreman's thread; only `close` may be called from others too."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._benches: list[Bench] = []
        self._guard = threading.Lock()  # of `_benches` and `_closed`
        self._closed = False
        self._scratch: Path | None = None

    @property
    def hired(self) -> int:
        return len(self._benches)

    @property
    def busy(self) -> int:
        return sum(bench.task is not None for bench in self._benches)

    def begin(self, task: Task, finish: Callable[[Finished], None]) -> bool:
        """Make it at a free bench, or at a new one; False if they are closed.

        Raises:
            Unavailable: there is no place for a process's own files now.
        """
        with self._guard:
            if self._closed:
                return False
            bench = next((one for one in self._benches if one.task is None), None) or self._hire()
            bench.begin(task, finish)
            return True

    def free(self, task: Task) -> None:
        """What this task's bench did was taken; it may begin another."""
        for bench in self._benches:
            if bench.task is task:
                bench.task = None

    def let_go(self) -> None:
        """End the processes; the next task hires again."""
        with self._guard:
            benches, self._benches = self._benches, []
        for bench in benches:
            bench.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def close(self) -> None:
        """End the processes, whatever they do, for good."""
        with self._guard:
            self._closed = True
        self.let_go()

    def _hire(self) -> Bench:
        if self._scratch is None:
            try:
                self._scratch = _folder(self._shop.folder / SCRATCH)
            except OSError as error:
                raise Unavailable(f"{self._shop.folder / SCRATCH}: {error.strerror}") from None
        bench = Bench(self._shop.worker, self._shop.limits, self._scratch, self._shop.catalogue)
        self._benches.append(bench)
        return bench


def _folder(scratch: Path) -> Path:
    """A new folder, named by this process; those of processes that are gone are removed."""
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in scratch.iterdir():
        if not _lives(other.name.partition("-")[0]):
            shutil.rmtree(other, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=scratch))


def _lives(pid: str) -> bool:
    with suppress(ProcessLookupError, ValueError):
        os.kill(int(pid), 0)
        return True
    return False
