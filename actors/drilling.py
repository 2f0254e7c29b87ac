"""`python -m esper.run drill blueprints`, as a person sees it: progress, a table, an exit code."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import msgspec

from actors.drill import Drills, Ground, Stopped
from actors.tezzeret.quarantine import Quarantine
from contracts.config import Config
from esper.drill.outcome import DrillResult
from esper.drill.programme import Drill
from esper.drill.stage import Control
from esper.drill.table import LIMIT, DrillReport, conclusion, line, table
from esper.folder import write_whole

RIGHT, WRONG, INTERRUPTED = 0, 1, 130


def hold_drills(ground: Ground, drills: Sequence[Drill], file: Path | None, out: TextIO) -> int:
    """Hold `drills` in order, tell of each, and write the report to `file` if there is one.

    Returns:
        0 if every check did what it is for, 1 if not, 130 if it was interrupted: what was done is shown.

    Raises:
        HostNotPortable, SandboxFailed: no trial can be held.
        OSError: the file can't be written.
    """
    results: list[DrillResult] = []
    control: Control | None = None
    with Quarantine() as quarantine:
        performer = Drills(ground, quarantine)
        with _stopping(performer):
            try:
                print("control runs, without a graft", file=out, flush=True)
                control = performer.control()
                for number, drill in enumerate(drills, start=1):
                    results.append(performer.hold(drill, control))
                    print(f"{number}/{len(drills)}  {line(results[-1])}", file=out, flush=True)
            except Stopped:
                print("interrupted", file=out)
    if control is None or not results:
        return INTERRUPTED
    report = _report(ground.config, control, results)
    for text in ("", *table(results), "", conclusion(report), LIMIT):
        print(text, file=out, flush=True)
    if file is not None:
        write_whole(file, msgspec.json.format(msgspec.json.encode(report), indent=1))
    if performer.stopped:
        return INTERRUPTED
    return RIGHT if report.right else WRONG


def _report(config: Config, control: Control, results: Sequence[DrillResult]) -> DrillReport:
    run = config.run
    assert run.epochs is not None, "drills are measured in epochs"
    return DrillReport(run.seed, run.epochs, control.accuracy, control.noise, tuple(results))


@contextmanager
def _stopping(performer: Drills) -> Iterator[None]:
    """The first stop signal ends the drills, the second one the process."""
    before: dict[signal.Signals, Any] = {}  # what signal.signal gives back and takes

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        performer.stop()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
