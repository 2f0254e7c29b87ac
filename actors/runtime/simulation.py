"""A whole system in virtual time: an event loop that never waits and runs ready tasks in a seeded order.

A virtual clock alone finds no races, because first-in-first-out is one order out of many. Here the
steps of tasks that are ready at the same time change places by a seeded shuffle; callbacks that are
not task steps keep their places, as asyncio's own machinery relies on their order.
"""

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Args = TypeVarTuple("Args")

ROUNDS_MAX = 1_000_000
"""Rounds of ready callbacks at one virtual moment; more means that nothing will ever let time pass."""


class Stuck(RuntimeError):
    """The simulation can't go on: every task waits for another, or tasks spin without letting time pass."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop whose time jumps to the next timer whenever nothing is ready.

    Its seams are the names that asyncio's own loops share: `_run_once`, `_ready`, `_scheduled`.
    """

    _ready: Any  # deque of handles that run in the next round
    _scheduled: Any  # heap of timers

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._now_s = 0.0
        self._rounds = 0
        self._tasks_made = 0
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now_s

    def run_in_executor(
        self, executor: object, func: Callable[[Unpack[Args]], T], *args: *Args
    ) -> "asyncio.Future[T]":
        raise RuntimeError("a simulation has no threads; give the system InlineThreads()")

    def _write_to_self(self) -> None:
        """Wake the loop from another thread: there is none."""

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T],
        context: Context | None = None,
    ) -> "asyncio.Task[T]":
        self._tasks_made += 1  # asyncio's own numbers run on from one loop to the next
        return asyncio.Task(coroutine, loop=loop, name=f"task {self._tasks_made}", context=context)

    def _run_once(self) -> None:
        if not self._ready:
            self._let_time_pass()
        self._release_due()
        handles = list(self._ready)
        self._ready.clear()
        self._shuffle_steps(handles)
        for handle in handles:
            if not handle.cancelled():
                handle._run()

    def _let_time_pass(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)._scheduled = False
        if not self._scheduled:
            raise Stuck(f"nothing is left to happen, yet these tasks wait: {self._waiting()}")
        self._now_s = max(self._now_s, self._scheduled[0].when())
        self._rounds = 0

    def _release_due(self) -> None:
        self._rounds += 1
        if self._rounds > ROUNDS_MAX:
            self._rounds = 0  # so that the tasks can still be cancelled
            raise Stuck(f"time stands still at {self._now_s:g} s while these tasks run: {self._waiting()}")
        while self._scheduled and self._scheduled[0].when() <= self._now_s:
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            self._ready.append(timer)

    def _shuffle_steps(self, handles: list[Any]) -> None:
        places = [place for place, handle in enumerate(handles) if _is_task_step(handle)]
        steps = [handles[place] for place in places]
        self._random.shuffle(steps)
        for place, step in zip(places, steps, strict=True):
            handles[place] = step

    def _waiting(self) -> str:
        return "; ".join(sorted(_place_of(task) for task in asyncio.all_tasks(self)))


def run_simulated(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int, debug: bool = False) -> T:
    """Run `main()` to its end on a `SimulatedLoop`; raises `Stuck`, naming the tasks, if it never ends."""
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(seed), debug=debug) as runner:
        return runner.run(main())


def _is_task_step(handle: Any) -> bool:
    """Whether the callback starts or resumes a task: both are bound to it."""
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)


def _place_of(task: "asyncio.Task[Any]") -> str:
    frames = task.get_stack(limit=None)
    if not frames:
        return task.get_name()
    frame = frames[-1]
    return f"{task.get_name()} in {frame.f_code.co_qualname}, line {frame.f_lineno}"
