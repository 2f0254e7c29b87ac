"""The benches of one smith: hired when there is work, let go when there is none, killed when it stops."""

import threading
from collections.abc import Callable

from actors.tezzeret.bench import Bench, Finished
from actors.tezzeret.scratch import Scratch, tidy
from actors.tezzeret.shop import Shop
from esper.tezzeret.agenda import Task
from esper.tezzeret.forge import Forged
from esper.urza.errors import Unavailable

SCRATCH = "scratch"


class Benches:
    """Used by the foreman's thread; only `close` may be called from others too."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._benches: list[Bench] = []
        self._guard = threading.Lock()  # of `_benches`, `_scratch` and `_closed`
        self._closed = False
        self._scratch: Scratch | None = None
        self._has_made = False

    @property
    def hired(self) -> int:
        return len(self._benches)

    @property
    def busy(self) -> int:
        return sum(bench.task is not None for bench in self._benches)

    def tidy(self) -> None:
        """Remove what processes that are gone have left behind."""
        tidy(self._shop.folder / SCRATCH)

    def begin(self, task: Task, finish: Callable[[Finished], None]) -> bool:
        """Make it at a free bench, or at a new one; False if they are closed.

        A process that is started before the first kernel was made has a head start.

        Raises:
            Unavailable: there is no place for a process's own files now.
        """
        with self._guard:
            if self._closed:
                return False
            bench = next((one for one in self._benches if one.task is None), None) or self._hire()
            bench.begin(task, finish, head_start=not self._has_made)
            return True

    def free(self, finished: Finished) -> None:
        """What came of it was taken; its bench may begin another."""
        self._has_made = self._has_made or isinstance(finished.outcome, Forged)
        for bench in self._benches:
            if bench.task is finished.task:
                bench.task = None

    def let_go(self) -> None:
        """End the processes; the next task hires again."""
        with self._guard:
            benches, self._benches = self._benches, []
            scratch, self._scratch = self._scratch, None
        for bench in benches:
            bench.close()
        if scratch is not None:
            scratch.remove()

    def close(self) -> None:
        """End the processes, whatever they do, for good."""
        with self._guard:
            self._closed = True
        self.let_go()

    def _hire(self) -> Bench:
        if self._scratch is None:
            try:
                self._scratch = Scratch(self._shop.folder / SCRATCH)
            except OSError as error:
                raise Unavailable(f"{self._shop.folder / SCRATCH}: {error.strerror}") from None
        bench = Bench(self._shop, self._scratch.path)
        self._benches.append(bench)
        return bench
