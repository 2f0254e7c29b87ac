from dataclasses import replace
from typing import Any

import msgspec
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from contracts.config import TrainConfig
from esper.tolaria.errors import BadOptimizer
from esper.tolaria.optimizer import Named, host_groups
from esper.tolaria.recipe import optimizer_of, schedule_of
from esper.tolaria.schedule import Cosine, Cycled, Linear, OneCycle
from esper.tolaria.task import Task
from tests.esper.tolaria import world


def train(**settings: Any) -> TrainConfig:
    return msgspec.convert(settings, TrainConfig)


def host() -> Named:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return list(world.Host().named_parameters())


def stepped(optimizer: Optimizer, named: Named, steps: int = 4) -> list[torch.Tensor]:
    for number in range(steps):
        for _, parameter in named:
            generator = torch.Generator().manual_seed(number)
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach().clone() for _, parameter in named]


def own(groups: list[dict[str, Any]]) -> Optimizer:
    return SGD(groups, lr=0.3, momentum=0.5)


NAMED: dict[str, tuple[dict[str, Any], Any]] = {
    "adam": ({}, lambda p: Adam(p, lr=0.01, fused=True)),
    "adam, set": (
        {"optimizer": "adam", "betas": [0.8, 0.99], "weight_decay": 0.1, "learning_rate": 0.2},
        lambda p: Adam(p, lr=0.2, betas=(0.8, 0.99), weight_decay=0.1, fused=True),
    ),
    "adamw": ({"optimizer": "adamw"}, lambda p: AdamW(p, lr=0.01, fused=True)),
    "amsgrad": ({"optimizer": "adam_amsgrad"}, lambda p: Adam(p, lr=0.01, amsgrad=True, fused=True)),
    "sgd": ({"optimizer": "sgd"}, lambda p: SGD(p, lr=0.01, momentum=0.9)),
    "sgd, set": (
        {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.1},
        lambda p: SGD(p, lr=0.01, weight_decay=0.1),
    ),
    "rmsprop": ({"optimizer": "rmsprop"}, lambda p: RMSprop(p, lr=0.01)),
    "rmsprop, set": (
        {"optimizer": "rmsprop", "momentum": 0.5},
        lambda p: RMSprop(p, lr=0.01, momentum=0.5),
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_optimizer_is_torchs_bit_for_bit(name: str) -> None:
    settings, make = NAMED[name]
    ours, theirs = host(), host()
    optimizer = optimizer_of(world.task(), train(**settings), ours)
    alone = make(host_groups(theirs))
    assert type(optimizer) is type(alone)
    assert all(map(torch.equal, stepped(optimizer, ours), stepped(alone, theirs)))
    assert optimizer.param_groups[0]["name"] == "host"


def test_each_named_schedule_begins_at_its_optimizers_rate() -> None:
    task, sgd = world.task(), own(host_groups(host()))
    adam = optimizer_of(task, train(), host())
    assert schedule_of(task, train(), adam) == Linear(0.01, 0.7, 0.02)
    assert schedule_of(task, train(schedule="constant"), sgd) == Linear(0.3, 1.0, 1.0)
    assert schedule_of(task, train(schedule="cosine", final_rate=0.1), sgd) == Cosine(0.3, 0.1)
    one_cycle = train(schedule="one_cycle", rise_until=0.2, cycled_momentum=[0.7, 0.8])
    expected = OneCycle(0.3, 0.2, 0.04, 0.02, Cycled("momentum", 0.7, 0.8))
    assert schedule_of(task, one_cycle, sgd) == expected
    expected = OneCycle(0.01, 0.2, 0.04, 0.02, Cycled("betas", 0.7, 0.8, (0.999,)))
    assert schedule_of(task, one_cycle, adam) == expected
    rmsprop = RMSprop(host_groups(host()), lr=0.1)
    assert schedule_of(task, one_cycle, rmsprop) == OneCycle(0.1, 0.2, 0.04, 0.02, None)


def test_the_plateau_is_torchs_with_the_settings_named() -> None:
    task, named = world.task(), host()
    settings = train(
        schedule="plateau", plateau_epochs=2, plateau_gain=0.1, plateau_factor=0.5, final_rate=0.2
    )
    ours = schedule_of(task, settings, own(host_groups(named)))
    alone = own(host_groups(host()))
    theirs = ReduceLROnPlateau(alone, factor=0.5, patience=1, threshold=0.1, min_lr=0.06)
    told = []
    for loss in (1.0, 0.95, 0.93, 0.5, 0.46, 0.46, 0.46, 0.46, 0.46, 0.46):
        ours.epoch_over(loss)
        theirs.step(loss)
        told.append(ours.at(0.0)["lr"])
        assert told[-1] == alone.param_groups[0]["lr"]
    assert told[0] == 0.3
    assert told[2] == 0.15
    assert told[-1] == pytest.approx(0.06)
    assert ours.reads_validation


def test_a_task_that_brings_its_own_has_its_own() -> None:
    task = replace(world.task(), optimizer=own, scheduler=lambda o: StepLR(o, 2), scheduler_every="epoch")
    optimizer = optimizer_of(task, train(), host())
    schedule = schedule_of(task, train(), optimizer)
    assert isinstance(optimizer, SGD)
    for _ in range(3):
        schedule.epoch_over(1.0)
    assert schedule.at(0.5)["lr"] == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"momentum": 0.9}, r"train.momentum = 0.9 has no meaning for adam; it belongs to sgd, rmsprop"),
        (
            {"optimizer": "sgd", "betas": [0.9, 0.99]},
            r"train.betas = \[0.9, 0.99\] has no meaning for sgd; it belongs to adam, adamw, adam_amsgrad",
        ),
        (
            {"schedule": "cosine", "decay_from": 0.5},
            "train.decay_from = 0.5 has no meaning for cosine; it belongs to linear",
        ),
        ({"rise_until": 0.5}, "train.rise_until = 0.5 has no meaning for linear; it belongs to one_cycle"),
        ({"schedule": "constant", "final_rate": 0.5}, "train.final_rate = 0.5 has no meaning for constant"),
        ({"schedule": "one_cycle", "cycled_momentum": [0.9, 0.8]}, "the least comes first"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadOptimizer, match=said):
        optimizer_of(world.task(), train(**settings), host())


