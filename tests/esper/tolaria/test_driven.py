import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim import lr_scheduler as theirs
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from esper.tolaria.driven import Driven
from esper.tolaria.errors import BadOptimizer
from esper.tolaria.optimizer import admit, dismiss, join_host
from esper.tolaria.rates import HOST, Rates
from esper.tolaria.task import SchedulerFactory

STEPS, EPOCH = 40, 4
LOSSES = [1.0, 0.9, 0.95, 0.94, 0.93, 0.92, 0.5, 0.6, 0.6, 0.6]


class Own(LRScheduler):
    """A schedule of a user's own: it sets the weight decay too."""

    def get_lr(self) -> list[Any]:
        for group in self.optimizer.param_groups:
            group["weight_decay"] = 0.1 * self.last_epoch
        return [base / (1 + self.last_epoch) for base in self.base_lrs]


class Growing:
    """A function with a state of its own, as LambdaLR can keep it."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, step: int) -> float:
        self.calls += 1
        return 1.0 + 0.01 * self.calls


SCHEDULERS: dict[str, SchedulerFactory] = {
    "one cycle": lambda o: theirs.OneCycleLR(o, 0.2, total_steps=STEPS),
    "one cycle, three phases": lambda o: theirs.OneCycleLR(
        o, 0.2, total_steps=STEPS, three_phase=True, anneal_strategy="linear"
    ),
    "cosine": lambda o: theirs.CosineAnnealingLR(o, T_max=STEPS, eta_min=1e-3),
    "warm restarts": lambda o: theirs.CosineAnnealingWarmRestarts(o, T_0=7, T_mult=2),
    "lambda": lambda o: theirs.LambdaLR(o, lambda step: 0.97**step),
    "callable": lambda o: theirs.LambdaLR(o, Growing()),
    "multiplicative": lambda o: theirs.MultiplicativeLR(o, lambda step: 0.95),
    "steps": lambda o: theirs.StepLR(o, 5, gamma=0.7),
    "milestones": lambda o: theirs.MultiStepLR(o, [3, 9, 9, 20]),
    "linear": lambda o: theirs.LinearLR(o, 0.1, total_iters=9),
    "polynomial": lambda o: theirs.PolynomialLR(o, total_iters=STEPS, power=2.0),
    "cyclic": lambda o: theirs.CyclicLR(o, 0.01, 0.2, step_size_up=6, mode="exp_range", gamma=0.99),
    "sequence": lambda o: theirs.SequentialLR(
        o, [theirs.ConstantLR(o, 0.1, total_iters=5), theirs.ExponentialLR(o, 0.9)], [5]
    ),
    "chain": lambda o: theirs.ChainedScheduler([theirs.ExponentialLR(o, 0.95), theirs.StepLR(o, 9)]),
    "plateau": lambda o: ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=1, min_lr=0.01),
    "own": Own,
}
OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda groups: SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda groups: Adam(groups, lr=0.1, amsgrad=True),
    "adamw": lambda groups: AdamW(groups, lr=0.1, weight_decay=0.05),
    "rmsprop": lambda groups: RMSprop(groups, lr=0.1, momentum=0.5, centered=True),
}


def parameters(rows: int = 3) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(rows, 2)), nn.Parameter(torch.ones(rows))]


class Ours:
    """A host of two tensors whose rate is driven by one of torch's schedulers."""

    def __init__(self, optimizer: str, scheduler: str, every: str = "step") -> None:
        self.host = parameters()
        self.optimizer = OPTIMIZERS[optimizer]([{"params": self.host, "name": HOST}])
        stated = "epoch" if every == "epoch" else "step"
        make = SCHEDULERS[scheduler]
        self.schedule = Driven(make, None if scheduler == "plateau" else stated, self.optimizer)
        self.rates = Rates(self.optimizer, self.schedule)
        self.steps = 0

    def step(self) -> tuple[object, ...]:
        """One step of an epoch of `EPOCH`; what the host's group was set to for it."""
        self.rates.apply(self.steps / STEPS)
        told = settings(self.optimizer)
        stepped(self.optimizer, self.steps)
        self.steps += 1
        if self.steps % EPOCH == 0:
            self.rates.epoch_over(LOSSES[(self.steps // EPOCH - 1) % len(LOSSES)])
        return told


def settings(optimizer: Optimizer) -> tuple[object, ...]:
    group = optimizer.param_groups[0]
    return tuple(group.get(key) for key in ("lr", "momentum", "betas", "weight_decay"))


def stepped(optimizer: Optimizer, number: int) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.full_like(parameter, 0.1 + 0.01 * number)
    optimizer.step()


def plain(optimizer: str, scheduler: str, every: str) -> list[tuple[object, ...]]:
    """What torch alone sets, step by step."""
    alone = OPTIMIZERS[optimizer](parameters())
    theirs = SCHEDULERS[scheduler](alone)
    told = []
    for number in range(STEPS):
        told.append(settings(alone))
        stepped(alone, number)
        if isinstance(theirs, ReduceLROnPlateau):
            if (number + 1) % EPOCH == 0:
                theirs.step(LOSSES[number // EPOCH])
        elif every == "step" or (number + 1) % EPOCH == 0:
            theirs.step()
    return told


def grafted(ours: Ours, step: int) -> None:
    """A seed comes at step 7 and joins the host at 21, another comes at 11 and goes at 30."""
    optimizer, rates = ours.optimizer, ours.rates
    if step in (7, 11):
        seed_id = "joins" if step == 7 else "goes"
        admit(
            optimizer, seed_id, [(f"{seed_id}.{i}", p) for i, p in enumerate(parameters(2))], rates.of(HOST)
        )
        rates.admit(seed_id, 0.5, warmup_steps=4)
    if step == 21:
        join_host(optimizer, "joins")
        rates.dismiss("joins")
    if step == 30:
        going = next(group for group in optimizer.param_groups if group["name"] == "goes")
        dismiss(optimizer, [(f"goes.{i}", p) for i, p in enumerate(going["params"])])
        rates.dismiss("goes")


@pytest.mark.parametrize("every", ["step", "epoch"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_the_host_is_set_to_what_torch_alone_would_set_while_it_grows(
    optimizer: str, scheduler: str, every: str
) -> None:
    ours = Ours(optimizer, scheduler, every)
    told = []
    for number in range(STEPS):
        grafted(ours, number)
        told.append(ours.step())
    assert told == plain(optimizer, scheduler, every)
    assert ours.rates.foreign_changes == 0
    assert not ours.schedule.over


@pytest.mark.parametrize("scheduler", ["one cycle", "own"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_seed_has_its_factor_of_the_rate_and_the_hosts_momentum(optimizer: str, scheduler: str) -> None:
    ours = Ours(optimizer, scheduler)
    for number in range(20):
        grafted(ours, number)
        ours.step()
        for group in ours.optimizer.param_groups[1:]:
            age = number - (7 if group["name"] == "joins" else 11)
            share = 0.5 * min(1.0, (age + 1) / 4)
            host = ours.optimizer.param_groups[0]
            assert group["lr"] == pytest.approx(host["lr"] * share)
            for key in ("momentum", "betas", "weight_decay"):
                assert group.get(key) == host.get(key)
    assert len(ours.optimizer.param_groups) == 3


@pytest.mark.parametrize(
    "kept_at", [0, 17, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 9, 33, 39))]
)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_scheduler_made_anew_goes_on_from_what_was_kept_bit_for_bit(scheduler: str, kept_at: int) -> None:
    ours = Ours("sgd", scheduler)
    for _ in range(kept_at):
        ours.step()
    state = ours.rates.state()
    text = json.dumps(state.schedule)
    rest = [ours.step() for _ in range(kept_at, STEPS)]
    anew = Ours("sgd", scheduler)
    anew.steps = kept_at
    anew.rates.restore(state)
    assert json.dumps(anew.rates.state().schedule) == text
    assert [anew.step() for _ in range(kept_at, STEPS)] == rest
    ours.steps = kept_at
    ours.rates.restore(state)
    assert [ours.step() for _ in range(kept_at, STEPS)] == rest


@pytest.mark.parametrize("scheduler", ["one cycle", "one cycle, three phases"])
def test_a_scheduler_that_is_run_past_its_end_leaves_the_rate_as_it_is(scheduler: str) -> None:
    ours = Ours("sgd", scheduler)
    told = [ours.step() for _ in range(STEPS)]
    assert not ours.schedule.over
    more = [ours.step()[0] for _ in range(3)]
    assert told == plain("sgd", scheduler, "step")
    assert len(set(more)) == 1
    assert isinstance(more[0], float)
    assert 0.0 <= more[0] < 0.001
    assert "goes no further" in ours.schedule.over
    assert "the rate stays as it is" in ours.rates.over


def test_an_end_is_kept_too() -> None:
    ours = Ours("sgd", "one cycle, three phases")
    for _ in range(STEPS + 2):
        ours.step()
    anew = Ours("sgd", "one cycle, three phases")
    anew.rates.restore(ours.rates.state())
    assert [anew.step() for _ in range(3)] == [ours.step() for _ in range(3)]
    assert anew.schedule.over == ours.schedule.over != ""


@pytest.mark.parametrize("rate", [math.nan, math.inf, -0.5])
def test_a_rate_that_is_none_is_not_taken_over(rate: float) -> None:
    optimizer = SGD([{"params": parameters(), "name": HOST}], lr=0.1)
    schedule = Driven(lambda o: theirs.LambdaLR(o, lambda step: 1.0 if step < 3 else rate), "step", optimizer)
    rates = Rates(optimizer, schedule)
    for number in range(6):
        assert rates.apply(0.0) == 0.1
        stepped(optimizer, number)
    assert "it set lr" in schedule.over


def test_a_scheduler_by_epochs_that_has_ended_does_not_begin_again() -> None:
    optimizer = SGD([{"params": parameters(), "name": HOST}], lr=0.1)
    schedule = Driven(lambda o: theirs.LambdaLR(o, lambda n: -1.0 if n == 2 else 1.0 + n), "epoch", optimizer)
    rates = Rates(optimizer, schedule)
    told = []
    for _ in range(5):
        told.append(rates.apply(0.0))
        rates.epoch_over(1.0)
    assert told == [0.1, 0.2, 0.2, 0.2, 0.2]
    assert "it set lr = -0.1" in schedule.over


def test_a_scheduler_that_fails_ends_and_the_training_goes_on() -> None:
    def fails(step: int) -> float:
        if step == 2:
            raise KeyError("no such step")
        return 1.0 / (1 + step)

    optimizer = SGD([{"params": parameters(), "name": HOST}], lr=0.1)
    rates = Rates(optimizer, Driven(lambda o: theirs.LambdaLR(o, fails), "step", optimizer))
    assert [rates.apply(0.0) for _ in range(5)] == [0.1, 0.05, 0.05, 0.05, 0.05]
    assert "no such step" in rates.over


def test_only_reduce_on_plateau_reads_validation() -> None:
    assert Ours("sgd", "plateau").rates.reads_validation
    assert not Ours("sgd", "cosine", "epoch").rates.reads_validation


def test_what_a_checkpoint_can_not_hold_is_named() -> None:
    class Watching(theirs.ExponentialLR):
        def __init__(self, optimizer: Optimizer) -> None:
            self.watch = parameters
            super().__init__(optimizer, 0.9)

    optimizer = SGD([{"params": parameters(), "name": HOST}], lr=0.1)
    schedule = Driven(Watching, "step", optimizer)
    assert schedule.lost == ("watch (function)",)
    state = schedule.state()
    schedule.step_taken()
    schedule.restore(state)
    assert schedule.at(0.0)["lr"] == 0.1
    assert Ours("sgd", "one cycle").schedule.lost == ()


FAULTY: dict[str, tuple[Any, str | None, str]] = {
    "no scheduler": (lambda o: object(), "step", "returned a object"),
    "another's": (lambda o: theirs.StepLR(SGD(parameters(), lr=1.0), 3), "step", "another optimizer"),
    "raises": (lambda o: theirs.OneCycleLR(o, 0.1), "step", "can't be made: You must define"),
    "no momentum": (
        lambda o: theirs.CyclicLR(o, 0.1, 0.2, cycle_momentum=7, mode="x"),
        "step",
        "can't be made",
    ),
    "not said when": (lambda o: theirs.StepLR(o, 3), None, 'scheduler_every="step" or "epoch"'),
    "said wrongly": (lambda o: theirs.StepLR(o, 3), "batch", 'scheduler_every="step" or "epoch"'),
    "plateau each step": (ReduceLROnPlateau, "step", "reads each epoch's validation loss"),
    "begins nowhere": (lambda o: theirs.LambdaLR(o, lambda step: math.nan), "step", "begins with lr = nan"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_what_can_not_be_driven_is_refused_and_the_optimizer_stays_as_it_was(fault: str) -> None:
    make, every, said = FAULTY[fault]
    optimizer = SGD([{"params": parameters(), "name": HOST}], lr=0.1, momentum=0.9)
    before = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    with pytest.raises(BadOptimizer, match=said):
        Driven(make, every, optimizer)
    after = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    assert after == before


class Forgetful(theirs.ExponentialLR):
    """Its state can't be had."""

    def state_dict(self) -> dict[str, Any]:
        raise RuntimeError("there is none")


def test_a_scheduler_whose_state_can_not_be_kept_is_refused() -> None:
    optimizer = SGD([{"params": parameters(), "name": HOST}], lr=0.1)
    with pytest.raises(BadOptimizer, match="can't be kept: there is none"):
        Driven(lambda o: Forgetful(o, 0.9), "step", optimizer)


class Picky(theirs.ExponentialLR):
    """Notices only at the end that it can't go on."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if self.last_epoch > 2:
            raise ValueError("too far")


def test_a_scheduler_that_fails_half_way_through_its_state_has_its_own_again() -> None:
    optimizer = SGD([{"params": parameters(), "name": HOST}], lr=0.1)
    schedule = Driven(lambda o: Picky(o, 0.9), "step", optimizer)
    schedule.step_taken()
    before = schedule.state()
    for _ in range(3):
        schedule.step_taken()
    later = schedule.state()
    schedule.restore(before)
    with pytest.raises(BadOptimizer, match="too far"):
        schedule.restore(later)
    assert schedule.state() == before


def test_the_state_of_another_scheduler_is_refused_and_nothing_changes() -> None:
    ours, other = Ours("sgd", "cosine"), Ours("sgd", "steps")
    ours.step()
    before = ours.schedule.state()
    for state, said in (
        (other.schedule.state(), "the scheduler StepLR, not of CosineAnnealingLR"),
        ({**before, "group": None}, "not whole"),
        ({**before, "settings": {"lr": "fast"}}, "can't go on from what was kept"),
        ({**before, "group": {"lr": {"$code": 1}}}, "can't go on from what was kept"),
    ):
        with pytest.raises(BadOptimizer, match=said):
            ours.schedule.restore(state)
        assert ours.schedule.state() == before
