"""Going back: whatever has happened since, the run is bit for bit what it was."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from contracts.conflict import ConflictFacts
from esper.kasmina.graft import Grafts
from esper.tolaria import keeping
from esper.tolaria.errors import RestoreFailed
from esper.tolaria.network import Network
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria.runs import Run, finished, same_snapshot, through_disk
from tests.esper.tolaria.world import (
    config,
    fossilize,
    insert,
    learn,
    live,
    plan,
    remove,
    rest,
    same,
    trainer,
    weights,
)
from tests.hosts import HOSTS


def test_a_restored_run_resumes_bit_for_bit_and_what_was_spent_stays_spent() -> None:
    one = trainer(config(epochs=6), dropout=0.3)
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0"), insert("two#0", dropout=0.5)))
    one.apply(plan(learn("two#0")))
    one.run_epoch()
    kept = one.keep()
    first = [one.run_epoch() for _ in range(3)]
    expected, spent = weights(one), one.ledger.spent
    one.run_epoch()
    one.restore(kept)
    assert one.ledger.spent > spent
    again = [one.run_epoch() for _ in range(3)]
    assert [replace(result, spent_flops=0) for result in again] == [
        replace(result, spent_flops=0) for result in first
    ]
    assert same(weights(one), expected)


def test_what_was_just_restored_is_not_copied_again_and_is_what_a_copy_would_be() -> None:
    one = trainer(config(epochs=6), dropout=0.3)
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    kept = one.keep()
    one.run_epoch()
    one.restore(kept, behind_break=True)
    again, copied = one.keep(kept), one.keep()
    assert (again.network is kept.network, again.optimizer is kept.optimizer) == (True, True)
    assert same_snapshot(again, copied)
    assert not same_snapshot(again, kept, spent=False), "the data go on behind the batch that broke"
    one.run_epoch()
    one.restore(again)
    assert same_snapshot(one.keep(), copied, spent=False), "and it stays as it was"


def test_a_restore_gives_the_result_of_its_epoch_or_none_before_the_first() -> None:
    one = trainer()
    before = one.keep()
    result = one.run_epoch()
    kept = one.keep()
    one.run_epoch()
    assert one.restore(kept) == result
    assert one.restore(before) is None
    assert one.run_epoch().train_loss == result.train_loss


def test_a_restored_seed_is_as_live_as_it_was() -> None:
    one = trainer()
    one.apply(plan(insert("one#0"), live("one#0", alpha=0.5)))
    one.run_epoch()
    kept, before = one.keep(), weights(one)
    one.apply(plan(live("one#0", alpha=1.0)))
    one.run_epoch()
    one.restore(kept)
    assert one._grafts.alpha("one#0") == 0.5
    assert same(weights(one), before)


def test_the_process_own_streams_come_back_too() -> None:
    one = trainer()
    kept = one.keep()
    drawn = (random.random(), np.random.normal(), torch.rand(3).tolist())
    one.restore(kept)
    assert (random.random(), np.random.normal(), torch.rand(3).tolist()) == drawn


def test_seeds_come_back_in_their_order_at_a_site() -> None:
    one = trainer()
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0"), insert("one#1"), live("one#1")))
    one.run_epoch()
    kept, modules = one.keep(), [one._grafts.module(name) for name in ("one#0", "one#1")]
    one.apply(plan(remove("one#0", 1)))
    one.apply(plan(insert("one#2", 1), live("one#2", 1)))
    one.run_epoch()
    one.restore(kept)
    assert one._grafts.seed_ids() == ("one#0", "one#1")
    assert [slot.seed_id for slot in one._grafts.model.one.esper_graft.slots] == ["one#0", "one#1"]
    assert [one._grafts.module(name) for name in ("one#0", "one#1")] == modules
    assert same_snapshot(one.keep(), kept, spent=False)


def test_another_seed_of_the_same_name_gives_way_to_the_one_that_was_there() -> None:
    one = trainer()
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    kept, module = one.keep(), one._grafts.module("one#0")
    one.apply(plan(remove("one#0", 1), insert("one#0", 1), live("one#0", 1)))
    assert one._grafts.module("one#0") is not module
    one.restore(kept)
    assert one._grafts.module("one#0") is module
    assert same_snapshot(one.keep(), kept, spent=False)


def test_a_rollback_to_before_a_graft_still_works_after_a_restore() -> None:
    one = trainer()
    one.run_epoch()
    before = weights(one)
    one.apply(plan(insert("one#0", 1), live("one#0", 1)))
    one.run_epoch()
    kept = one.keep()
    one.apply(plan(insert("two#0", 2), live("two#0", 2)))
    one.run_epoch()
    one.restore(kept)
    applied = one.apply(plan(remove("one#0", 2, rollback=True)))
    assert applied.refused == ()
    assert same(weights(one), before)


def test_a_way_back_that_does_not_fit_any_more_is_not_kept() -> None:
    one = trainer()
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    first = one.keep()
    one.apply(plan(insert("two#0", 1), live("two#0", 1)))
    one.run_epoch()
    second = one.keep()
    assert first.seeds["one#0"].undo is not None
    assert {name: seed.undo is None for name, seed in second.seeds.items()} == {"one#0": True, "two#0": False}
    assert second.nbytes > second.network.nbytes + second.optimizer.nbytes > 0
    assert one.apply(plan(remove("one#0", 2, rollback=True))).refused != ()


STEPS = {
    "train": lambda one, epoch: one.run_epoch(),
    "graft": lambda one, epoch: one.apply(plan(insert(f"one#{epoch}", epoch), live(f"one#{epoch}", epoch))),
    "learn": lambda one, epoch: one.apply(plan(insert(f"two#{epoch}", epoch), learn(f"two#{epoch}", epoch))),
    "fossilize": lambda one, epoch: each(
        one, lambda name: (live(name, epoch), fossilize(name, epoch)), fossils=False
    ),
    "remove": lambda one, epoch: each(one, lambda name: (remove(name, epoch, rollback=True),)),
    "isolate": lambda one, epoch: each(one, lambda name: (rest(name, epoch),), fossils=False),
    "leak": lambda one, epoch: one.isolation._note("one#1", "it touched the host"),
    "meddle": lambda one, epoch: one._machine.parts.optimizer.param_groups[-1].update(
        lr=0.5, betas=(0.1, 0.2)
    ),
    "poison": lambda one, epoch: poison(one),
    "shuffle": lambda one, epoch: (torch.rand(7), random.random(), np.random.rand(3)),
}


def each(one: Trainer, changes: Callable[[str], tuple[object, ...]], fossils: bool = True) -> None:
    """Change the oldest seed that is in place; one that is not the host's yet, unless `fossils`."""
    growth = one._machine.parts.growth
    for name in one._grafts.seed_ids():
        if fossils or growth.seeds[name].open:
            one.apply(plan(*changes(name)))  # type: ignore[arg-type]
            return


