"""What a person sees while a run lasts: a picture on a terminal, lines in a pipe, or nothing.

Whoever calls is never held up: writing is done by a thread, and a reader who stalls costs the
display its newest state, not the run its pace.
"""

import atexit
import io
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TextIO

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from actors.printer import Printer
from contracts.report import Report
from contracts.view import Event, EventKind, RunFacts, RunView
from esper.report import oneline, screen

REFRESHES_PER_S = 2.0
PROGRESS_EVERY_S = 5.0
NOTHING_NEW_EVERY_S = 30.0
"""How often lines say that a run goes on though no epoch has ended."""
EVENTS_KEPT = 20


class Display(Protocol):
    """Is told what happens, and shows it. After `close`, nothing is shown any more."""

    @property
    def unheard(self) -> bool:
        """Whether a reader was there and has gone away."""

    def start(self, facts: RunFacts) -> None:
        """The run begins; torch need not be loaded yet. Only the first time counts."""

    def update(self, view: RunView) -> None:
        """The run as it is now; as often as one likes."""

    def event(self, text: str, kind: EventKind, epoch: int | None = None) -> None:
        """Something happened; in the newest view's epoch if not said otherwise."""

    def finish(self, report: Report) -> None:
        """The run is over and its report is written."""

    def close(self) -> None:
        """Leave the terminal as it was; more than once does no harm."""


def make_display(
    *, json: bool, quiet: bool, out: TextIO | None, now: Callable[[], float] = time.monotonic
) -> Display:
    """The display that fits: none if `quiet` or without `out`, JSON lines, a picture on a terminal, else
    plain lines."""
    if quiet or out is None or out.closed:
        return Silent()
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="replace")  # a terminal without our signs gets question marks, not a crash
    if json:
        return JsonLines(out, now)
    console = Console(file=out)
    return Picture(console) if console.is_terminal and not console.is_dumb_terminal else PlainLines(out, now)


class Silent:
    """Shows nothing."""

    unheard = False

    def start(self, facts: RunFacts) -> None: ...
    def update(self, view: RunView) -> None: ...
    def event(self, text: str, kind: EventKind, epoch: int | None = None) -> None: ...
    def finish(self, report: Report) -> None: ...
    def close(self) -> None: ...


class Picture:
    """The whole run at a glance, redrawn in place by rich's thread."""

    unheard = False

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view: RunView | None = None
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._live = Live(
            console=console,
            refresh_per_second=REFRESHES_PER_S,
            get_renderable=self._picture,
        )

    def start(self, facts: RunFacts) -> None:
        if self._view is not None:
            return
        self._view = RunView(facts)
        atexit.register(self.close)
        self._live.start(refresh=True)

    def update(self, view: RunView) -> None:
        self._view = view

    def event(self, text: str, kind: EventKind, epoch: int | None = None) -> None:
        self._events.append(Event(_epoch(epoch, self._view), kind, text))

    def finish(self, report: Report) -> None:
        folder = _folder(self._view.facts, report) if self._view is not None else report.run_id
        self._live.transient = True  # the summary stands where the picture was
        self.close()
        self._console.print(Group(*screen.summary(report, folder)))

    def close(self) -> None:
        self._live.stop()
        atexit.unregister(self.close)

    def _picture(self) -> Group:
        """Called by the thread that draws; views and events are replaced, never changed."""
        if self._view is None:
            return Group(Text())
        view = msgspec.structs.replace(self._view, events=tuple(self._events))
        return screen.render(view, self._console.height)


class _Lines:
    """What plain and JSON lines share: a printer, and how seldom a run's state is said."""

    def __init__(self, out: TextIO, now: Callable[[], float]) -> None:
        self._printer = Printer(out)
        self._now = now
        self._said_s = now()
        self._said: tuple[int, str] | None = None
        self._view: RunView | None = None
        self._facts: RunFacts | None = None

    @property
    def unheard(self) -> bool:
        return self._printer.unheard

    def start(self, facts: RunFacts) -> None:
        if self._facts is not None:
            return
        self._facts = facts
        self._printer.put(self._opening(facts))

    def update(self, view: RunView) -> None:
        self._view = view
        state, waited_s = (view.epoch, view.phase), self._now() - self._said_s
        if waited_s >= (PROGRESS_EVERY_S if state != self._said else NOTHING_NEW_EVERY_S):
            self.state(view)

    def state(self, view: RunView) -> None:
        """The run as it is now, however lately that was said."""
        self._view, self._said, self._said_s = view, (view.epoch, view.phase), self._now()
        self._printer.put(self._progress(view))

    def event(self, text: str, kind: EventKind, epoch: int | None = None) -> None:
        self._printer.put(self._happening(Event(_epoch(epoch, self._view), kind, text)))

    def finish(self, report: Report) -> None:
        folder = _folder(self._facts, report) if self._facts is not None else report.run_id
        self._printer.put(self._closing(report, folder))
        self.close()

    def close(self) -> None:
        self._printer.close()

    def _opening(self, facts: RunFacts) -> str:
        raise NotImplementedError

    def _progress(self, view: RunView) -> str:
        raise NotImplementedError

    def _happening(self, event: Event) -> str:
        raise NotImplementedError

    def _closing(self, report: Report, folder: str) -> str:
        raise NotImplementedError


class PlainLines(_Lines):
    """One line an event, and the state every few seconds."""

    def _opening(self, facts: RunFacts) -> str:
        return f"Esper  {oneline.opening(facts)}"

    def _progress(self, view: RunView) -> str:
        return oneline.progress_line(view)

    def _happening(self, event: Event) -> str:
        return oneline.event_line(event)

    def _closing(self, report: Report, folder: str) -> str:
        return "\n".join(line.plain for line in screen.summary(report, folder))


class JsonLines(_Lines):
    """One JSON object a line; `kind` says which: start, progress, event or finish."""

    def _opening(self, facts: RunFacts) -> str:
        return _json(kind="start", **msgspec.structs.asdict(facts))

    def _progress(self, view: RunView) -> str:
        return _json(
            kind="progress",
            phase=view.phase,
            epoch=view.epoch,
            progress=view.progress,
            elapsed_s=view.elapsed_s,
            left_s=view.left_s,
            params=view.params or None,
            spent_flops=view.spent_flops,
            newest=view.epochs[-1] if view.epochs else None,
            boundary=view.boundary,
            bus_depth=view.bus_depth,
            alerts=view.alerts,
        )

    def _happening(self, event: Event) -> str:
        return _json(kind="event", epoch=event.epoch, event=event.kind, text=event.text)

    def _closing(self, report: Report, folder: str) -> str:
        return _json(
            kind="finish",
            ended=report.ended,
            host=report.host,
            final=report.final,
            compare={"final": report.compare.final, "brought": report.compare.brought}
            if report.compare
            else None,
            grafts=report.grafts,
            folder=folder,
        )


def _json(**facts: object) -> str:
    return msgspec.json.encode(facts).decode()


def _epoch(epoch: int | None, view: RunView | None) -> int:
    return epoch if epoch is not None else view.epoch if view is not None else 0


def _folder(facts: RunFacts, report: Report) -> str:
    """The run's own folder, which may have got another name than it was to have."""
    return (
        str(Path(facts.folder).parent / report.run_id)
        if facts.folder
        else str(Path(facts.out) / report.run_id)
    )
