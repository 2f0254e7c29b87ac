"""Claims about an operator's orders to seeds: each takes the policy's place at one boundary."""

import asyncio

import pytest

from actors.orders import ANSWERS_MAX, WAITING_MAX, Orders
from actors.steer import NotSteered, order_of
from contracts.emergency import Order, SeedOrder
from contracts.lifecycle import Stage
from tests.actors.fakes import FakeTrainer
from tests.actors.test_returning import blind, world

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
    operation: str, stage: Stage, applied: bool
) -> None:
    answers: list[tuple[bool, str] | None] = []

    def order(company: object) -> None:
        records = company._play.engine.records()  # type: ignore[attr-defined]
        (seed, *_) = [one.seed_id for one in records if one.stage is Stage.PROBATIONARY]
        orders = company.orders  # type: ignore[attr-defined]
        command_id = orders.put(SeedOrder(operation, seed), 7)  # type: ignore[arg-type]
        asyncio.get_running_loop().call_later(0.5, lambda: answers.append(orders.answer(command_id)))

    seen = world(FakeTrainer(epochs=60), blind(), calls={1.3: order})
    assert seen.epochs == list(range(1, 61))
    ((done, refusal),) = answers  # type: ignore[misc]
    assert done is applied
    assert bool(refusal) is not applied
    grafts = seen.outcome.witness.recorder.recorded.grafts.values()
    stages = [entry.stage for graft in grafts for entry in graft.stages]
    assert (stage.name in stages) is (applied or stage is Stage.GERMINATED)


def test_the_command_line_asks_for_the_seed_where_one_is_needed() -> None:
    assert order_of("pause", "relu1#0") == Order("seed", seed=SeedOrder("pause", "relu1#0"))
    assert order_of("status", None) == Order("status")
    with pytest.raises(NotSteered, match="which seed"):
        order_of("cull", None)
    with pytest.raises(NotSteered, match="takes no seed"):
        order_of("halt", "relu1#0")
