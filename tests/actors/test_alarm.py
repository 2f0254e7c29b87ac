"""The alarm does what is ordered: it freezes first, says every change of level on the bus, takes orders."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from actors.alarm import ORIGIN, Alarm
from actors.oona.memory import MemoryBus
from actors.oona.priority import Lane, Priority
from actors.oona.topics import run_topics
from actors.runtime import LoopClock
from actors.runtime.simulation import run_simulated
from contracts import topics
from contracts.config import EmergencyConfig
from contracts.emergency import NONE, Level, Order, Ordered, Trigger, Trouble
from contracts.messages import EmergencySignal
from esper.tolaria.emergency import Emergencies

T = TypeVar("T")
BORN_NS = 10**18
LOUD = Trouble(Trigger.FOREIGN_RATE, "a rate was changed", 3)
FATAL = Trouble(Trigger.STEP_STALLED, "no step is taken any more", 3)


@dataclass
class Ring:
    """An alarm on a bus, and everything that it did, in order."""

    bus: MemoryBus
    clock: LoopClock
    did: list[str] = field(default_factory=list)
    told: list[tuple[Ordered, Trouble | None]] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    """Messages on the bus each time that it froze."""
    epoch: int = 7

    def __post_init__(self) -> None:
        self.emergencies = Emergencies(EmergencyConfig())
        self.alarm = self.another()

    def another(self) -> Alarm:
        return Alarm(
            self.emergencies, "run", self.bus, self.clock, lambda: self.epoch, self.freeze, self.tell
        )

    def freeze(self, reason: str) -> None:
        self.did.append(f"freeze: {reason}")
        self.depths.append(self.bus.metrics().depth)

    def tell(self, ordered: Ordered, trouble: Trouble | None) -> None:
        self.did.append(f"told {ordered.level.name}")
        self.told.append((ordered, trouble))

    async def said(self) -> list[EmergencySignal]:
        past = await self.bus.history(topics.EMERGENCY)
        return [one.message for one in past if isinstance(one.message, EmergencySignal)]


def ringing(test: Callable[[Ring], Awaitable[T]]) -> T:
    """Run `test` with an alarm, in virtual time."""

    async def main() -> T:
        clock = LoopClock(asyncio.get_running_loop(), wall_ns=BORN_NS)
        ring = Ring(MemoryBus(run_topics(), clock), clock)
        await clock.sleep(1.0)
        result = await test(ring)
        await ring.bus.close()
        return result

    return run_simulated(main, seed=0)


def signal(level: Level = Level.ELEVATED, order: str = "", **changes: Any) -> EmergencySignal:
    attributes = {"order": order} if order else {}
    new = EmergencySignal(level, "the room is on fire", "anna", BORN_NS + 5, attributes=attributes)
    return replace(new, **changes)


def test_a_halt_freezes_before_anything_else_is_done() -> None:
    async def test(ring: Ring) -> None:
        ring.alarm.see(FATAL)
        assert ring.did == [f"freeze: {FATAL.text}", "told HALT"]
        assert ring.depths == [0], "nothing was on the bus yet when it froze"
        assert [one.level for one in await ring.said()] == [Level.HALT]

    ringing(test)


def test_every_change_of_level_is_said_urgently_and_nothing_else() -> None:
    async def test(ring: Ring) -> None:
        ring.alarm.see(LOUD)
        ring.alarm.see(LOUD)
        for epoch in range(3, 20):
            ring.alarm.calm(epoch)
        said = await ring.said()
        assert [one.level for one in said] == [Level.CONSERVATIVE, Level.ELEVATED, Level.NOTICE, NONE]
        first = said[0]
        assert (first.reason, first.origin, first.run_id) == ("a rate was changed", ORIGIN, "run")
        assert first.attributes == {
            "before": "UNSPECIFIED",
            "epoch": "3",
            "trigger": "foreign_rate",
            "subject": "",
        }
        assert first.triggered_at == BORN_NS + 10**9
        past = await ring.bus.history(topics.EMERGENCY)
        assert {one.priority for one in past} == {Priority.EMERGENCY}
        assert len({one.event_id for one in past}) == len(past)

    ringing(test)


def test_people_are_told_of_changes_and_of_what_is_new() -> None:
    async def test(ring: Ring) -> None:
        notice = Trouble(Trigger.ISOLATION, "a#0 touched the host", 3, {}, "a#0")
        ring.alarm.see(LOUD)
        ring.alarm.see(LOUD)
        ring.alarm.see(notice)
        ring.alarm.see(notice)
        assert [trouble for _, trouble in ring.told] == [LOUD, notice]
        assert not ring.told[1][0].changed

    ringing(test)


def test_the_signal_of_a_resumed_run_is_no_duplicate_of_its_earlier_life() -> None:
    async def test(ring: Ring) -> None:
        ring.alarm.see(LOUD)
        await ring.clock.sleep(5.0)
        ring.emergencies = Emergencies(EmergencyConfig())
        ring.another().see(LOUD)
        assert len(await ring.said()) == 2

    ringing(test)


def test_a_full_urgent_lane_does_not_keep_it_from_acting() -> None:
    async def test(ring: Ring) -> None:
        capacity = run_topics()[topics.EMERGENCY].urgent_capacity
        for n in range(capacity):
            ring.bus.publish_nowait(
                topics.EMERGENCY, signal(), priority=Priority.EMERGENCY, event_id=f"other {n}"
            )
        ring.alarm.see(FATAL)
        assert ring.did == [f"freeze: {FATAL.text}", "told HALT"]
        refused = [row for row in ring.bus.metrics().published if row.lane is Lane.URGENT]
        assert sum(row.ledger.refused for row in refused) == 1

    ringing(test)


def test_it_acts_when_the_bus_is_closed() -> None:
    async def test(ring: Ring) -> None:
        await ring.bus.close()
        ring.alarm.see(FATAL)
        assert ring.did == [f"freeze: {FATAL.text}", "told HALT"]

    ringing(test)


# Signals of others -------------------------------------------------------------------------------------


def test_what_someone_else_signals_is_a_trouble() -> None:
    async def test(ring: Ring) -> None:
        ordered = ring.alarm.hear("e1", signal(Level.CONSERVATIVE))
        assert ordered is not None
        assert ordered.level is Level.CONSERVATIVE
        assert ring.told[0][1] == Trouble(
            Trigger.OPERATOR, "anna: the room is on fire", 7, {}, "anna", Level.CONSERVATIVE
        )
        assert [ring.alarm.calm(epoch).level for epoch in range(8, 12)][-1] is Level.ELEVATED

    ringing(test)


@pytest.mark.parametrize(
    "ignored",
    [
        signal(run_id="another run"),
        signal(Level.HALT, run_id="another run"),
        signal(NONE),
        signal(triggered_at=BORN_NS - 1),
        signal(Level.HALT, triggered_at=BORN_NS - 1),
    ],
    ids=["another run", "another run's halt", "all clear", "before our birth", "a halt before our birth"],
)
def test_what_does_not_concern_the_run_is_ignored(ignored: EmergencySignal) -> None:
    async def test(ring: Ring) -> None:
        ring.alarm.freeze_for("e1", ignored)
        assert ring.alarm.hear("e1", ignored) is None
        assert ring.alarm.level is NONE
        assert not ring.did

    ringing(test)


class Settable(LoopClock):
    """Somebody sets the wall clock."""

    ahead_s = 0.0

    def wall_ns(self) -> int:
        return super().wall_ns() + int(self.ahead_s * 1e9)


@pytest.mark.parametrize("ahead_s", [-3600.0, -5.0, 0.0, 5.0, 3600.0])
def test_a_wall_clock_that_is_set_makes_nobody_deaf(ahead_s: float) -> None:
    async def main() -> None:
        clock = Settable(asyncio.get_running_loop(), wall_ns=BORN_NS)
        ring = Ring(MemoryBus(run_topics(), clock), clock)
        await clock.sleep(10.0)
        under_way = signal(triggered_at=clock.wall_ns())
        clock.ahead_s = ahead_s
        await clock.sleep(1.0)
        said_now = signal(Level.HALT, triggered_at=clock.wall_ns())
        assert ring.alarm.hear("e1", under_way) is not None
        ring.alarm.freeze_for("e2", said_now)
        assert ring.did[-1] == "freeze: anna: the room is on fire"
        assert ring.alarm.hear("e2", said_now) is not None
        await ring.bus.close()

    run_simulated(main, seed=0)


def test_a_signal_that_is_too_old_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def test(ring: Ring) -> None:
        ring.alarm.hear("e1", signal(triggered_at=BORN_NS - 5 * 10**9))
        ring.alarm.hear("e2", signal(triggered_at=0, run_id="another run"))

    ringing(test)
    assert caplog.messages == ["a signal of anna is not followed: it is 5.0 s too old"]


def test_a_signal_that_the_bus_brings_again_is_not_followed_again() -> None:
    async def test(ring: Ring) -> None:
        force, release = signal(Level.CONSERVATIVE, "force"), signal(NONE, "release")
        assert ring.alarm.hear("e1", force) is not None
        assert ring.alarm.hear("e2", release) is not None
        assert ring.alarm.hear("e1", force) is None
        assert ring.alarm.level is NONE
        assert len(ring.told) == 2

    ringing(test)


def test_a_halt_that_comes_again_after_the_release_freezes_nothing() -> None:
    async def test(ring: Ring) -> None:
        halt = signal(Level.HALT, "force")
        ring.alarm.freeze_for("e1", halt)
        ring.alarm.hear("e1", halt)
        ring.alarm.hear("e2", signal(NONE, "release"))
        done = list(ring.did)
        ring.alarm.freeze_for("e1", halt)
        assert ring.alarm.hear("e1", halt) is None
        assert ring.did == done

    ringing(test)


def test_its_own_signals_are_not_taken_twice() -> None:
    async def test(ring: Ring) -> None:
        ring.alarm.see(LOUD)
        for epoch in range(20):
            ring.alarm.calm(epoch)
        assert ring.alarm.level is NONE
        for past in await ring.bus.history(topics.EMERGENCY):
            assert isinstance(past.message, EmergencySignal)
            assert ring.alarm.hear(past.event_id, past.message) is None
        assert ring.alarm.level is NONE

    ringing(test)


@pytest.mark.parametrize(
    ("order", "level", "freezes"),
    [
        ("", Level.HALT, True),
        ("force", Level.HALT, True),
        ("hold", Level.HALT, False),
        ("release", Level.HALT, False),
        ("", Level.CONSERVATIVE, False),
        ("force", Level.CONSERVATIVE, False),
    ],
)
def test_only_what_comes_to_a_halt_freezes(order: str, level: Level, freezes: bool) -> None:
    async def test(ring: Ring) -> None:
        told = signal(level, order, run_id="run")
        ring.alarm.freeze_for("e1", told)
        assert bool(ring.did) == freezes
        ring.alarm.hear("e1", told)
        assert (ring.alarm.level is Level.HALT) == freezes, "it freezes exactly where it halts"

    ringing(test)


def test_a_signal_can_force_hold_and_release() -> None:
    async def test(ring: Ring) -> None:
        levels = []
        for n, (order, level) in enumerate(
            [("force", Level.CONSERVATIVE), ("release", NONE), ("force", Level.ELEVATED), ("hold", NONE)]
        ):
            ordered = ring.alarm.hear(f"e{n}", signal(level, order))
            assert ordered is not None
            levels.append(ordered.level)
        assert levels == [Level.CONSERVATIVE, NONE, Level.ELEVATED, Level.ELEVATED]
        assert ring.emergencies.held
        assert ring.emergencies.reason == "forced by anna"

    ringing(test)


@pytest.mark.parametrize(("order", "level"), [("explode", Level.ELEVATED), ("force", NONE)])
def test_an_order_that_is_none_is_told_and_changes_no_more(order: str, level: Level) -> None:
    async def test(ring: Ring) -> None:
        ordered = ring.alarm.hear("e1", signal(level, order))
        assert ordered is not None
        assert ordered.level is Level.NOTICE
        assert "anna is not followed" in ordered.reason
        assert not ring.emergencies.forced

    ringing(test)


# The operator ------------------------------------------------------------------------------------------


def test_an_operator_sets_the_level_in_the_present_epoch() -> None:
    async def test(ring: Ring) -> None:
        forced = ring.alarm.steer(Order("force", Level.CONSERVATIVE, by="anna"))
        held = ring.alarm.steer(Order("hold", by="anna"))
        assert (forced.level, forced.epoch, forced.checkpoint) == (Level.CONSERVATIVE, 7, True)
        assert not held.changed
        assert ring.alarm.steer(Order("release", by="anna")).level is NONE
        assert [one.level for one in await ring.said()] == [Level.CONSERVATIVE, NONE]
        assert ring.did == ["told CONSERVATIVE", "told CONSERVATIVE", "told UNSPECIFIED"]

    ringing(test)


def test_an_operators_halt_freezes() -> None:
    async def test(ring: Ring) -> None:
        ring.alarm.steer(Order("force", Level.HALT, by="anna"))
        assert ring.did == ["freeze: forced by anna", "told HALT"]

    ringing(test)


def test_what_does_not_set_the_level_is_refused_here() -> None:
    async def test(ring: Ring) -> None:
        with pytest.raises(ValueError, match="rollback does not set the level"):
            ring.alarm.steer(Order("rollback"))
        assert not ring.did

    ringing(test)
