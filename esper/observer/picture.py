"""The picture of one run, folded from messages and register entries in any order, as often as they come.

What is kept is decided by what was said, never by when it came: of each kind the newest, by the run's own
count or clock. So duplicates, re-reads and a late start change nothing but how far back the picture goes.
"""

from collections.abc import Mapping
from typing import Final, Generic, TypeAlias, TypeVar, get_args

import msgspec
from msgspec.structs import replace

from contracts.messages import EmergencySignal, SystemState, TelemetryEvent, TelemetryPacket, WallNs
from contracts.registry import Pulse, RunEntry
from contracts.report import EpochFacts
from contracts.view import Event, EventKind, Phase, RunView
from esper.observer.standing import Standing, site_views, standing_of
from esper.report.record import finite

EPOCHS_MAX: Final = 400
"""Newest epochs that are kept: as many as the run itself shows."""
EVENTS_MAX: Final = 1_000
ALERTS_SHOWN: Final = 3
OWN_EMERGENCIES: Final = "tolaria"
"""Tells of its emergencies as an alert, too."""
KINDS: Final[Mapping[str, EventKind]] = {kind: kind for kind in get_args(EventKind)}

When: TypeAlias = tuple[WallNs, int, str]
"""When something was said: the run's clock, the place in its message, and its id."""
News: TypeAlias = Event | EpochFacts


K = TypeVar("K", int, When)
V = TypeVar("V")


