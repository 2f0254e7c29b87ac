"""The helm answers every order with what happened, or why not."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import pytest

from actors.alarms import CHECKPOINT
from actors.helm import PATIENCE_S, Helm, Rudder
from actors.oona.memory import MemoryBus
from actors.oona.topics import run_topics
from actors.orders import Wanted
from actors.runtime import LoopClock
from actors.runtime.simulation import run_simulated
from contracts.emergency import NONE, Answer, BreakerOrder, Level, Order, SeedOrder, Trigger, Trouble
from contracts.growth import Operation, OperationFigures
from tests.actors.test_alarm import BORN_NS, LOUD, Ring

T = TypeVar("T")
SLOW_S = 1.0


@dataclass
class Ship:
    """A run as the helm sees it, which takes a second for what it is told."""

    ring: Ring
    phase: str = "training"
    kept: int = 6
    saved: int = 5
    rollbacks: int = 0
    writes: bool = True
    error: str = ""
    deaf: bool = False
    goes_back: bool = True
    reasons: list[str] = field(default_factory=list)
    orders: list[Wanted] = field(default_factory=list)
    room: bool = True
    verdict: tuple[bool, str] | None = None
    breakers: tuple[OperationFigures, ...] = ()

    def order(self, order: Wanted) -> str:
        self.orders.append(order)
        return "c1" if self.room else ""

    def helm(self) -> Helm:
        rudder = Rudder(
            lambda: self.phase,
            lambda: self.kept,
            lambda: self.saved,
            lambda: self.rollbacks,
            self.save,
            self.go_back,
            self.order,
            lambda command_id: self.verdict,
            lambda: self.breakers,
            self.goes_back,
        )
        return Helm("run", self.ring.alarm, rudder, self.ring.clock)

    def save(self) -> bool:
        if self.writes and not self.deaf:
            asyncio.get_running_loop().call_later(SLOW_S, self._wrote)
        return self.writes

    def _wrote(self) -> None:
        if self.error:
            trouble = Trouble(Trigger.CHECKPOINT_FAILED, self.error, 6, {}, CHECKPOINT)
            self.ring.alarm.see(trouble)
        else:
            self.saved = self.kept

    def go_back(self, reason: str) -> None:
        self.reasons.append(reason)
        if not self.deaf:
            asyncio.get_running_loop().call_later(SLOW_S, self._went_back)

    def _went_back(self) -> None:
        self.rollbacks += 1
        self.ring.epoch = self.kept - 1


def steered(test: Callable[[Ship], Awaitable[T]]) -> T:
    async def main() -> T:
        clock = LoopClock(asyncio.get_running_loop(), wall_ns=BORN_NS)
        return await test(Ship(Ring(MemoryBus(run_topics(), clock), clock)))

    return run_simulated(main, seed=0)


def answers(*orders: Order, **state: object) -> list[Answer]:
    """What a run in such a state answers to one order after the other."""

    async def test(ship: Ship) -> list[Answer]:
        for name, value in state.items():
            setattr(ship, name, value)
        return [await ship.helm().carry_out(order) for order in orders]

    return steered(test)


STATUS = Order("status")


def test_the_status_is_how_it_is() -> None:
    async def test(ship: Ship) -> None:
        ship.ring.alarm.see(LOUD)
        answer = await ship.helm().carry_out(STATUS)
        assert (answer.done, answer.text) == (True, "CONSERVATIVE")
        bearings = answer.bearings
        assert bearings is not None
        assert (bearings.run_id, bearings.phase, bearings.epoch) == ("run", "training", 7)
        assert (bearings.level, bearings.reason, bearings.since) == (Level.CONSERVATIVE, LOUD.text, 3)
        assert (bearings.forced, bearings.held, bearings.quiet_left) == (NONE, False, 3)
        assert (bearings.troubles, bearings.checkpoint) == ((LOUD,), 5)

    steered(test)


@pytest.mark.parametrize(
    ("order", "done", "text", "level"),
    [
        (
            Order("force", Level.CONSERVATIVE),
            True,
            "CONSERVATIVE, forced until it is released",
            Level.CONSERVATIVE,
        ),
        (Order("force", Level.ELEVATED), True, "ELEVATED, forced until it is released", Level.ELEVATED),
        (
            Order("force", Level.HALT),
            True,
            "training is frozen; the run writes its report and ends",
            Level.HALT,
        ),
        (Order("force"), False, "no level is no order; release gives it back to the troubles", NONE),
        (Order("hold"), True, "no emergency, held until it is released", NONE),
        (
            Order("release"),
            False,
            "no level is forced or held; it falls by itself when it is quiet",
            NONE,
        ),
    ],
)
def test_the_level_is_set_as_ordered(order: Order, done: bool, text: str, level: Level) -> None:
    (answer,) = answers(order)
    assert (answer.done, answer.text) == (done, text)
    assert answer.bearings is not None
    assert answer.bearings.level is level


def test_what_is_forced_below_the_troubles_says_so() -> None:
    async def test(ship: Ship) -> None:
        ship.ring.alarm.see(LOUD)
        answer = await ship.helm().carry_out(Order("force", Level.ELEVATED))
        assert answer.done
        assert answer.text == "ELEVATED is forced; because of open troubles the level is CONSERVATIVE"

    steered(test)


def test_what_is_forced_is_put_down_before_it_is_answered_and_if_it_is_not_that_is_said() -> None:
    async def test(ship: Ship) -> list[Answer]:
        levels: list[Level] = []

        async def put_down() -> str:
            levels.append(ship.ring.alarm.level)
            return "the disk is full" if ship.ring.alarm.level is Level.HALT else ""

        ship.ring.alarm.put_down = put_down
        helm = ship.helm()
        found = [await helm.carry_out(Order("force", level)) for level in (Level.ELEVATED, Level.HALT)]
        assert levels == [Level.ELEVATED, Level.HALT], "it holds already when it is put down"
        return found

    first, second = steered(test)
    assert (first.done, first.text) == (True, "ELEVATED, forced until it is released")
    assert second.done
    assert second.text.endswith("; the disk is full")


def test_what_is_forced_is_released() -> None:
    *_, released, again = answers(Order("force", Level.ELEVATED), Order("release"), Order("release"))
    assert (released.done, released.text) == (True, "released: no emergency")
    assert not again.done


def test_a_checkpoint_is_done_when_it_is_on_disk() -> None:
    async def test(ship: Ship) -> None:
        before = ship.ring.clock.monotonic()
        answer = await ship.helm().carry_out(Order("checkpoint"))
        assert (answer.done, answer.text) == (True, "the checkpoint of epoch 6 is on disk")
        assert ship.ring.clock.monotonic() - before >= SLOW_S

    steered(test)


def test_a_checkpoint_that_fails_says_why() -> None:
    order = Order("checkpoint")
    first, again = answers(order, order, error="no space left")
    assert [first.text, again.text] == ["no space left"] * 2, "also if it had failed before"
    assert [first.done, again.done] == [False, False]


def test_a_checkpoint_that_takes_too_long_is_still_being_written() -> None:
    (answer,) = answers(Order("checkpoint"), deaf=True)
    assert not answer.done
    assert answer.text == f"it is not on disk after {PATIENCE_S:.0f} s; it is still being written"


def test_without_anything_to_write_it_says_so() -> None:
    (answer,) = answers(Order("checkpoint"), writes=False)
    assert (answer.done, answer.text) == (
        False,
        "there is nothing to write yet, or checkpoints are turned off",
    )


def test_a_rollback_is_done_when_the_run_has_gone_back() -> None:
    async def test(ship: Ship) -> None:
        answer = await ship.helm().carry_out(Order("rollback", by="anna"))
        assert (answer.done, answer.text) == (True, "the run went back to epoch 5")
        assert ship.reasons == ["asked for by anna"]

    steered(test)


def test_a_rollback_that_can_not_be_had_is_refused_and_halts_nothing() -> None:
    async def test(ship: Ship) -> None:
        ship.kept = -1
        answer = await ship.helm().carry_out(Order("rollback"))
        assert (answer.done, answer.text) == (
            False,
            "no boundary is kept yet that the run could go back to",
        )
        assert not ship.reasons
        assert ship.ring.alarm.level is NONE

    steered(test)


def test_a_rollback_to_a_boundary_that_is_never_kept_is_refused_at_once() -> None:
    (answer,) = answers(Order("rollback"), goes_back=False)
    assert (answer.done, answer.text) == (False, "only the newest boundary is kept (checkpoint.boundaries)")


def test_a_rollback_waits_for_the_end_of_a_long_epoch_only_so_long() -> None:
    (answer,) = answers(Order("rollback"), deaf=True)
    assert not answer.done
    assert "at the end of its epoch" in answer.text


def test_a_halted_run_does_not_go_back() -> None:
    _, answer = answers(Order("force", Level.HALT), Order("rollback"))
    assert (answer.done, answer.text) == (
        False,
        "the run is halted; resume it from its newest checkpoint",
    )


@pytest.mark.parametrize("phase", ["finishing", "comparing", "halted"])
def test_at_the_end_only_the_status_is_answered(phase: str) -> None:
    status, forced = answers(STATUS, Order("force", Level.HALT), phase=phase)
    assert status.done
    assert (forced.done, forced.text) == (False, f"the run is {phase}; there is nothing left to steer")
    assert forced.bearings is not None
    assert forced.bearings.level is NONE


def test_orders_may_come_at_the_same_time() -> None:
    async def test(ship: Ship) -> None:
        helm = ship.helm()
        found = await asyncio.gather(
            helm.carry_out(Order("checkpoint")), helm.carry_out(Order("rollback")), helm.carry_out(STATUS)
        )
        assert [one.done for one in found] == [True, True, True]

    steered(test)


PAUSE = Order("seed", seed=SeedOrder("pause", "relu1#0"))


@pytest.mark.parametrize(
    ("state", "done", "text"),
    [
        ({"verdict": (True, "")}, True, "relu1#0 is paused"),
        ({"verdict": (False, "there is no such seed")}, False, "there is no such seed"),
        ({"verdict": None}, False, "no boundary within"),
        ({"room": False}, False, "too many orders"),
    ],
)
def test_an_order_about_a_seed_is_answered_as_the_engine_judged_it(
    state: dict[str, object], done: bool, text: str
) -> None:
    (answer,) = answers(PAUSE, **state)
    assert answer.done is done
    assert text in answer.text


def test_an_order_about_a_seed_names_it() -> None:
    (answer,) = answers(Order("seed"))
    assert not answer.done
    assert "which seed" in answer.text


BROKEN = OperationFigures(Operation.INSERT, 3, 3, breaker="open", retry_epoch=9)
HELD = OperationFigures(Operation.ALPHA, 1, breaker="open")
TRIED = OperationFigures(Operation.ADVANCE, 3, 3, breaker="half_open")
SOUND = OperationFigures(Operation.GERMINATE, 2, 1)


@pytest.mark.parametrize(
    ("operation", "done", "text"),
    [
        ("", True, f"{BROKEN.standing}; {HELD.standing}; {TRIED.standing}"),
        ("insert", True, "insert is open; it is tried again from epoch 9 on"),
        ("alpha", True, "alpha is open; it is refused until an operator closes it"),
        ("advance", True, "advance is half open; the next try decides"),
        ("germinate", True, "germinate is closed; it was done 2 times and failed 1"),
        ("pause", True, "pause is closed; it was not needed yet"),
        ("flush", False, "there is no operation 'flush'; there are germinate, advance"),
    ],
)
def test_how_the_breakers_are_is_said_also_at_the_end(operation: str, done: bool, text: str) -> None:
    order = Order("breaker", breaker=BreakerOrder("status", operation))
    (answer,) = answers(order, phase="finished", breakers=(SOUND, BROKEN, HELD, TRIED))
    assert answer.done is done
    assert answer.text.startswith(text)
    assert answer.bearings is not None
    assert answer.bearings.breakers == (SOUND, BROKEN, HELD, TRIED)


def test_closed_breakers_are_one_word() -> None:
    (answer,) = answers(Order("breaker", breaker=BreakerOrder("status")), breakers=(SOUND,))
    assert (answer.done, answer.text) == (True, "every breaker is closed")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("open", "insert is refused until its breaker is closed"),
        ("close", "insert is let through again"),
        ("try", "insert is tried the next time, and that decides"),
    ],
)
def test_a_breaker_is_set_as_the_engine_judged_it(wanted: Literal["open", "close", "try"], told: str) -> None:
    async def test(ship: Ship) -> None:
        order = Order("breaker", breaker=BreakerOrder(wanted, "insert"))
        ship.verdict = (True, "")
        assert (await ship.helm().carry_out(order)).text == told
        ship.verdict = (False, "there is no breaker")
        refused = await ship.helm().carry_out(order)
        assert (refused.done, refused.text) == (False, "there is no breaker")
        assert ship.orders == [order.breaker, order.breaker]
        ship.phase = "finished"
        assert "nothing left to steer" in (await ship.helm().carry_out(order)).text

    steered(test)


def test_an_order_about_a_breaker_says_what_it_wants() -> None:
    (answer,) = answers(Order("breaker"))
    assert not answer.done
    assert "status, or open, close or try" in answer.text
