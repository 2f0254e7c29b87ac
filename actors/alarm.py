"""The alarm: whatever is seen of troubles comes here, and what follows is done at once.

    trouble ─┐                                ┌─▶ HALT: freeze, before anything else
    boundary ├─▶ Emergencies ─▶ what is       ├─▶ every change of level: a signal in the bus's urgent lane
    operator │                  ordered       └─▶ told to whoever acts on the rest and shows it
    signal  ─┘

Plain and synchronous: to raise it takes no queue and no turn of the event loop, on which it is used alone.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

from actors.oona.bus import Bus
from actors.oona.errors import ClosedError
from actors.oona.priority import Priority
from actors.oona.telling import tell
from actors.runtime.clock import Clock
from contracts import topics
from contracts.emergency import NONE, Level, Order, Ordered, Trigger, Trouble
from contracts.messages import EmergencySignal, WallNs
from esper.tolaria.emergency import Emergencies

ORIGIN: Final = "tolaria"
"""Whom the run's own signals come from."""
ORDER: Final = "order"
"""The attribute of a signal that makes it an operator's order: force, hold or release."""
OWN_KEPT = 256
"""Own signals that are recognised when they come back over the bus, the newest."""
HEARD_KEPT = 256
"""Signals of others that are recognised when the bus brings them again, the newest."""

log = logging.getLogger(__name__)

Freeze: TypeAlias = Callable[[str], None]
"""(reason) Stop training after the present step; called from the event loop, perhaps more than once."""
Tell: TypeAlias = Callable[[Ordered, Trouble | None], None]
"""What was ordered, and the trouble that it was ordered for, if it was for one."""
PutDown: TypeAlias = Callable[[], Awaitable[str]]
"""Why it could not be done; empty if it was."""


