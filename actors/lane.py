"""Where the trainer's work runs: one thread of its own, so that the event loop stays free.

A lane takes one job at a time and delivers what came of it. The real lane is a thread; a simulation
hands in one that spends virtual time instead.
"""

import queue
import threading
from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec


class JobFailed(msgspec.Struct, frozen=True):
    """A job raised; the error is delivered in place of its outcome."""

    error: BaseException


Job: TypeAlias = Callable[[], object]
Deliver: TypeAlias = Callable[[object], None]


class Lane(Protocol):
    """Runs jobs one after the other, somewhere that is not the event loop."""

    def submit(self, job: Job, deliver: Deliver) -> None:
        """Run `job`, then call `deliver` with its outcome or a `JobFailed`, from the lane itself."""

    def close(self, timeout_s: float) -> bool:
        """Take no more jobs and wait for the running one; False if it had not ended by then."""


class ThreadLane:
    """A lane that is a thread; `prepare` runs in it first (to pin torch's thread count, say)."""

    def __init__(self, name: str, prepare: Callable[[], None] = lambda: None) -> None:
        self._jobs: queue.SimpleQueue[tuple[Job, Deliver] | None] = queue.SimpleQueue()
        self._prepare = prepare
        # A daemon: a second Ctrl-C must be able to end the process in the middle of a step.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job, deliver: Deliver) -> None:
        self._jobs.put((job, deliver))

    def close(self, timeout_s: float) -> bool:
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        self._prepare()
        while (item := self._jobs.get()) is not None:
            _do(*item)
            del item  # while it waits for the next one, what the last one held is nobody's any more


def _do(job: Job, deliver: Deliver) -> None:
    deliver(_outcome(job))


def _outcome(job: Job) -> object:
    try:
        return job()
    except BaseException as error:  # noqa: BLE001 - it is not handled here but handed to the actor that asked
        return JobFailed(error)
