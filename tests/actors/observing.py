"""What the tests of observing share: a registry in memory, and a retelling that only remembers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.oona.errors import UnreachableError
from contracts.registry import ListedRun, RunEntry
from contracts.report import EpochFacts
from contracts.view import Event, EventKind, RunView
from esper.observer.picture import News


@dataclass
class MemoryRegistry:
    """A registry that can be cut off."""

    entries: dict[str, RunEntry] = field(default_factory=dict)
    """Oldest first."""
    dead: set[str] = field(default_factory=set)
    cut_off: bool = False
    puts: int = 0

    async def put(self, entry: RunEntry) -> None:
        self._reach()
        self.puts += 1
        self.entries[entry.run_id] = entry

    async def runs(self) -> Sequence[ListedRun]:
        self._reach()
        return [self._listed(entry) for entry in reversed(self.entries.values())]

    async def find(self, run_id: str) -> ListedRun | None:
        self._reach()
        entry = self.entries.get(run_id)
        return None if entry is None else self._listed(entry)

    async def close(self) -> None: ...

    def _listed(self, entry: RunEntry) -> ListedRun:
        return ListedRun(entry, alive=entry.ended is None and entry.run_id not in self.dead)

    def _reach(self) -> None:
        if self.cut_off:
            raise UnreachableError("the registry can't be reached")


@dataclass
class Remembering:
    """A retelling that only remembers."""

    started: RunEntry | None = None
    events: list[Event] = field(default_factory=list)
    epochs: list[EpochFacts] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    noted: list[tuple[int | None, int, int]] = field(default_factory=list)
    """Of each note its epoch, how many events were told before it, and the newest epoch."""
    views: list[RunView] = field(default_factory=list)
    ended: RunEntry | None = None
    missing: bool = False
    unheard: bool = False

    def start(self, entry: RunEntry) -> None:
        self.started = entry

    def news(self, news: News) -> None:
        if isinstance(news, Event):
            self.events.append(news)
        else:
            self.epochs.append(news)

    def note(self, text: str, kind: EventKind, epoch: int | None = None) -> None:
        self.notes.append(text)
        newest = self.epochs[-1].epoch if self.epochs else 0
        self.noted.append((epoch, len(self.events), newest))

    def update(self, view: RunView) -> None:
        self.views.append(view)

    def here(self, view: RunView) -> None:
        self.views.append(view)

    def once(self, entry: RunEntry, view: RunView, missing: bool) -> None:
        self.missing = missing
        self.views.append(view)

    def end(self, entry: RunEntry, view: RunView, missing: bool) -> None:
        self.ended = entry
        self.missing = missing
        self.views.append(view)

    def close(self) -> None: ...
