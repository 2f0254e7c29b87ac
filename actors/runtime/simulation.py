"""A whole system in virtual time: an event loop that never waits and runs ready tasks in a seeded order.

A virtual clock alone finds no races, because first-in-first-out is one order out of many. Here the
steps of tasks that are ready at the same time change places by a seeded shuffle; callbacks that are
not task steps keep their places, as asyncio's own machinery relies on their order.
"""

import asyncio
import functools
import heapq
import random
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeAlias, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Args = TypeVarTuple("Args")
Watch: TypeAlias = Callable[[float, str], None]
"""Is told of each step: the virtual time in seconds, and the name of the task or callback."""

ROUNDS_MAX = 1_000_000
"""Rounds of ready callbacks at one virtual moment; more means that nothing will ever let time pass."""


class Stuck(RuntimeError):
    """The simulation can't go on: every task waits for another, or tasks spin without letting time pass."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop whose time jumps to the next timer whenever nothing is ready.

    Without a seed, ready steps run first in, first out: the order that finds no races. `watch` looks on
    after each step; what it raises ends the simulation. The seams are the names that asyncio's own loops
    share: `_run_once`, `_ready`, `_scheduled`.
    """

    _ready: Any  # deque of handles that run in the next round
    _scheduled: Any  # heap of timers

    def __init__(self, seed: int | None, watch: Watch | None = None) -> None:
        super().__init__()
        self._random = None if seed is None else random.Random(seed)
        self._watch = watch
        self._now_s = 0.0
        self._rounds = 0
        self._tasks_made = 0
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now_s

    def stall(self, seconds: float) -> None:
        """Let the present step have taken `seconds`: every timer that comes due meanwhile rings late."""
        self._now_s += seconds

    def timers(self) -> list[str]:
        """The callbacks that are still set for a later time, by name."""
        return sorted(_name_of(timer) for timer in self._scheduled if not timer.cancelled())

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
        self._ready.extend(handles)
        for _ in handles:  # one that raises leaves the others where they are
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()
                if self._watch is not None:
                    self._look(self._watch, handle)

    def _look(self, watch: Watch, handle: Any) -> None:
        name = _name_of(handle)
        self._watch = None  # not while it looks, nor while the tasks are cancelled because of what it saw
        watch(self._now_s, name)
        self._watch = watch

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
        if self._random is None:
            return
        places = [place for place, handle in enumerate(handles) if _is_task_step(handle)]
        steps = [handles[place] for place in places]
        self._random.shuffle(steps)
        for place, step in zip(places, steps, strict=True):
            handles[place] = step

    def _waiting(self) -> str:
        return "; ".join(sorted(_place_of(task) for task in asyncio.all_tasks(self)))


def run_simulated(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    seed: int | None,
    debug: bool = False,
    watch: Watch | None = None,
) -> T:
    """Run `main()` to its end on a `SimulatedLoop`; raises `Stuck`, naming the tasks, if it never ends."""
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(seed, watch), debug=debug) as runner:
        return runner.run(main())


def _is_task_step(handle: Any) -> bool:
    """Whether the callback starts or resumes a task: both are bound to it."""
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)


def _name_of(handle: Any) -> str:
    """The task's name, or the callback's: never an address, which differs from run to run."""
    callback = handle._callback
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return owner.get_name()
    while isinstance(callback, functools.partial):
        callback = callback.func
    return getattr(callback, "__qualname__", type(callback).__name__)


def _place_of(task: "asyncio.Task[Any]") -> str:
    frames = task.get_stack(limit=None)
    if not frames:
        return task.get_name()
    frame = frames[-1]
    return f"{task.get_name()} in {frame.f_code.co_qualname}, line {frame.f_lineno}"
