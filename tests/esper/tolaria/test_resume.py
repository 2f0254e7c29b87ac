"""A run that is kept, written and gone on with in a new process is the run that was never interrupted."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau

from contracts.config import Config
from contracts.lifecycle import Stage
from esper.tolaria.errors import RestoreFailed
from esper.tolaria.task import Task
from tests.esper.tolaria.runs import (
    Run,
    config,
    finished,
    resumed,
    same_snapshot,
    same_value,
    task_of,
    tensors_of,
    through_disk,
)
from tests.hosts import HOSTS, Host

MLP, CONV1D, CONV2D, TRANSFORMER = HOSTS
HEURISTIC = config("heuristic", 30, epoch_steps=8)
Prepare = Callable[[Task], Task]


def as_it_is(task: Task) -> Task:
    return task


def check(
    run: Run,
    host: Host,
    epochs: range,
    turns: int,
    settings: Config | None = None,
    prepare: Prepare = as_it_is,
) -> int:
    """Resume after each of the epochs and train on for `turns`; all of it has to be what the run did."""
    for epoch in epochs:
        again = resumed(run.kept[epoch], host, settings, prepare)
        while not again.finished and len(again.kept) < turns:
            again.turn()
        told = run.told[_entries_before(run, epoch) :][: len(again.told)]
        assert same_value(again.told, told), f"{host.name} after {epoch + 1} epochs"
        for kept, then in zip(again.kept, run.kept[epoch + 1 :], strict=False):
            assert same_snapshot(kept.snapshot, then.snapshot), f"{host.name} after {epoch + 1} epochs"
            assert (kept.controller, kept.engine, kept.windows) == (
                then.controller,
                then.engine,
                then.windows,
            )
        if again.finished:
            assert same_value(tensors_of(again), tensors_of(run))
            assert again.trainer.final() == run.trainer.final()
    return len(epochs)


def _entries_before(run: Run, epoch: int) -> int:
    """Where in all that was told the boundary after `epoch` begins; a probe's report comes before it."""
    boundaries = [index for index, told in enumerate(run.told) if isinstance(told, tuple)]
    return boundaries[epoch]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_a_run_goes_on_as_if_nothing_had_happened(host: Host) -> None:
    run = finished(host)
    start = 1 + 2 * HOSTS.index(host)
    assert check(run, host, range(start, len(run.kept), 6), turns=1) >= 2


def test_what_is_random_in_a_policy_goes_on_too() -> None:
    run = finished(MLP, "random")
    assert {one.stage for one in run.engine.records()} & {Stage.FOSSILIZED, Stage.PROBATIONARY}
    check(run, MLP, range(1, 5, 2), turns=1, settings=config("random"))


def optimizer_of(kind: type[torch.optim.Optimizer], **settings: object) -> Prepare:
    return lambda task: replace(task, optimizer=partial(kind, lr=0.01, **settings))


def cosine(task: Task) -> Task:
    made = optimizer_of(torch.optim.SGD, momentum=0.9)(task)
    return replace(made, scheduler=lambda o: CosineAnnealingLR(o, 60), scheduler_every="step")


def one_cycle(task: Task) -> Task:
    made = optimizer_of(torch.optim.AdamW, weight_decay=0.1)(task)
    return replace(made, scheduler=lambda o: OneCycleLR(o, 0.02, total_steps=80), scheduler_every="step")


def plateau(task: Task) -> Task:
    made = optimizer_of(torch.optim.RMSprop, momentum=0.5, centered=True)(task)
    return replace(made, scheduler=lambda o: ReduceLROnPlateau(o, patience=1), scheduler_every="epoch")


def sgd_plateau(task: Task) -> Task:
    return replace(cosine(task), scheduler=lambda o: ReduceLROnPlateau(o), scheduler_every="epoch")


OPTIMIZERS = {
    "sgd-cosine": cosine,
    "adamw-onecycle": one_cycle,
    "rmsprop-plateau": plateau,
    "adam-amsgrad": optimizer_of(torch.optim.Adam, amsgrad=True),
    "adam-foreach": optimizer_of(torch.optim.Adam, foreach=True),
}


@pytest.mark.parametrize("name", ["rmsprop-plateau"])
def test_a_foreign_optimizer_and_its_scheduler_go_on_too(name: str) -> None:
    prepare = OPTIMIZERS[name]
    run = Run.new(MLP, prepare=prepare)
    for _ in range(6):
        run.turn()
    check(run, MLP, range(2, 5, 2), turns=1, prepare=prepare)


def test_the_state_of_another_optimizer_is_refused_and_nothing_changes() -> None:
    kept = finished(MLP).kept[5]
    other = Run.new(MLP, prepare=OPTIMIZERS["sgd-cosine"])
    other.turn()
    before = other.keep()
    with pytest.raises(RestoreFailed, match="the optimizer was a Adam and is a SGD") as raised:
        other.trainer.restore(through_disk(other, kept.snapshot))
    assert raised.value.consistent
    assert same_snapshot(other.keep().snapshot, before.snapshot)


