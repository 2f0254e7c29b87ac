"""What a run tells of itself over the bus: events, and how it stands. Told once training runs again."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from actors.oona.bus import Bus
from actors.oona.telling import tell
from contracts import topics
from contracts.messages import TelemetryEvent, TelemetryLevel, TelemetryPacket, WallNs
from contracts.view import EventKind
from esper.observer.standing import Standing, points
from esper.report.record import Recorder


class Telemetry:
    """One run's packets, under ids that a resumed run gives them again."""

    def __init__(
        self,
        run_id: str,
        recorder: Recorder,
        bus: Bus,
        epoch: Callable[[], int],
        wall_ns: Callable[[], WallNs],
    ) -> None:
        """`epoch` is the newest that has ended."""
        self._run_id = run_id
        self._recorder = recorder
        self._bus = bus
        self._epoch = epoch
        self._wall_ns = wall_ns
        self._due: list[tuple[str, WallNs, tuple[TelemetryEvent, ...], Standing | None]] = []
        """What becomes a packet when it is told: its id, its time, and what is in it."""
        self._said: Counter[str] = Counter()
        """What was told in the epoch `_said_in`, and how often."""
        self._said_in = 0

    def event_id(self, name: str) -> str:
        """The id of what is told once an epoch: another one when the epoch comes again after a rollback."""
        back = len(self._recorder.recorded.rollbacks)
        return f"{name}~{back}" if back else name

    def event(
        self, kind: EventKind, text: str, attributes: Mapping[str, str] | None = None
    ) -> TelemetryEvent:
        """Something to tell. Its id rests on what it says: a resumed run that says it again gives it that id,
        which nothing else has."""
        epoch = self._epoch()
        notes = {"kind": kind, "epoch": str(epoch), **(attributes or {})}
        level = TelemetryLevel.WARNING if kind in ("warning", "alert") else TelemetryLevel.INFO
        says = "\0".join((text, *(f"{name}={value}" for name, value in notes.items())))
        digest = hashlib.blake2b(says.encode(), digest_size=6).hexdigest()
        if self._said_in != epoch:
            self._said.clear()
            self._said_in = epoch
        self._said[digest] += 1
        again = f"-{self._said[digest]}" if self._said[digest] > 1 else ""
        name = self.event_id(f"{self._run_id}-e{epoch}-{digest}{again}")
        return TelemetryEvent(name, text, level, notes)

    def note(self, kind: EventKind, text: str, attributes: Mapping[str, str] | None = None) -> None:
        """Have one event told."""
        self.add([self.event(kind, text, attributes)])

    def add(self, events: Sequence[TelemetryEvent], standing: Standing | None = None) -> None:
        """Have it told: events, or how the run stands with the events of its boundary, or both."""
        told_as = self.event_id(f"{self._run_id}-s{standing.facts.epoch}") if standing is not None else ""
        name = told_as or events[0].event_id
        self._due.append((name, self._wall_ns(), tuple(events), standing))

    def publish(self) -> None:
        """Tell what there is to tell: nobody waits for this process now."""
        due, self._due = self._due, []
        for name, now_ns, events, standing in due:
            metrics = points(standing) if standing is not None else ()
            packet = TelemetryPacket(name, now_ns, "tolaria", metrics=metrics, events=events)
            tell(self._bus, topics.TELEMETRY, packet, name)  # the report has it all the same
