"""Quarantine: a blueprint's trial on a copy of the live host, in a process that is watched from outside.

    parent   pickles host + mini-batches ──▶ sandbox: the trial, step by step
             ◀── JSON: the steps done ─────── hangs, eats memory, crashes: killed from here
             ◀── JSON: the report ───────────

The parent reads nothing back but JSON. For a thread of the caller's, never for the event loop.
"""

import io
import pickle
from types import TracebackType
from typing import Self

import msgspec

from actors.tezzeret.failures import Died, Garbled, JobRaised, OutOfMemory, SandboxFailed, TimedOut
from actors.tezzeret.frames import BadFrame
from actors.tezzeret.quarantine_worker import UNPORTABLE
from actors.tezzeret.sandbox import Limits, Sandbox
from esper.drill.report import Trial, TrialReport
from esper.drill.trial import Subject

WORKER = "actors.tezzeret.quarantine_worker"
LIMITS = Limits(job_s=8.0, memory_bytes=1 << 30, fork=False, background=False)
"""Torch itself holds about 300 MiB. Not in the background: training waits for it."""


class HostNotPortable(ValueError):
    """The host can't be taken into another process; nothing was tried."""


class Quarantine:
    """Holds trials, one at a time; the process stays for the next one as long as trials are passed."""

    def __init__(self, limits: Limits = LIMITS, worker: str = WORKER) -> None:
        self._limits = limits
        self._worker = worker
        self._closed = False
        self._sandbox = Sandbox(worker, limits)

    def hold(self, trial: Trial, subject: Subject) -> TrialReport:
        """What came of a trial on a copy of `subject`, which is not touched.

        Raises:
            HostNotPortable: the host, its loss or its data can't be pickled, or not be rebuilt over there.
            SandboxFailed: there is no sandbox to be had here, or it was closed.
        """
        body = packed(subject)
        steps = 0

        def hear(progress: bytes) -> None:
            nonlocal steps
            steps = msgspec.json.decode(progress, type=int)

        try:
            answer = self._sandbox.call(msgspec.json.encode(trial), body, on_progress=hear)
            report = msgspec.json.decode(answer.header, type=TrialReport)
        except BadFrame as error:
            raise HostNotPortable(f"host and mini-batches are too large for a trial: {error}") from error
        except SandboxFailed as failure:
            report = _found_outside(failure, steps)
        except msgspec.MsgspecError as error:  # whatever answers there may have been taken over
            report = TrialReport(False, steps, "crash", f"it answered what is no report: {error}")
        if not report.passed:
            self._start_afresh()
        return report

    @property
    def pid(self) -> int | None:
        """Of the process that waits for the next trial, if there is one."""
        return self._sandbox.pid

    def close(self) -> None:
        """Kill the process, whatever it does; from any thread."""
        self._closed = True
        self._sandbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_afresh(self) -> None:
        """A module that failed may have left threads and memory behind."""
        self._sandbox.close()
        if not self._closed:
            self._sandbox = Sandbox(self._worker, self._limits)


def packed(subject: Subject) -> bytes:
    """`subject` as bytes for the worker.

    Raises:
        HostNotPortable: some of it can't be pickled; the message names what and why.
    """
    file = io.BytesIO()
    try:
        pickle.Pickler(file, pickle.HIGHEST_PROTOCOL).dump(subject)
    except Exception as error:
        raise HostNotPortable(
            f"the host can't be taken to quarantine: {type(error).__name__}: {error}; "
            "its model, loss and data have to be picklable (classes and functions of a module, no lambdas)"
        ) from error
    return file.getvalue()


def _found_outside(failure: SandboxFailed, steps: int) -> TrialReport:
    """The report that the process did not live to write."""
    match failure:
        case TimedOut():
            return TrialReport(False, steps, "time", f"killed from outside: {failure.reason}")
        case OutOfMemory():
            return TrialReport(False, steps, "memory", f"stopped from outside: {failure.reason}")
        case Died() | Garbled():
            return TrialReport(False, steps, "crash", failure.reason)
        case JobRaised() if UNPORTABLE in failure.reason:
            raise HostNotPortable(failure.reason.partition(": ")[2])
        case JobRaised():
            return TrialReport(False, steps, "error", failure.reason)
        case _:
            raise failure
