import pytest
import torch
from torch import Tensor

from contracts.growth import Operation
from contracts.lifecycle import Stage
from esper.kasmina.plan import Note
from esper.tolaria import safepoint
from esper.tolaria.errors import PlanRefused
from esper.tolaria.optimizer import holds, state_by_name
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria.world import (
    fossilize,
    insert,
    learn,
    live,
    plan,
    record,
    remove,
    rest,
    same,
    trainer,
    weights,
)


def trained(epochs: int = 2) -> Trainer:
    one = trainer()
    for _ in range(epochs):
        one.run_epoch()
    return one


def optimizer_state(of: Trainer) -> dict[str, Tensor]:
    model, optimizer = of._grafts.model, of._machine.parts.optimizer
    named = state_by_name(optimizer, list(model.named_parameters()))
    return {f"{name}.{key}": value for name, entries in named.items() for key, value in entries.items()}


def test_a_graft_changes_no_host_tensor_and_no_old_optimizer_state() -> None:
    one = trained()
    before, state = weights(one), optimizer_state(one)
    applied = one.apply(plan(insert("one#0"), live("one#0")))
    after = weights(one)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert same(optimizer_state(one), state)
    assert (applied.params_added, applied.params_removed, applied.changed_host) == (27, 0, ())


@pytest.mark.parametrize(("slow", "failures"), [("take_undo", 0), ("admit", 4)])
def test_a_graft_is_not_slow_for_the_copy_of_its_way_back(
    monkeypatch: pytest.MonkeyPatch, slow: str, failures: int
) -> None:
    one, now_s = trained(), [0.0]
    work = getattr(safepoint, slow)

    def slowly(*given: object) -> object:
        now_s[0] += 1.2
        return work(*given)

    monkeypatch.setattr(safepoint, slow, slowly)
    monkeypatch.setattr(one.guard, "_seconds", lambda: now_s[0])
    for number in range(4):
        one.apply(plan(insert(f"one#{number}")))
        one.apply(plan(remove(f"one#{number}")))
    figures = next(one for one in one.guard.figures(0) if one.operation == Operation.INSERT)
    assert (figures.count, figures.failures) == (4, failures)
    assert figures.worst_ms == pytest.approx(1_200.0)


def test_a_removed_seed_leaves_nothing_behind() -> None:
    one = trained()
    names = weights(one).keys()
    one.apply(plan(insert("one#0"), live("one#0")))
    parameters = one._grafts.named_parameters("one#0")
    one.run_epoch()
    applied = one.apply(plan(remove("one#0")))
    assert applied.params_removed == 27
    assert weights(one).keys() == names
    assert not holds(one._machine.parts.optimizer, parameters)
    assert one.assemble().figures["one#0"].cleared is True


def test_a_seed_culled_in_isolation_leaves_a_run_as_if_it_had_never_been() -> None:
    alone, visited = trained(), trained()
    visited.apply(plan(insert("one#0"), learn("one#0")))
    alone.run_epoch()
    visited.run_epoch()
    visited.apply(plan(remove("one#0")))
    assert alone.run_epoch().train_loss == visited.run_epoch().train_loss
    assert same(weights(alone), weights(visited))
    assert same(optimizer_state(alone), optimizer_state(visited))


def test_a_rollback_brings_weights_buffers_and_optimizer_state_back_and_names_what_changed() -> None:
    one = trained()
    before, state = weights(one), optimizer_state(one)
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    step = one.assemble().state.global_step
    applied = one.apply(plan(remove("one#0", rollback=True)))
    assert same(weights(one), before)
    assert same(optimizer_state(one), state)
    assert set(applied.changed_host) == before.keys()
    assert "rolled back" in applied.notes[0]
    assert applied.refused == ()
    assert one.assemble().state.global_step == step


def test_a_rollback_past_another_graft_is_not_done_and_said_so() -> None:
    one = trained()
    one.apply(plan(insert("one#0"), live("one#0")))
    one.apply(plan(insert("two#0")))
    one.run_epoch()
    present = {name: tensor for name, tensor in weights(one).items() if not name.startswith("one.")}
    applied = one.apply(plan(remove("one#0", rollback=True)))
    assert applied.changed_host == ()
    assert "without rollback" in applied.refused[0]
    assert applied.notes == ()
    after = weights(one)
    assert all(torch.equal(after[name], tensor) for name, tensor in present.items())
    seed = one.assemble().growth.sites[0].seed
    assert seed is not None
    assert seed.record.rolled_back is False


def test_a_rollback_keeps_a_fossils_place_in_the_network() -> None:
    one = trained()
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0")))
    one.run_epoch()
    before = weights(one)
    one.apply(plan(insert("two#0"), live("two#0", alpha=0.5)))
    one.run_epoch()
    one.apply(plan(remove("two#0", rollback=True)))
    assert same(weights(one), before)
    assert one._grafts.alpha("one#0") == 1.0


def test_a_fossil_joins_the_hosts_group_with_its_state() -> None:
    one = trained()
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    state = optimizer_state(one)
    one.apply(plan(fossilize("one#0")))
    assert len(one._machine.parts.optimizer.param_groups) == 1
    assert same(optimizer_state(one), state)
    assert one.assemble().growth.sites[0].fossils[0].record.stage is Stage.FOSSILIZED


def test_a_fossil_can_still_be_taken_down() -> None:
    one = trained()
    before = weights(one).keys()
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0")))
    one.run_epoch()
    one.apply(plan(remove("one#0")))
    assert weights(one).keys() == before
    one.run_epoch()


def test_a_resting_seed_does_not_learn() -> None:
    one = trained()
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    one.apply(plan(rest("one#0")))
    before = {name: t for name, t in weights(one).items() if "esper_graft" in name}
    one.run_epoch()
    after = weights(one)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    "changes",
    [
        (insert("one#0"), live("two#7")),
        (insert("one#0"), insert("one#0")),
        (insert("nowhere#0"),),
        (insert("one#0"), remove("one#0"), live("one#0")),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_whole(changes: tuple[object, ...]) -> None:
    one = trained()
    before, state = weights(one), optimizer_state(one)
    with pytest.raises(PlanRefused):
        one.apply(plan(*changes))  # type: ignore[arg-type]
    assert same(weights(one), before)
    assert same(optimizer_state(one), state)
    assert one.assemble().growth.sites[0].seed is None


def test_a_note_changes_the_record_alone() -> None:
    one = trained()
    before = weights(one)
    one.apply(plan(Note(record("one#0", Stage.EMBARGOED))))
    assert same(weights(one), before)
    assert not one.assemble().growth.sites[0].free


def test_a_sites_new_slot_takes_the_place_of_its_spent_one() -> None:
    one = trained()
    one.apply(plan(Note(record("one#0", Stage.DORMANT)), Note(record("one#1", Stage.DORMANT))))
    assert list(one.assemble().figures) == ["one#1"]
