"""How an observed run is shown: as the run itself shows it, or as JSON lines, or not at all."""

from contextlib import suppress
from typing import Protocol, TextIO

import msgspec
from msgspec.structs import asdict
from rich.console import Console, Group

from actors.display import Display, PlainLines, make_display
from actors.printer import Printer
from contracts.registry import RunEntry
from contracts.report import EpochFacts
from contracts.view import Event, EventKind, RunView
from esper.observer.picture import News
from esper.report import screen, words

ROWS_MOST = 200
"""Lines of a picture that is printed once."""


class Retelling(Protocol):
    """Is told what an observer sees."""

    @property
    def unheard(self) -> bool:
        """Whether the reader has gone away, so that there is nobody to tell."""

    def start(self, entry: RunEntry) -> None:
        """This run is followed."""

    def news(self, news: News) -> None:
        """Something happened in it, or an epoch is complete."""

    def note(self, text: str, kind: EventKind, epoch: int | None = None) -> None:
        """Something about the observing, when the run had come to `epoch`."""

    def here(self, view: RunView) -> None:
        """The run as it is when following it begins."""

    def update(self, view: RunView) -> None:
        """The run as it is now."""

    def once(self, entry: RunEntry, view: RunView, missing: bool) -> None:
        """The run as it is, shown once and for all; `missing`: it came further than the view."""

    def end(self, entry: RunEntry, view: RunView, missing: bool) -> None:
        """The run is over; `missing`: it came further than the view."""

    def close(self) -> None:
        """Leave the terminal as it was; more than once does no harm."""


def make_retelling(*, json: bool, quiet: bool, out: TextIO | None) -> Retelling:
    """The retelling that fits, as for a run's own display."""
    if json and not quiet and out is not None and not out.closed:
        return JsonRetelling(out)
    return Shown(make_display(json=False, quiet=quiet, out=out), None if quiet else out)


class Shown:
    """The live display of a run, on another terminal or in another pipe."""

    def __init__(self, display: Display, out: TextIO | None) -> None:
        self._display = display
        self._out = out
        self._started = False

    @property
    def unheard(self) -> bool:
        return self._display.unheard

    def start(self, entry: RunEntry) -> None:
        self._started = True
        self._display.start(entry.facts)

    def news(self, news: News) -> None:
        if isinstance(news, Event):
            self._display.event(news.text, news.kind, news.epoch)

    def note(self, text: str, kind: EventKind, epoch: int | None = None) -> None:
        if self._started:
            self._display.event(text, kind, epoch)
        else:
            self._print(text)

    def here(self, view: RunView) -> None:
        if isinstance(self._display, PlainLines) and view.epoch:
            self._display.state(view)  # a picture is drawn anyway; lines tell of it only now and then
        else:
            self._display.update(view)

    def update(self, view: RunView) -> None:
        self._display.update(view)

    def once(self, entry: RunEntry, view: RunView, missing: bool) -> None:
        self._display.close()
        with suppress(OSError, ValueError):
            if self._out is not None:
                Console(file=self._out).print(Group(*screen.lines(view, ROWS_MOST)))
        if entry.ended is not None:
            self._close_with(entry, view, missing)
        elif missing:
            self._say_missing(view)

    def end(self, entry: RunEntry, view: RunView, missing: bool) -> None:
        self._display.update(view)
        self._display.close()
        self._close_with(entry, view, missing)

    def _close_with(self, entry: RunEntry, view: RunView, missing: bool) -> None:
        if missing:
            self._say_missing(view)
        compared = comparison_line(entry)
        if compared:
            self._print(compared)
        self._print(closing_line(entry))

    def _say_missing(self, view: RunView) -> None:
        self._print(f"what the bus kept ends at epoch {words.count(view.epoch)}")

    def close(self) -> None:
        self._display.close()

    def _print(self, line: str) -> None:
        """A line of its own, while no picture is drawn; a reader who is gone is not missed."""
        with suppress(OSError, ValueError):
            if self._out is not None:
                print(line, file=self._out, flush=True)


class JsonRetelling:
    """One JSON object a line; `kind` says which: start, epoch, event, note, picture or end."""

    def __init__(self, out: TextIO) -> None:
        self._printer = Printer(out)

    @property
    def unheard(self) -> bool:
        return self._printer.unheard

    def start(self, entry: RunEntry) -> None:
        self._put("start", run_id=entry.run_id, **asdict(entry.facts))

    def news(self, news: News) -> None:
        match news:
            case Event(epoch=epoch, kind=kind, text=text):
                self._put("event", epoch=epoch, event=kind, text=text)
            case EpochFacts():
                self._put("epoch", **asdict(news))

    def note(self, text: str, kind: EventKind, epoch: int | None = None) -> None:
        self._put("note", note=kind, text=text)

    def here(self, view: RunView) -> None: ...

    def update(self, view: RunView) -> None: ...

    def once(self, entry: RunEntry, view: RunView, missing: bool) -> None:
        self._put("picture", picture=view, **_conclusion(entry, missing))
        self.close()

    def end(self, entry: RunEntry, view: RunView, missing: bool) -> None:
        newest = view.epochs[-1] if view.epochs else None
        figures = {
            "epoch": newest.epoch if newest is not None else None,
            "val_accuracy": newest.val_accuracy if newest is not None else None,
            "params": newest.params if newest is not None else None,
        }
        self._put("end", **_conclusion(entry, missing), **figures)
        self.close()

    def close(self) -> None:
        self._printer.close()

    def _put(self, kind: str, **facts: object) -> None:
        self._printer.put(msgspec.json.encode({"kind": kind, **facts}).decode())


def _conclusion(entry: RunEntry, missing: bool) -> dict[str, object]:
    """How it ended; `incomplete`: the run came further than the figures beside it."""
    return {
        "run_id": entry.run_id,
        "ended": entry.ended,
        "closing": entry.closing,
        "ungrown": entry.pulse.control,
        "incomplete": missing,
    }


def comparison_line(entry: RunEntry) -> str:
    """How far the ungrown host came that was trained for comparison; empty if there is none."""
    control = entry.pulse.control
    if control is None or control.newest is None:
        return ""
    newest = control.newest
    return (
        f"ungrown host  epoch {words.count(newest.epoch)}  val loss {words.figure(newest.val_loss)}  "
        f"val accuracy {words.percent(newest.val_accuracy)}  {words.count(control.params)} parameters"
    )


def closing_line(entry: RunEntry) -> str:
    """How a run ended and what came of it."""
    ended = entry.ended.kind if entry.ended is not None else "is not over"
    reason = f" ({entry.ended.reason})" if entry.ended is not None and entry.ended.reason else ""
    return f"{entry.run_id} {ended}{reason}{f': {entry.closing}' if entry.closing else ''}"