def test_all_that_means_nothing_is_told_at_once() -> None:
    with pytest.raises(BadOptimizer) as refused:
        optimizer_of(world.task(), train(momentum=0.5, plateau_epochs=3, rise_until=0.1), host())
    assert len(str(refused.value).splitlines()) == 3


def brought(**own: Any) -> Task:
    return replace(world.task(), **own)


@pytest.mark.parametrize(
    ("task", "settings", "said"),
    [
        (
            brought(optimizer=own),
            {"optimizer": "sgd"},
            "train.optimizer = sgd has no meaning beside the task's",
        ),
        (brought(optimizer=own), {"weight_decay": 0.1}, "train.weight_decay = 0.1 has no meaning beside"),
        (
            brought(optimizer=own),
            {"learning_rate": 0.2},
            "train.learning_rate = 0.2 .* which has 0.3; leave it",
        ),
        (
            brought(scheduler=lambda o: StepLR(o, 2), scheduler_every="epoch"),
            {"schedule": "cosine"},
            "train.schedule = cosine has no meaning beside the task's own scheduler",
        ),
        (brought(scheduler_every="epoch"), {}, "scheduler_every is given without a scheduler"),
    ],
)
def test_two_owners_of_one_thing_are_refused(task: Task, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadOptimizer, match=said):
        optimizer_of(task, train(**settings), host())


def test_the_rate_that_the_tasks_own_optimizer_has_may_be_said_again() -> None:
    optimizer = optimizer_of(brought(optimizer=own), train(learning_rate=0.3), host())
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_a_refused_optimizer_leaves_the_model_as_it_was() -> None:
    task = brought(optimizer=lambda groups: SGD([nn.Parameter(torch.ones(1))], lr=0.1))
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    with pytest.raises(BadOptimizer, match="leaves out 8"):
        world.trainer(the_task=task)
    assert all(torch.equal(task.model.state_dict()[name], tensor) for name, tensor in before.items())