class Alarm:
    """One run's alarm; it outlives a restart of the warden."""

    def __init__(
        self,
        emergencies: Emergencies,
        run_id: str,
        bus: Bus,
        clock: Clock,
        epoch: Callable[[], int],
        freeze: Freeze,
        told: Tell,
    ) -> None:
        self.emergencies = emergencies
        self._run_id = run_id
        self._bus = bus
        self._clock = clock
        self._epoch = epoch
        self._freeze = freeze
        self._told = told
        self._born_ns, self._born_s = clock.wall_ns(), clock.monotonic()
        self._sent = 0
        self._own: deque[str] = deque(maxlen=OWN_KEPT)
        self._heard: deque[str] = deque(maxlen=HEARD_KEPT)
        self.put_down: PutDown = _nowhere
        """Has an operator's newest order where a kill does not undo it; whoever heard it waits for that."""

    @property
    def level(self) -> Level:
        """What holds now."""
        return self.emergencies.level

    @property
    def epoch(self) -> int:
        """The epoch that the run is in."""
        return self._epoch()

    def see(self, trouble: Trouble) -> Ordered:
        """Something has gone wrong. A rollback that is ordered is the caller's to carry out."""
        ordered = self.emergencies.see(trouble)
        self._act(ordered, trouble)
        return ordered

    def over(self, trigger: Trigger, subject: str = "") -> bool:
        """A lasting trouble is over; whether it was open."""
        return self.emergencies.over(trigger, subject)

    def calm(self, epoch: int) -> Ordered:
        """The boundary of `epoch` is over."""
        ordered = self.emergencies.calm(epoch)
        self._act(ordered, None)
        return ordered

    def steer(self, order: Order) -> Ordered:
        """An operator sets the level: `force`, `hold` or `release`.

        Raises:
            ValueError: that is no order about the level, or no level to force. Nothing has changed.
        """
        epoch = self._epoch()
        match order.what:
            case "force":
                ordered = self.emergencies.force(order.level, epoch, order.by)
            case "hold":
                ordered = self.emergencies.hold(epoch, order.by)
            case "release":
                ordered = self.emergencies.release(epoch, order.by)
            case what:
                raise ValueError(f"{what} does not set the level; force, hold and release do")
        self._act(ordered, None)
        return ordered

    def concerns(self, event_id: str, signal: EmergencySignal) -> bool:
        """Whether a signal from the bus is for us: not another run's, our own, heard before, or from
        before our birth."""
        return self._is_ours(event_id, signal) and signal.triggered_at >= self._birth_ns()

    def _is_ours(self, event_id: str, signal: EmergencySignal) -> bool:
        if signal.run_id and signal.run_id != self._run_id:
            return False
        return event_id not in self._own and event_id not in self._heard

    def _birth_ns(self) -> WallNs:
        """When we were born, as the wall clock has it, or has it now if it was set back since.

        Then some of what was said just before is followed too: rather that than to miss what is said now.
        """
        lived_ns = int((self._clock.monotonic() - self._born_s) * 1e9)
        return min(self._born_ns, self._clock.wall_ns() - lived_ns)

    def freeze_for(self, event_id: str, signal: EmergencySignal) -> None:
        """Freeze training if that is what a signal comes to; `hear` does the rest, when there is time."""
        if (
            signal.level is Level.HALT
            and _orders(signal) in ("", "force")
            and self.concerns(event_id, signal)
        ):
            self._freeze(f"{signal.origin}: {signal.reason}")

    def hear(self, event_id: str, signal: EmergencySignal) -> Ordered | None:
        """A signal came over the bus; None if it changes nothing here, as when it came before."""
        if not self.concerns(event_id, signal):
            if self._is_ours(event_id, signal):
                early_s = (self._birth_ns() - signal.triggered_at) / 1e9
                log.warning("a signal of %s is not followed: it is %.1f s too old", signal.origin, early_s)
            return None
        self._heard.append(event_id)
        order = _orders(signal)
        if not order and signal.level is NONE:
            return None  # someone else is calm again
        if not order:
            return self.see(self._trouble(signal.level, f"{signal.origin}: {signal.reason}", signal))
        try:
            return self.steer(_order(order, signal))
        except ValueError as error:
            told = f"an emergency signal of {signal.origin} is not followed: {error}"
            return self.see(self._trouble(Level.NOTICE, told, signal))

    def _trouble(self, level: Level, text: str, signal: EmergencySignal) -> Trouble:
        return Trouble(Trigger.OPERATOR, text, self._epoch(), signal.attributes, signal.origin, level)

    def _act(self, ordered: Ordered, trouble: Trouble | None) -> None:
        """Do what is ordered, freezing first; nobody is told of what is neither new nor a change."""
        if ordered.changed and ordered.level is Level.HALT:
            self._freeze(ordered.reason)
        if ordered.changed:
            self._publish(ordered, trouble)
        if ordered.changed or ordered.news or ordered.rollback:
            self._told(ordered, trouble)

    def _publish(self, ordered: Ordered, trouble: Trouble | None) -> None:
        now_ns = self._clock.wall_ns()
        self._sent += 1
        event_id = f"{self._run_id}-emergency-{self._born_ns}-{self._sent}"
        notes = {"before": ordered.before.name, "epoch": str(ordered.epoch)}
        if trouble is not None:
            notes |= {"trigger": trouble.trigger.value, "subject": trouble.subject}
        signal = EmergencySignal(
            level=ordered.level,
            reason=ordered.reason,
            origin=ORIGIN,
            triggered_at=now_ns,
            monotonic_time_ms=int(self._clock.monotonic() * 1e3),
            run_id=self._run_id,
            attributes=notes,
        )
        self._own.append(event_id)
        with suppress(ClosedError):  # the run is over: whoever wants to know reads the report
            tell(self._bus, topics.EMERGENCY, signal, event_id, Priority.EMERGENCY)


async def _nowhere() -> str:
    return ""


def _orders(signal: EmergencySignal) -> str:
    return signal.attributes.get(ORDER, "")


def _order(what: str, signal: EmergencySignal) -> Order:
    """
    Raises:
        ValueError: there is no such order.
    """
    if what not in ("force", "hold", "release"):
        raise ValueError(f"{what!r} is no order; there are force, hold and release")
    return Order(
        "force" if what == "force" else "hold" if what == "hold" else "release", signal.level, signal.origin
    )
