"""A run that grows, with optimizers and schedulers of torch's, against the plainest loop in torch alone."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim import lr_scheduler as theirs
from torch.optim.lr_scheduler import ReduceLROnPlateau

from contracts.config import Config
from contracts.growth import Candidate, Contender, ProbePlan, ProbeRound
from contracts.lifecycle import Stage
from esper.comparison import Ungrown
from esper.kasmina.plan import Insert
from esper.tolaria.loader import Loader
from esper.tolaria.measure import measure
from esper.tolaria.optimizer import NamedState, host_groups, state_by_name
from esper.tolaria.randomness import generator_for
from esper.tolaria.record import from_record, to_record
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.task import Every, SchedulerFactory, Task
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria import world
from tests.esper.tolaria.world import (
    HIDDEN,
    SmallSeed,
    config,
    fossilize,
    host_weights,
    insert,
    learn,
    live,
    plan,
    record,
    remove,
    same,
    trainer,
    weights,
)

EPOCHS, EPOCH_STEPS = 8, 6
STEPS = EPOCHS * EPOCH_STEPS
Make = Callable[[list[dict[str, Any]]], Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "adamw": lambda groups: AdamW(groups, lr=0.02, weight_decay=0.1),
    "sgd": lambda groups: SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda groups: RMSprop(groups, lr=0.01, momentum=0.5, centered=True),
    "amsgrad": lambda groups: Adam(groups, lr=0.02, amsgrad=True, weight_decay=0.01),
}
SCHEDULERS: dict[str, tuple[SchedulerFactory, Every | None]] = {
    "one cycle": (lambda o: theirs.OneCycleLR(o, 0.05, total_steps=STEPS), "step"),
    "cosine": (lambda o: theirs.CosineAnnealingLR(o, T_max=EPOCHS), "epoch"),
    "plateau": (lambda o: ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=0.2), None),
    "lambda": (lambda o: theirs.LambdaLR(o, lambda step: 0.96**step), "step"),
}
NAMES = ("adam", "adamw", "sgd", "rmsprop", "adam_amsgrad")
SCHEDULES = ("linear", "one_cycle", "cosine", "plateau", "constant")


def each_once(first: Iterable[str], second: Iterable[str]) -> list[Any]:
    """All pairs; those beyond one of each are slow."""
    pairs = [*zip(first, second, strict=True)]
    rest = [pair for pair in itertools.product(first, second) if pair not in pairs]
    return [*pairs, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in rest)]


START = world.task().model.state_dict()


class Silent(nn.Module):
    """Has parameters that learn by weight decay alone, and contributes exactly nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, h: Tensor) -> Tensor:
        return torch.zeros_like(h) * self.scale


def silent(seed_id: str) -> Insert:
    return Insert(record(seed_id, Stage.GERMINATED), Silent())


@dataclass
class Alone:
    """What training in torch alone came to."""

    rates: list[float]
    tensors: dict[str, Tensor]
    state: NamedState


def alone(optimizer: str, scheduler: str) -> Alone:
    task = world.task()
    model, named = task.model, list(task.model.named_parameters())
    torchs = OPTIMIZERS[optimizer](host_groups(named))
    make, every = SCHEDULERS[scheduler]
    schedule, loader = make(torchs), Loader(task.train, 10, generator_for(3, "batches"))
    rates = []
    for _ in range(EPOCHS):
        for inputs, targets in loader.batches(EPOCH_STEPS):
            rates.append(torchs.param_groups[0]["lr"])
            torchs.zero_grad()
            task.loss_fn(model(inputs), targets).backward()
            torchs.step()
            if every == "step":
                schedule.step()
        loss = measure(model, task.validation, task.loss_fn, None).loss
        if isinstance(schedule, ReduceLROnPlateau):
            schedule.step(loss)
        elif every == "epoch":
            schedule.step()
    tensors = {**dict(named), **dict(model.named_buffers())}
    return Alone(rates, {key: t.detach().clone() for key, t in tensors.items()}, state_by_name(torchs, named))


def bringing(optimizer: str, scheduler: str) -> Task:
    make, every = SCHEDULERS[scheduler]
    task = replace(world.task(), optimizer=OPTIMIZERS[optimizer], scheduler=make)
    return replace(task, scheduler_every=every)


def settings(**train: Any) -> Config:
    return config(epochs=EPOCHS, **train)


def grow(one: Trainer, epoch: int) -> None:
    """Seeds that change no number of the host's pass through everything that can befall a seed."""
    changes = {
        1: [insert("one#0"), learn("one#0")],
        2: [silent("two#0"), live("two#0")],
        3: [remove("one#0")],
        4: [fossilize("two#0"), silent("one#1"), live("one#1")],
        6: [remove("one#1")],
    }
    if epoch in changes:
        one.apply(plan(*changes[epoch]))


