"""Claims about an operator's orders: one to a seed takes the policy's place at a boundary, one about the
level is put down at once."""

import asyncio
import errno
from collections.abc import Callable
from typing import Literal, TypeVar

import pytest

from actors.company import Company
from actors.orders import (
    ANSWERS_MAX,
    LOST_BY_A_KILL,
    PUT_DOWN_S,
    WAITING_MAX,
    Notebook,
    Orders,
    command_of,
)
from actors.runtime import InlineThreads
from actors.runtime.simulation import run_simulated
from actors.steer import NotSteered, order_of
from contracts.config import EmergencyConfig, GrowthConfig
from contracts.emergency import BreakerOrder, EmergencyState, Level, Order, SeedOrder
from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import CircuitBreakerState, CommandCircuitBreaker, CommandSeedOperation, CommandType
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.engine import Engine
from esper.tolaria.emergency import Emergencies
from tests.actors.fakes import SITES, FakeTrainer
from tests.actors.test_returning import blind, world

T = TypeVar("T")
CULL = SeedOrder("cull", "body.0#0")


def test_an_order_is_a_command_of_the_operators_issued_at_its_boundary() -> None:
    orders = Orders("run")
    assert orders.next(5, 18) is None
    command_id = orders.put(CULL, 3)
    command = orders.next(5, 18)
    assert command is not None
    assert (command.command_id, command.issued_at, command.issued_by) == (command_id, 5, "operator")
    assert (command.target_seed_id, command.execution_deadline_ms) == ("body.0#0", 18)
    assert orders.next(6, 18) is None


def test_orders_and_answers_are_bounded() -> None:
    orders = Orders("run")
    ids = [orders.put(CULL, 3) for _ in range(WAITING_MAX + 1)]
    assert ids[-1] == ""
    assert len(set(ids)) == WAITING_MAX + 1
    for number in range(ANSWERS_MAX + 1):
        orders.settled(f"c{number}", True, "")
    assert orders.answer("c0") is None
    assert orders.answer("c1") == (True, "")


@pytest.mark.parametrize(
    ("operation", "stage", "applied"), [("cull", Stage.CULLED, True), ("resume", Stage.GERMINATED, False)]
)
def test_the_engine_judges_it_in_a_run_and_the_run_goes_on(
    operation: Literal["cull", "resume"], stage: Stage, applied: bool
) -> None:
    answers: list[tuple[bool, str] | None] = []

    def order(company: Company) -> None:
        records = company._play.engine.records()
        (seed, *_) = [one.seed_id for one in records if one.stage is Stage.PROBATIONARY]
        orders = company.orders
        command_id = orders.put(SeedOrder(operation, seed), 7)
        asyncio.get_running_loop().call_later(0.5, lambda: answers.append(orders.answer(command_id)))

    seen = world(FakeTrainer(epochs=60), blind(), calls={1.3: order})
    assert seen.epochs == list(range(1, 61))
    (answer,) = answers
    assert answer is not None
    done, refusal = answer
    assert done is applied
    assert bool(refusal) is not applied
    grafts = seen.outcome.witness.recorder.recorded.grafts.values()
    stages = [entry.stage for graft in grafts for entry in graft.stages]
    assert (stage.name in stages) is (applied or stage is Stage.GERMINATED)


def test_what_an_operator_wants_of_a_seed_is_the_command_that_the_engine_knows() -> None:
    cull, terminate = (command_of(SeedOrder(word, "a#0"), "o1", 5, 18) for word in ("cull", "terminate"))
    assert cull.payload == terminate.payload == CommandSeedOperation(SeedOperation.CULL)
    assert "terminate" not in cull.annotations
    assert terminate.annotations["terminate"] == "true"
    resume = command_of(SeedOrder("resume", "a#0"), "o1", 5, 18)
    assert (resume.command_type, resume.annotations["resume"]) == (CommandType.PAUSE, "true")


@pytest.mark.parametrize(
    ("wanted", "state"),
    [
        ("open", CircuitBreakerState.OPEN),
        ("close", CircuitBreakerState.CLOSED),
        ("try", CircuitBreakerState.HALF_OPEN),
    ],
)
def test_what_an_operator_wants_of_a_breaker_is_a_command_that_the_engine_carries_out(
    wanted: Literal["open", "close", "try"], state: CircuitBreakerState
) -> None:
    command = command_of(BreakerOrder(wanted, "insert"), "o1", 5, 18)
    assert isinstance(command.payload, CommandCircuitBreaker)
    assert (command.payload.desired_state, command.issued_at, command.execution_deadline_ms) == (state, 5, 18)
    engine = Engine(SITES, GrowthConfig(), CATALOGUE, 0)
    verdict = engine.propose(command, {}, 1, 5, 338)
    assert verdict.applied, verdict.refusal
    engine.commit(verdict.plan.plan_id)
    figures = {one.operation: one.breaker for one in engine.guard.figures(1)}
    assert figures == {"insert": {"try": "half_open", "close": "closed"}.get(wanted, wanted)}


@pytest.mark.parametrize("name", ["cull", "remove", "nonsense"])
def test_what_takes_a_seed_out_has_no_breaker_to_set(name: str) -> None:
    engine = Engine(SITES, GrowthConfig(), CATALOGUE, 0)
    verdict = engine.propose(command_of(BreakerOrder("open", name), "o1", 5, 18), {}, 1, 5, 338)
    assert not verdict.applied
    assert f"there is no breaker {name!r} to set" in verdict.refusal


