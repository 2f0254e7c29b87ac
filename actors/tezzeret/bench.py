"""One place at which kernels are made: a sandbox and the thread that waits for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from actors.lane import JobFailed, ThreadLane
from actors.tezzeret.orders import Order, decode_delivery, encode_order
from actors.tezzeret.sandbox import Limits, Sandbox
from actors.tezzeret.shop import Shop
from esper.tezzeret.agenda import Task
from esper.tezzeret.forge import Forged, unexamined


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a task."""

    task: Task
    outcome: Forged | BaseException


class Bench:
    """Takes one task at a time."""

    def __init__(self, shop: Shop, scratch: Path) -> None:
        self._shop = shop
        self._sandbox = Sandbox(shop.worker, shop.limits, scratch=scratch)
        self._lane = ThreadLane("tezzeret bench")
        self.task: Task | None = None

    @property
    def pid(self) -> int | None:
        """The process's id; None if none runs."""
        return self._sandbox.pid

    def begin(self, task: Task, finish: Callable[[Finished], None], *, head_start: bool) -> None:
        """Make it, and call `finish` from the bench's own thread.

        `head_start` is for a process that has to be started for it.
        """
        assert self.task is None, "one at a time"
        self.task = task

        def hand_in(outcome: object) -> None:
            assert isinstance(outcome, Forged | JobFailed)
            finish(Finished(task, outcome.error if isinstance(outcome, JobFailed) else outcome))

        limits = replace(self._shop.limits, head_start=self._shop.head_start if head_start else None)
        self._lane.submit(lambda: self._made(task, limits), hand_in)

    def close(self) -> None:
        """Kill the process, whatever it does; from any thread, and without waiting."""
        self._sandbox.kill()
        self._lane.submit(self._sandbox.close, lambda outcome: None)
        self._lane.close(0.0)

    def _made(self, task: Task, limits: Limits) -> Forged:
        design = task.spec.design
        promised = unexamined(design, task.strategy, self._shop.catalogue)
        order = Order(task.spec, task.strategy, self._shop.sources.get(design.blueprint_id))
        answer = self._sandbox.call(encode_order(order), limits=limits)
        return decode_delivery(answer, promised)