def rates_seen(one: Trainer) -> list[float]:
    """The host's rate at each optimizer step from now on, as they are taken."""
    optimizer, seen = one._machine.parts.optimizer, list[float]()
    optimizer.register_step_pre_hook(lambda *_: seen.append(optimizer.param_groups[0]["lr"]))
    return seen


@pytest.mark.parametrize(("optimizer", "scheduler"), each_once(OPTIMIZERS, SCHEDULERS))
def test_a_host_that_grows_trains_bit_for_bit_as_in_torch_alone(optimizer: str, scheduler: str) -> None:
    expected = alone(optimizer, scheduler)
    one = trainer(settings(), the_task=bringing(optimizer, scheduler), counts_validation=False)
    seen, kept = rates_seen(one), None
    for epoch in range(EPOCHS):
        grow(one, epoch)
        if epoch == 5:
            kept = one.keep()
            one.run_epoch()
            one.restore(kept)
            del seen[-EPOCH_STEPS:]
        assert one.run_epoch().foreign_rate_changes == 0
    parts = one._machine.parts
    host = parts.grafts.host_named_parameters()
    assert seen == expected.rates
    assert len(set(seen)) > 2
    assert same(host_weights(one), expected.tensors)
    found = state_by_name(parts.optimizer, host)
    assert found.keys() == expected.state.keys()
    for name, entries in expected.state.items():
        assert found[name].keys() == entries.keys()
        assert all(
            torch.equal(torch.as_tensor(found[name][key]), torch.as_tensor(entries[key])) for key in entries
        )
    assert [group["name"] for group in parts.optimizer.param_groups] == ["host"]
    assert "two#0" in parts.grafts.seed_ids()


def test_a_host_split_into_groups_and_frozen_in_part_grows_too() -> None:
    def split(groups: list[dict[str, Any]]) -> Optimizer:
        learning = [p for p in groups[0]["params"] if p.requires_grad]
        matrices, rest = [p for p in learning if p.dim() > 1], [p for p in learning if p.dim() < 2]
        return AdamW([{"params": matrices}, {"params": rest, "lr": 0.04, "weight_decay": 0.0}], lr=0.02)

    task = replace(world.task(), optimizer=split)
    task.model.enter.weight.requires_grad_(False)  # type: ignore[union-attr,operator]
    one = trainer(settings(schedule="one_cycle"), the_task=task)
    frozen = weights(one)["enter.weight"]
    for epoch in range(EPOCHS):
        grow(one, epoch)
        assert one.run_epoch().foreign_rate_changes == 0
        first, second = one._machine.parts.optimizer.param_groups[:2]
        assert [first["name"], second["name"]] == ["host", "host/1"]
        assert second["lr"] == pytest.approx(2 * first["lr"])
        assert (first["weight_decay"], second["weight_decay"]) == (0.01, 0.0)
    assert torch.equal(weights(one)["enter.weight"], frozen)
    assert one.assemble().growth.conservative is False
    names = {name for name, tensor in host_weights(one).items() if not torch.equal(tensor, dict(START)[name])}
    assert {"leave.weight", "leave.bias"} <= names


def resumed(snapshot: Snapshot, new: Trainer) -> Trainer:
    """The run as a new process goes on with it, from what was written to disk."""
    record, tensors = to_record(snapshot)
    read = from_record(record, tensors, lambda _: SmallSeed(torch.Generator()))
    new.restore(read)
    return new


@pytest.mark.parametrize(("optimizer", "scheduler"), each_once(OPTIMIZERS, SCHEDULERS))
def test_a_run_that_was_kept_in_the_middle_is_resumed_bit_for_bit(optimizer: str, scheduler: str) -> None:
    one = trainer(settings(seed_warmup_steps=20), the_task=bringing(optimizer, scheduler))
    one.run_epoch()
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    record = one.keep()
    anew = resumed(record, trainer(settings(seed_warmup_steps=20), the_task=bringing(optimizer, scheduler)))
    assert anew._machine.parts.rates.state() == record.rates
    for _ in range(3):
        assert anew.run_epoch() == one.run_epoch()
    assert same(weights(anew), weights(one))
    assert anew._machine.parts.rates.state() == one._machine.parts.rates.state()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_probe_forks_every_optimizer_and_leaves_the_run_as_it_was(optimizer: str) -> None:
    probed, left = (trainer(settings(), the_task=bringing(optimizer, "one cycle")) for _ in range(2))
    for one in (probed, left):
        before = one.run_epoch().val_loss
    candidates = tuple(Contender((Candidate(site, "BP003", {"width": 2.0}),)) for site in ("one", "two"))
    report = probed.probe(ProbePlan("p", candidates, (ProbeRound(4, 2),)))
    assert len(report.scores) == 2
    assert all(0 < score.loss < 10 for score in report.scores)
    assert all(0 < score.loss_control < before for score in report.scores)  # a fork's host learns
    assert probed.run_epoch().train_loss == left.run_epoch().train_loss
    assert same(weights(probed), weights(left))