def test_a_breaker_that_an_operator_holds_open_keeps_a_run_from_growing() -> None:
    def order(company: Company) -> None:
        company.orders.put(BreakerOrder("open", "germinate"), 7)

    seen = world(FakeTrainer(epochs=60), blind(), calls={0.0: order})
    assert seen.epochs == list(range(1, 61))
    assert seen.outcome.witness.recorder.recorded.grafts == {}
    (figures,) = seen.engine.guard.figures(60)
    assert (figures.breaker, figures.refused > 0) == ("open", True)


def test_a_fossil_is_terminated_in_a_run() -> None:
    terminated: list[str] = []

    def order(company: Company) -> None:
        fossils = [one.seed_id for one in company._play.engine.records() if one.stage is Stage.FOSSILIZED]
        if fossils and not terminated:
            terminated.append(fossils[0])
            company.orders.put(SeedOrder("terminate", fossils[0]), 7)

    seen = world(FakeTrainer(epochs=60), blind(), calls={when / 2: order for when in range(1, 8)})
    graft = seen.outcome.witness.recorder.recorded.grafts[terminated[0]]
    assert graft.outcome == "terminated"
    assert [one.stage for one in graft.stages][-2:] == ["FOSSILIZED", "TERMINATED"]


def test_the_command_line_asks_for_the_seed_where_one_is_needed() -> None:
    assert order_of("pause", ["relu1#0"]) == Order("seed", seed=SeedOrder("pause", "relu1#0"))
    assert order_of("terminate", ["relu1#0"]) == Order("seed", seed=SeedOrder("terminate", "relu1#0"))
    assert order_of("status") == Order("status")
    for words in ([], ["relu1#0", "relu2#0"]):
        with pytest.raises(NotSteered, match="which seed"):
            order_of("cull", words)
    with pytest.raises(NotSteered, match=r"takes no more words: relu1#0"):
        order_of("halt", ["relu1#0"])


def test_the_command_line_asks_for_the_operation_where_one_is_needed() -> None:
    assert order_of("breaker") == Order("breaker", breaker=BreakerOrder("status"))
    assert order_of("breaker", ["status", "insert"]) == Order(
        "breaker", breaker=BreakerOrder("status", "insert")
    )
    assert order_of("breaker", ["open", "insert"]) == Order("breaker", breaker=BreakerOrder("open", "insert"))
    for words, told in {
        ("explode",): "breaker takes status, open, close, try",
        ("open", "insert", "alpha"): "breaker takes status",
        ("open",): "open which breaker",
        ("close", "flush"): "there is no operation 'flush'; there are germinate",
    }.items():
        with pytest.raises(NotSteered, match=told):
            order_of("breaker", words)


class Slow(InlineThreads):
    """A worker that takes so long, in virtual time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def run(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(self._seconds)
        return work()


def test_an_order_about_the_level_is_put_down_once_and_nothing_where_none_came() -> None:
    written: list[EmergencyState] = []
    emergencies = Emergencies(EmergencyConfig())

    async def main() -> None:
        book = Notebook(emergencies, written.append, InlineThreads())
        assert await book.put_down() == ""
        assert not written
        emergencies.force(Level.ELEVATED, 1, "anna")
        assert await book.put_down() == ""
        assert await book.put_down() == ""

    run_simulated(main, seed=0)
    assert written == [emergencies.state()]


def test_of_orders_that_come_while_the_disk_writes_the_newest_is_there_in_the_end() -> None:
    written: list[EmergencyState] = []
    emergencies = Emergencies(EmergencyConfig())

    async def main() -> None:
        book = Notebook(emergencies, written.append, Slow(1.0))
        emergencies.force(Level.ELEVATED, 1, "anna")
        first = asyncio.create_task(book.put_down())
        await asyncio.sleep(0.5)
        emergencies.force(Level.CONSERVATIVE, 1, "anna")
        assert [await first, await book.put_down()] == ["", ""]

    run_simulated(main, seed=0)
    assert [one.floor for one in written] == [Level.ELEVATED, Level.CONSERVATIVE]


def test_an_order_that_the_disk_does_not_take_is_told_and_tried_again_with_the_next() -> None:
    written: list[EmergencyState] = []
    emergencies, full = Emergencies(EmergencyConfig()), [True]

    def write(state: EmergencyState) -> None:
        if full.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(state)

    async def main() -> None:
        book = Notebook(emergencies, write, InlineThreads())
        late = Notebook(emergencies, write, Slow(PUT_DOWN_S + 1.0))
        emergencies.force(Level.ELEVATED, 1, "anna")
        assert await book.put_down() == f"{LOST_BY_A_KILL}: No space left on device"
        full.append(False)
        assert await book.put_down() == ""
        assert await late.put_down() == f"{LOST_BY_A_KILL}: it is not on disk in time"

    run_simulated(main, seed=0)
    assert written == [emergencies.state()]


def test_an_order_that_was_too_slow_to_be_written_never_overwrites_a_newer_one() -> None:
    written: list[EmergencyState] = []
    emergencies = Emergencies(EmergencyConfig())

    async def main() -> None:
        book = Notebook(emergencies, written.append, Slow(PUT_DOWN_S + 1.0))
        emergencies.force(Level.ELEVATED, 1, "anna")
        assert "not on disk in time" in await book.put_down()
        emergencies.force(Level.CONSERVATIVE, 1, "anna")
        assert "not on disk in time" in await book.put_down(), "the disk is at the first one for a second yet"
        await asyncio.sleep(2 * PUT_DOWN_S)

    run_simulated(main, seed=0)
    assert [one.floor for one in written] == [Level.ELEVATED, Level.CONSERVATIVE]