def poison(one: Trainer) -> None:
    """NaN in every number that the network and its optimizer have."""
    with torch.no_grad():
        for tensor in (*one._grafts.model.parameters(), *one._grafts.model.buffers()):
            if tensor.is_floating_point() and tensor.ndim:
                tensor.fill_(float("nan"))
    for entries in one._machine.parts.optimizer.state.values():
        entries["exp_avg"].fill_(float("nan"))


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(STEPS)), max_size=6),
    st.lists(st.sampled_from(sorted(STEPS)), max_size=8),
)
def test_whatever_has_happened_since_the_run_is_bit_for_bit_what_it_was(
    before: list[str], since: list[str]
) -> None:
    one, epoch = trainer(config(epochs=40), dropout=0.2), 0
    one.run_epoch()
    for step in before:
        if step != "poison":
            epoch += 1
            STEPS[step](one, epoch)
    kept = one.keep()
    poisoned = False
    for step in since:
        epoch += 1
        poisoned |= step == "poison"
        if step != "train" or not poisoned:
            STEPS[step](one, epoch)
    one.restore(kept)
    assert same_snapshot(one.keep(), kept, spent=False)
    assert dict(one.keep().modules) == dict(kept.modules)
    assert one.params == sum(parameter.numel() for parameter in one._grafts.model.parameters())


def test_going_back_over_grafts_fossils_and_culls_and_on_again_gives_the_same_run() -> None:
    host, far = HOSTS[0], 7
    run, whole = Run.new(host), finished(host)
    while len(run.kept) < 11:
        run.turn()
    kept = run.kept[10 - far]
    run.go_back(kept)
    run.turn()
    again = run.kept[-1].snapshot
    # other tests draw from the global streams too
    there = replace(whole.kept[11 - far].snapshot, global_streams=again.global_streams)
    assert same_snapshot(without_spent(again), without_spent(there))