class _Newest(Generic[K, V]):
    """The `most` entries with the highest keys, whatever the order in which they came."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.kept: dict[K, V] = {}

    def put(self, key: K, value: V) -> None:
        """Keep it, in place of what had that key."""
        self.kept[key] = value
        if len(self.kept) > self._most:
            del self.kept[min(self.kept)]

    def in_order(self) -> list[V]:
        return [self.kept[key] for key in sorted(self.kept)]


class Picture:
    """One run as far as it is known here."""

    def __init__(self, entry: RunEntry) -> None:
        self.entry = entry
        self._exact = _Newest[int, tuple[When, Standing]](EPOCHS_MAX)
        self._early = _Newest[int, tuple[When, EpochFacts]](EPOCHS_MAX)
        self._control = _Newest[int, EpochFacts](EPOCHS_MAX)
        self._events = _Newest[When, Event](EVENTS_MAX)
        self._told: set[When] = set()
        self._told_epoch = 0

    def register(self, entry: RunEntry) -> None:
        """The register says this of the run."""
        if _order(entry) >= _order(self.entry):
            self.entry = entry
        control = entry.pulse.control
        if control is not None and control.newest is not None:
            self._control.put(control.newest.epoch, control.newest)

    def take(self, event_id: str, message: msgspec.Struct) -> None:
        """A message came over the bus, perhaps again."""
        match message:
            case SystemState():
                self._state(event_id, message)
            case TelemetryPacket():
                self._packet(event_id, message)
            case EmergencySignal(origin=origin) if origin != OWN_EMERGENCIES:
                told = Event(_number(message.attributes.get("epoch")), "alert", f"{origin}: {message.reason}")
                self._events.put((message.triggered_at, 0, event_id), told)
            case _:
                pass

    def news(self) -> list[News]:
        """What is new since this was asked last, oldest first: events, and epochs whose figures are complete.

        An epoch that was overtaken by a later one is not waited for any longer.
        """
        happened = [(when, event) for when, event in self._events.kept.items() if when not in self._told]
        self._told = set(self._events.kept)
        epochs = self._new_epochs()
        return sorted(
            [*(event for _, event in sorted(happened, key=lambda each: each[0])), *epochs], key=_epoch_of
        )

    def newest_events(self, most: int) -> tuple[Event, ...]:
        """What happened last, oldest first, whether or not it was told as news."""
        return tuple(self._events.in_order()[-most:])

    def view(self) -> RunView:
        """What is shown of it."""
        entry, standing = self.entry, self._standing()
        epochs = self._epochs()
        newest = epochs[-1] if epochs else None
        pulse = entry.pulse
        view = RunView(
            facts=entry.facts,
            phase=entry.ended.kind if entry.ended is not None else _phase(pulse, newest),
            epoch=newest.epoch if newest is not None else 0,
            elapsed_s=pulse.elapsed_s,
            host_params=standing.host_params if standing is not None else 0,
            params=newest.params if newest is not None else 0,
            max_params=standing.max_params if standing is not None else 0,
            spent_flops=newest.train_flops if newest is not None else 0,
            epochs=epochs,
            sites=site_views(entry.sites, standing.seeds if standing is not None else ()),
            boundary=standing.boundary if standing is not None else None,
            probe=pulse.probe,
            bus_depth=pulse.bus_depth,
            alerts=self._alerts(),
            conservative=standing.conservative if standing is not None else False,
        )
        return view if entry.ended is not None else self._compared(view)

    @property
    def reached(self) -> int:
        """The newest epoch of the run that anything is known of; the comparison's count for themselves."""
        epochs = self._epochs()
        figures = epochs[-1].epoch if epochs else 0
        return max(figures, max((event.epoch for event in self._events.kept.values()), default=0))

    @property
    def missing(self) -> bool:
        """Whether the run came further than what is known of its epochs."""
        epochs = self._epochs()
        return (epochs[-1].epoch if epochs else 0) < self.entry.pulse.epoch

    def _state(self, event_id: str, state: SystemState) -> None:
        """An epoch's figures before its boundary is over; 32 bit wide if they crossed a wire."""
        metrics = state.training_metrics
        facts = EpochFacts(
            epoch=state.current_epoch,
            train_loss=finite(state.training_loss),
            val_loss=finite(state.validation_loss),
            val_accuracy=finite(state.validation_accuracy),
            learning_rate=metrics.get("learning_rate", 0.0),
            params=round(finite(metrics.get("params")) or 0),
            train_flops=round((finite(metrics.get("spent_gflop")) or 0.0) * 1e9),
        )
        _keep(self._early, facts.epoch, (state.timestamp_ns, 0, event_id), facts)

    def _packet(self, event_id: str, packet: TelemetryPacket) -> None:
        standing = standing_of(packet.metrics)
        if standing is not None:
            _keep(self._exact, standing.facts.epoch, (packet.timestamp, 0, event_id), standing)
        for place, event in enumerate(packet.events):
            self._events.put((packet.timestamp, place, event.event_id), _event(event))

    def _standing(self) -> Standing | None:
        return self._exact.kept[max(self._exact.kept)][1] if self._exact.kept else None

    def _epochs(self) -> tuple[EpochFacts, ...]:
        """Those of which anything is known; complete figures stand in place of early ones."""
        known = {epoch: facts for epoch, (_, facts) in self._early.kept.items()}
        known |= {epoch: standing.facts for epoch, (_, standing) in self._exact.kept.items()}
        return tuple(known[epoch] for epoch in sorted(known)[-EPOCHS_MAX:])

    def _new_epochs(self) -> list[EpochFacts]:
        ready = max(self._exact.kept, default=0)
        new = [facts for facts in self._epochs() if self._told_epoch < facts.epoch <= ready]
        self._told_epoch = max(self._told_epoch, ready)
        return new

    def _alerts(self) -> tuple[str, ...]:
        return tuple(event.text for event in self._events.in_order() if event.kind == "alert")[-ALERTS_SHOWN:]

    def _compared(self, view: RunView) -> RunView:
        """The comparison in place of the run, once that has begun."""
        control = self.entry.pulse.control
        if control is None:
            return view
        return replace(
            view,
            facts=replace(view.facts, epochs=None, budget_flops=control.budget_flops),
            epoch=control.newest.epoch if control.newest is not None else 0,
            params=control.params,
            spent_flops=control.newest.train_flops if control.newest is not None else 0,
            epochs=tuple(self._control.in_order()),
            sites=(),
        )


def _keep(where: _Newest[int, tuple[When, V]], epoch: int, when: When, value: V) -> None:
    """Keep what was said last of an epoch."""
    known = where.kept.get(epoch)
    if known is None or known[0] <= when:
        where.put(epoch, (when, value))


def _phase(pulse: Pulse, newest: EpochFacts | None) -> Phase:
    """As the last sign of life had it, unless the bus knows better."""
    return "training" if pulse.phase == "starting" and newest is not None else pulse.phase


def _order(entry: RunEntry) -> tuple[bool, int]:
    return entry.ended is not None, entry.pulse.number


def _event(event: TelemetryEvent) -> Event:
    epoch = _number(event.attributes.get("epoch"))
    return Event(epoch, KINDS.get(event.attributes.get("kind", ""), "info"), event.description)


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() and len(text) < 16 else 0


def _epoch_of(news: News) -> int:
    return news.epoch