def test_the_state_of_another_scheduler_is_refused_and_nothing_changes() -> None:
    one, other = Run.new(MLP, prepare=cosine), Run.new(MLP, prepare=sgd_plateau)
    one.turn()
    other.turn()
    before = other.keep()
    with pytest.raises(RestoreFailed, match="CosineAnnealingLR, not of ReduceLROnPlateau") as raised:
        other.trainer.restore(one.kept[0].snapshot)
    assert raised.value.consistent
    assert same_snapshot(other.keep().snapshot, before.snapshot)


class Counting(nn.Module):
    """Adds how often it was called: a number that no tensor holds, but its extra state does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.seen: list[Tensor] = []

    def forward(self, h: Tensor) -> Tensor:
        self.calls += self.training
        self.seen = [h.detach().mean(), *self.seen][:2]
        return h + 1e-3 * self.calls + sum(self.seen)

    def get_extra_state(self) -> object:
        return {"calls": self.calls, "seen": tuple(self.seen)}

    def set_extra_state(self, state: object) -> None:
        assert isinstance(state, dict)
        self.calls, self.seen = state["calls"], list(state["seen"])


def counting(task: Task) -> Task:
    assert isinstance(task.model, nn.Module)
    task.model.second.append(Counting())  # type: ignore[union-attr, operator]
    task.model.head.bias.requires_grad_(False)  # type: ignore[union-attr, operator]
    task.model.first[1].eval()  # type: ignore[union-attr, operator, index]
    return task


def test_a_modules_own_state_its_mode_and_frozen_parameters_go_on_too() -> None:
    run = Run.new(MLP, prepare=counting)
    for _ in range(5):
        run.turn()
    extras = run.kept[2].snapshot.network.extras
    assert extras["second.3"]["calls"] > 12
    check(run, MLP, range(1, 4), turns=1, prepare=counting)
    model = run.trainer._grafts.model
    kept = run.keep().snapshot
    for parameter in model.parameters():
        parameter.requires_grad_(not parameter.requires_grad)
    model.eval()
    run.trainer.restore(kept)
    assert same_snapshot(run.keep().snapshot, kept)
    assert not model.get_parameter("head.bias").requires_grad
    assert model.get_parameter("head.weight").requires_grad


def test_a_network_in_double_precision_goes_on_too() -> None:
    def double(task: Task) -> Task:
        task.model.double()
        splits = {
            name: replace(getattr(task, name), inputs=getattr(task, name).inputs.double())
            for name in ("train", "validation", "test")
        }
        return replace(task, **splits)

    run = Run.new(MLP, prepare=double)
    for _ in range(4):
        run.turn()
    assert check(run, MLP, range(2, 3), turns=1, prepare=double) == 1


def test_what_was_noticed_once_is_not_told_again() -> None:
    def ending(task: Task) -> Task:
        made = optimizer_of(torch.optim.SGD)(task)
        return replace(made, scheduler=lambda o: OneCycleLR(o, 0.02, total_steps=8), scheduler_every="step")

    run = Run.new(MLP, prepare=ending)
    told = [run.turn().notices for _ in range(6)]
    (noticed,) = [one for one in told if one]
    assert "the schedule has ended" in noticed[0]
    at = told.index(noticed)
    assert check(run, MLP, range(at - 1, at + 1), turns=2, prepare=ending) == 2
    run.go_back(run.kept[at - 1])
    assert run.turn().notices == (), "nor after a rollback: it was told"


def test_what_a_host_of_another_shape_is_given_is_refused() -> None:
    kept = finished(MLP).kept[3]
    other = Run.new(CONV1D)
    with pytest.raises(RestoreFailed, match="there is no site first") as raised:
        other.trainer.restore(through_disk(finished(MLP), kept.snapshot))
    assert raised.value.consistent
    assert task_of(MLP).train.inputs.shape != task_of(CONV1D).train.inputs.shape


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_resuming_after_any_epoch_of_any_host_ends_in_the_same_bits(host: Host) -> None:
    total = 0
    for policy, every in (("none", 1), ("random", 3)):
        run = finished(host, policy)
        total += check(run, host, range(0, len(run.kept), every), turns=100, settings=config(policy))
    print(f"{host.name}: {total} runs resumed, each after another epoch, all to the end")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_resuming_after_any_epoch_of_the_heuristic_ends_in_the_same_bits() -> None:
    run = Run.new(MLP, HEURISTIC).finish()
    assert any(one.stage is Stage.FOSSILIZED for one in run.engine.records())
    total = check(run, MLP, range(1, len(run.kept), 4), turns=100, settings=HEURISTIC)
    print(f"{total} runs of the heuristic resumed, all to the end")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resuming_with_any_optimizer_ends_in_the_same_bits(name: str) -> None:
    prepare = OPTIMIZERS[name]
    run = Run.new(MLP, prepare=prepare).finish()
    assert check(run, MLP, range(0, 15, 5), turns=100, prepare=prepare) == 3