def test_whether_the_next_epoch_projects_is_as_it_was() -> None:
    one = trainer()
    one.run_epoch()
    kept, conflicts = one.keep(), one._machine.conflicts
    last = kept.position.last
    assert last is not None
    facts = ConflictFacts(1, 1, 0.1, 0, 0, projects_next=True)
    projecting = replace(kept, position=replace(kept.position, last=replace(last, conflict=facts)))
    one.restore(projecting)
    assert conflicts.projects
    one.restore(kept)
    assert not conflicts.projects


def without_spent(snapshot: Snapshot) -> Snapshot:
    last = snapshot.position.last
    assert last is not None
    position = replace(snapshot.position, last=replace(last, spent_flops=0))
    return replace(snapshot, accounts={}, position=position)


def with_growth() -> tuple[Trainer, Snapshot]:
    """One that has grown and changed since what was kept."""
    one = trainer()
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    kept = one.keep()
    one.apply(plan(insert("two#0", 1), live("two#0", 1), remove("one#0", 1)))
    one.run_epoch()
    return one, kept


def retyped(network: Network) -> Network:
    return replace(network, tensors={**network.tensors, "leave.bias": torch.zeros(4)})


UNFIT: dict[str, Callable[[Snapshot], Snapshot]] = {
    "other tensors now": lambda kept: replace(
        kept, network=replace(kept.network, tensors={"leave.bias": torch.zeros(3)})
    ),
    "of shape": lambda kept: replace(kept, network=retyped(kept.network)),
    "no module of one#0": lambda kept: replace(kept, modules={}),
    "not the same seeds": lambda kept: replace(kept, seeds={}),
    "the optimizer was a SGD": lambda kept: replace(kept, optimizer=replace(kept.optimizer, kind="SGD")),
    "alpha is nan": lambda kept: replace(
        kept,
        network=replace(kept.network, seeds=(replace(kept.network.seeds[0], alpha=float("nan")),)),
    ),
    "order of the data": lambda kept: replace(kept, loader=replace(kept.loader, order=torch.arange(7))),
    "the data are at batch 99": lambda kept: replace(kept, loader=replace(kept.loader, position=99)),
    "RNG state": lambda kept: replace(kept, stream=torch.zeros(3, dtype=torch.uint8)),
    "state": lambda kept: replace(
        kept, global_streams=replace(kept.global_streams, python=(3, (1, 2), None))
    ),
    "the accounts are": lambda kept: replace(kept, accounts={"train": 1}),
}


@pytest.mark.parametrize("said", UNFIT)
def test_what_does_not_fit_is_refused_before_anything_changes(said: str) -> None:
    one, kept = with_growth()
    before = one.keep()
    with pytest.raises(RestoreFailed, match=said) as raised:
        one.restore(UNFIT[said](kept))
    assert raised.value.consistent
    assert "nothing has changed" in str(raised.value)
    assert same_snapshot(one.keep(), before)
    assert one._grafts.seed_ids() == ("two#0",)
    one.run_epoch()


PARTS = ["regrow", "put_network", "put_optimizer", "put_streams"]


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("part", PARTS)
def test_a_restore_that_breaks_half_way_says_so_and_any_other_one_mends_it(
    part: str, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, kept = with_growth()
    whole = getattr(keeping, part)

    def breaks(*given: object) -> None:
        if late:
            whole(*given)
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(keeping, part, breaks)
        with pytest.raises(RestoreFailed, match="no room; what it left is not consistent") as raised:
            one.restore(kept)
    assert not raised.value.consistent
    for refused in (one.run_epoch, one.keep):
        with pytest.raises(RestoreFailed, match="none has succeeded since"):
            refused()
    with pytest.raises(RestoreFailed) as raised:
        one.restore(UNFIT["of shape"](kept))
    assert not raised.value.consistent, "it was not consistent before"
    one.restore(kept)
    assert same_snapshot(one.keep(), kept, spent=False)
    one.run_epoch()


def test_a_restore_broken_off_from_outside_leaves_a_trainer_that_trains_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, kept = with_growth()

    def interrupted(grafts: Grafts, network: Network) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "put_network", interrupted)
        with pytest.raises(KeyboardInterrupt):
            one.restore(kept)
    with pytest.raises(RestoreFailed, match="half-way"):
        one.run_epoch()
    one.restore(kept)
    assert same_snapshot(one.keep(), kept, spent=False)


