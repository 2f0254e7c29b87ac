"""A training lane in virtual time whose work really goes on beside the loop, step by step.

Its jobs run in a thread of their own, but only while the loop stands still: a job that spends time hands
back to the loop, which goes on until that time has come. So one of the two runs at any moment, in an order
that the seed decides, and what the loop does in the middle of a job is part of the simulation.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from actors.lane import Deliver, Job, JobFailed

HANDS_OVER_S = 60.0
"""Real seconds that one side waits for the other: more means that a job left the simulation."""


class CutOff(BaseException):
    """The lane is closed in the middle of a job: the process ends."""


class SteppedLane:
    """A `Lane`; `start_s` gives the seconds from a submission to the start of its job."""

    def __init__(self, start_s: Callable[[], float]) -> None:
        self.jobs = 0
        self.broken: AssertionError | None = None
        """What the work in the lane found wrong with the system."""
        self.delivered: Callable[[], None] = lambda: None
        self.last: object = None
        """What came of the last job."""
        self.idle_since_s: float | None = 0.0
        """When the last job was delivered; None while one waits or runs."""
        self._loop = asyncio.get_running_loop()
        self._start_s = start_s
        self._waiting: deque[tuple[Job, Deliver]] = deque()
        self._mine, self._loops = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._work, name="simulated lane", daemon=True)
        self._resumes_in_s: float | None = None
        self._closed = self._inside = False
        self._thread.start()

    # For the system --------------------------------------------------------------------------------

    def submit(self, job: Job, deliver: Deliver) -> None:
        assert not self._waiting, "a second job was submitted while one waits or runs"
        assert self.idle_since_s is not None, "a second job was submitted while one runs"
        self.jobs += 1
        self.idle_since_s = None
        self._waiting.append((job, deliver))
        self._loop.call_later(self._start_s(), self._go_on)

    def close(self, timeout_s: float) -> bool:
        self._closed = True
        self._mine.release()
        self._thread.join(HANDS_OVER_S)
        return not self._thread.is_alive()

    # For the trainer -------------------------------------------------------------------------------

    @property
    def inside(self) -> bool:
        """Whether the code that asks runs in the lane."""
        return threading.current_thread() is self._thread

    def spend(self, seconds: float) -> None:
        """Let virtual time pass in the middle of a job."""
        assert self.inside, "only the lane spends its time"
        self._resumes_in_s = seconds
        self._loops.release()
        self._take_turn()

    # The hand-over ---------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """In the loop: let the lane run until it spends time or has delivered."""
        if self._closed:
            return
        self._mine.release()
        assert self._loops.acquire(timeout=HANDS_OVER_S), "the lane never came back"
        if self._resumes_in_s is not None:
            self._loop.call_later(self._resumes_in_s, self._go_on)
            self._resumes_in_s = None

    def _take_turn(self) -> None:
        self._mine.acquire()
        if self._closed:
            raise CutOff

    def _work(self) -> None:
        try:
            while True:
                self._take_turn()
                job, deliver = self._waiting.popleft()
                outcome = self._outcome(job)
                self.idle_since_s, self.last = self._loop.time(), outcome
                self.delivered()
                deliver(outcome)
                self._loops.release()
        except CutOff:
            return

    def _outcome(self, job: Job) -> object:
        try:
            return job()
        except AssertionError as error:
            self.broken = error
            return JobFailed(error)
        except Exception as error:  # noqa: BLE001 - as the real lane does
            return JobFailed(error)