@pytest.mark.parametrize(("name", "schedule"), each_once(NAMES, SCHEDULES))
def test_every_named_pair_trains_a_network_that_grows_and_resumes(name: str, schedule: str) -> None:
    one = trainer(settings(optimizer=name, schedule=schedule))
    losses = []
    for epoch in range(3):
        grow(one, epoch)
        losses.append(one.run_epoch())
        if epoch == 1:
            anew = resumed(one.keep(), trainer(settings(optimizer=name, schedule=schedule)))
    grow(anew, 2)
    assert anew.run_epoch() == losses[-1]
    assert same(weights(anew), weights(one))
    assert losses[-1].val_loss < losses[0].val_loss
    assert one._machine.parts.rates.foreign_changes == 0


def test_a_schedule_of_the_configuration_ends_with_a_budget_in_flops_however_it_grows() -> None:
    final: list[float] = []
    for grows in (False, True):
        budget = config(epochs=None, gflop=4e-4, schedule="one_cycle", optimizer="sgd")
        one = trainer(budget, counts_validation=False)
        seen = rates_seen(one)
        epoch = 0
        while not one.finished:
            epoch += 1
            if grows and epoch == 3:
                one.apply(plan(insert("one#0"), live("one#0"), insert("two#0"), live("two#0")))
            one.run_epoch()
        final.append(len(seen))
        assert max(seen) == pytest.approx(0.01, rel=0.01)
        assert seen[0] == pytest.approx(0.01 * 0.04, rel=0.01)
        assert seen[-1] == pytest.approx(0.01 * 0.02, rel=0.5)
    assert final[1] < final[0]  # steps of a grown network cost more


def test_one_cycle_run_past_its_end_does_not_stop_the_run() -> None:
    task = bringing("sgd", "one cycle")
    one = trainer(config(epochs=EPOCHS + 2), the_task=task)
    while not one.finished:
        one.run_epoch()
    assert "goes no further" in one._machine.parts.rates.over
    assert all(torch.isfinite(tensor.float()).all() for tensor in weights(one).values())


@pytest.mark.parametrize("scheduler", ["plateau", "cosine"])
def test_validation_that_a_scheduler_reads_is_spent(scheduler: str) -> None:
    one = trainer(settings(), the_task=bringing("sgd", scheduler), counts_validation=False)
    one.run_epoch()
    accounts = one.ledger.accounts()
    unread = 0 if scheduler == "plateau" else accounts["validation"]
    assert accounts["validation"] > 0
    assert one.ledger.spent == sum(accounts.values()) - unread


@pytest.mark.parametrize("scheduler", ["plateau", "lambda"])
def test_the_comparison_trains_with_the_same_optimizer_and_schedule(scheduler: str) -> None:
    one = trainer(settings(), the_task=bringing("rmsprop", scheduler), counts_validation=False)
    ours = rates_seen(one)
    while not one.finished:
        one.run_epoch()
    control = Ungrown(settings(), bringing("rmsprop", scheduler), one.ledger.spent)
    theirs = rates_seen(control.trainer)
    control.run(lambda facts: None)
    assert isinstance(control.trainer._machine.parts.optimizer, RMSprop)
    assert theirs == ours
    assert control.trainer.ledger.spent == one.ledger.spent


def test_foreign_changes_are_in_the_epochs_result_with_group_from_and_to() -> None:
    one = trainer(settings(optimizer="sgd", schedule="one_cycle"))
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    groups = one._machine.parts.optimizer.param_groups
    groups[0]["lr"], groups[1]["momentum"] = 1.0, 0.0
    one._machine.parts.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    result = one.run_epoch()
    found = {(c.group, c.setting, c.found.partition(" and ")[0]) for c in result.foreign}
    assert found == {
        ("without a name", "group", "added with lr 0.01"),
        ("host", "lr", "1.0"),
        ("one#0", "momentum", "0.0"),
    }
    assert result.foreign_rate_changes == 3
    assert one.assemble().foreign == result.foreign
    assert one.run_epoch().foreign == ()
    one.keep()