def test_a_module_from_disk_that_shares_memory_with_the_model_is_refused() -> None:
    one, kept = with_growth()
    thief = nn.Sequential(one._grafts.model.middle)
    with pytest.raises(RestoreFailed, match="shares tensors with the model"):
        one.restore(replace(kept, modules={"one#0": thief}))


def test_a_parameter_that_is_a_buffer_too_comes_back_as_any_other() -> None:
    one = trainer()
    name, weight = next(iter(one._grafts.model.named_parameters()))
    one._grafts.model.register_buffer("ref", weight)
    one.run_epoch()
    kept = one.keep()
    assert {name, "ref"} <= kept.network.tensors.keys()
    one.run_epoch()
    one.restore(kept)
    assert torch.equal(weight, kept.network.tensors[name])


def test_an_expanded_buffer_is_left_alone_while_it_is_the_same() -> None:
    one = trainer()
    one._grafts.model.register_buffer("places", torch.arange(2.0).view(2, 1).expand(2, 3))
    one.run_epoch()
    kept = one.keep()
    one.run_epoch()
    one.restore(kept)
    assert same_snapshot(one.keep(), kept, spent=False)
    one._grafts.model.places = torch.ones(2, 1).expand(2, 3)
    with pytest.raises(RestoreFailed, match="expanded tensor") as raised:
        one.restore(kept)
    assert raised.value.consistent


def test_a_parameter_that_somebody_put_into_the_host_since_is_taken_out_again() -> None:
    one, kept = with_growth()
    one._grafts.model.middle.extra = nn.Parameter(torch.ones(2))
    one.restore(kept)
    assert "middle.extra" not in dict(one._grafts.model.named_parameters())
    assert same_snapshot(one.keep(), kept, spent=False)


def test_a_parameter_of_somebody_elses_in_the_optimizer_stays_there() -> None:
    one = trainer()
    one.run_epoch()
    optimizer, mine = one._machine.parts.optimizer, nn.Parameter(torch.ones(2))
    optimizer.param_groups[0]["params"].append(mine)
    mine.grad = torch.ones(2)
    kept = one.keep()
    assert "mine" not in kept.network.tensors
    optimizer.step()
    state = optimizer.state[mine]["exp_avg"].clone()
    one.restore(kept)
    assert any(parameter is mine for parameter in optimizer.param_groups[0]["params"])
    assert torch.equal(optimizer.state[mine]["exp_avg"], state)
    assert same_snapshot(one.keep(), kept, spent=False)


def test_a_run_read_from_disk_takes_the_place_of_what_has_grown_since() -> None:
    host = HOSTS[2]
    run = Run.new(host)
    while len(run.kept) < 8:
        run.turn()
    kept = run.kept[4].snapshot
    read = through_disk(run, kept)
    run.trainer.restore(read)
    assert same_snapshot(run.trainer.keep(), kept, spent=False)
    assert all(run.trainer._grafts.module(name) is module for name, module in read.modules.items())


def test_a_run_goes_on_from_the_disk_as_it_goes_on_from_memory() -> None:
    run = Run.new(HOSTS[0])
    while len(run.kept) < 8:
        run.turn()
    kept = next(one.snapshot for one in run.kept if len(one.snapshot.network.seeds) == 2)
    after = []
    for snapshot in (kept, through_disk(run, kept)):
        run.trainer.restore(snapshot)
        run.trainer.run_epoch()
        after.append(run.trainer.keep())
        assert run.trainer._machine.safe_point.look() == (), "no parameter of a module that is gone is left"
    assert same_snapshot(*(_without_costs(one) for one in after), spent=False)


def _without_costs(snapshot: Snapshot) -> Snapshot:
    """The same but for the FLOPs spent so far, which never fall."""
    at = snapshot.position
    assert at.last is not None
    return replace(snapshot, position=replace(at, last=replace(at.last, spent_flops=0)))
