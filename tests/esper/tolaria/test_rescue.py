"""An epoch that breaks once is tried again; one that a live seed breaks each time is trained without it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from contracts.config import GrowthConfig
from contracts.lifecycle import Stage
from esper.kasmina.plan import Insert
from esper.tolaria import rescue
from esper.tolaria.errors import TrainingDiverged
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria.world import (
    HIDDEN,
    config,
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


class Breaking(nn.Module):
    """Sound for `passes` forward passes in training mode, then what `harm` makes of its output."""

    def __init__(self, passes: int, harm: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.left, self.harm = passes, harm
        self.scale = nn.Parameter(torch.zeros(HIDDEN))

    def forward(self, h: Tensor) -> Tensor:
        self.left -= self.training
        return self.harm(h * self.scale) if self.left < 0 else h * self.scale


def nan(y: Tensor) -> Tensor:
    return y * float("nan")


def refuse(y: Tensor) -> Tensor:
    raise RuntimeError("no more of this")


HARMS = pytest.mark.parametrize(
    ("harm", "reason"), [(nan, "loss is not finite"), (refuse, "no more of this")]
)


def with_live(harm: Callable[[Tensor], Tensor], passes: int = 8, **settings: float) -> Trainer:
    """One that has trained an epoch of 6 steps, with a seed that breaks in the second epoch or later."""
    one = trainer(config(**settings))
    one.run_epoch()
    seed = Insert(record("one#0", Stage.GERMINATED, 1), Breaking(passes, harm))
    one.apply(plan(seed, live("one#0", 1)))
    return one


@HARMS
def test_the_epoch_is_trained_again_without_the_seed_from_its_very_beginning(
    harm: Callable[[Tensor], Tensor], reason: str
) -> None:
    one = with_live(harm, passes=3)
    alone = trainer(config())
    alone.run_epoch()
    result = one.run_epoch()
    expected = alone.run_epoch()
    (aside,) = result.set_aside
    assert (aside.seed_id, aside.step < 12) == ("one#0", True)
    assert reason in aside.reason
    assert (result.steps, result.train_loss, result.val_loss) == (6, expected.train_loss, expected.val_loss)
    assert same(host_weights(one), host_weights(alone))
    assert one.assemble().figures["one#0"].finite is False
    assert one.ledger.spent > alone.ledger.spent


@HARMS
def test_after_the_cull_the_run_goes_on_from_before_the_graft(
    harm: Callable[[Tensor], Tensor], reason: str
) -> None:
    one = with_live(harm, passes=10)
    before = host_weights(one)
    assert one.run_epoch().set_aside == ()
    assert len(one.run_epoch().set_aside) == 1
    applied = one.apply(plan(remove("one#0", 3, rollback=True)))
    assert applied.refused == ()
    assert same(host_weights(one), before)
    while not one.finished:
        assert one.run_epoch().set_aside == ()
    assert one.final().val_loss < float("inf")


class OneOff:
    """A loss that is NaN when it is called for the `at`th time, and sound ever after."""

    def __init__(self, loss_fn: Callable[[Tensor, Tensor], Tensor], at: int) -> None:
        self.loss_fn, self.left = loss_fn, at

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        loss = self.loss_fn(outputs, targets)
        return loss * float("nan") if self.left == 0 else loss


@pytest.mark.parametrize("at", [1, 4, 6])
def test_what_breaks_once_is_tried_again_with_everyone_and_costs_the_seed_nothing(at: int) -> None:
    one, clean = (two_live(Breaking(1000, nan), Breaking(1000, nan)) for _ in range(2))
    loop = one._machine.loop
    loop.loss_fn = OneOff(loop.loss_fn, at)
    result, expected = one.run_epoch(), clean.run_epoch()
    assert result.set_aside == ()
    (told,) = result.notices
    assert "tried again" in told
    assert f"diverged at step {5 + at}" in told
    assert one._grafts.live_ids() == ("one#0", "two#0")
    assert same(weights(one), weights(clean))
    assert (result.train_loss, result.val_loss) == (expected.train_loss, expected.val_loss)
    accounts, cheaper = one.ledger.accounts(), clean.ledger.accounts()
    assert accounts["train"] == cheaper["train"] + at * one._machine.costs.step, "the broken step too"
    assert one.run_epoch().notices == ()
    assert one._at.step == clean._at.step + 6


def test_a_seed_that_breaks_now_and_then_is_set_aside_when_second_tries_are_used_up() -> None:
    one = two_live(Breaking(1000, nan), Breaking(1000, nan))
    loop = one._machine.loop
    plain, outcomes = loop.loss_fn, []
    for _ in range(rescue.SECOND_TRIES + 1):
        loop.loss_fn = OneOff(plain, 2)
        result = one.run_epoch()
        outcomes.append(([aside.seed_id for aside in result.set_aside], len(result.notices)))
    assert outcomes == [([], 1)] * rescue.SECOND_TRIES + [(["two#0"], 0)]


def test_an_epoch_that_is_stopped_at_its_second_try_says_nothing_of_it() -> None:
    one = with_live(nan, passes=1000)
    loop = one._machine.loop
    plain = loop.loss_fn

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        one.stop()
        loop.loss_fn = plain
        return plain(outputs, targets) * float("nan")

    loop.loss_fn = loss_fn
    result = one.run_epoch()
    assert (result.stopped, result.steps, result.notices, result.set_aside) == (True, 0, (), ())
    assert one._grafts.live_ids() == ("one#0",)


def test_the_youngest_is_suspected_first_and_the_innocent_one_stays() -> None:
    one = trainer(config())
    one.run_epoch()
    one.apply(plan(insert("one#0", 1), live("one#0", 1)))
    young = Insert(record("two#0", Stage.GERMINATED, 1), Breaking(3, nan))
    one.apply(plan(young, live("two#0", 1)))
    assert [aside.seed_id for aside in one.run_epoch().set_aside] == ["two#0"]
    assert one._grafts.live_ids() == ("one#0",)


def two_live(older: nn.Module, younger: nn.Module) -> Trainer:
    one = trainer(config())
    one.run_epoch()
    for name, module in (("one#0", older), ("two#0", younger)):
        one.apply(plan(Insert(record(name, Stage.GERMINATED, 1), module), live(name, 1)))
    return one


def test_the_older_alone_is_set_aside_when_it_alone_breaks_the_epoch() -> None:
    one = two_live(Breaking(3, nan), Breaking(1000, nan))
    assert [aside.seed_id for aside in one.run_epoch().set_aside] == ["one#0"]
    assert one._grafts.live_ids() == ("two#0",)


def test_two_that_break_the_epoch_are_both_set_aside() -> None:
    one = two_live(Breaking(3, nan), Breaking(3, refuse))
    assert {aside.seed_id for aside in one.run_epoch().set_aside} == {"one#0", "two#0"}
    assert one._grafts.live_ids() == ()
    assert one.run_epoch().set_aside == ()


@pytest.mark.parametrize(
    "error", [KeyError("a table of one's own"), AssertionError("never"), ValueError("no")]
)
def test_an_error_of_the_users_own_code_is_not_put_on_a_seed(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = two_live(Breaking(1000, nan), Breaking(1000, nan))
    plain, calls = one._machine.loop.loss_fn, [0]

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == 3:
            raise error
        return plain(outputs, targets)

    monkeypatch.setattr(one._machine.loop, "loss_fn", loss_fn)
    with pytest.raises(type(error)):
        one.run_epoch()
    assert calls[0] == 3, "and not tried again: it would come again"
    assert one._grafts.live_ids() == ("one#0", "two#0")


def test_a_run_is_rescued_so_often_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue, "RESCUES_MAX", 2)
    one = with_live(nan, passes=3)
    assert len(one.run_epoch().set_aside) == 1
    one.apply(plan(remove("one#0", 2)))
    one.apply(plan(Insert(record("one#1", Stage.GERMINATED, 2), Breaking(2, nan)), live("one#1", 2)))
    with pytest.raises(TrainingDiverged):
        one.run_epoch()


def test_a_host_that_diverges_by_itself_ends_the_run_as_before() -> None:
    one = with_live(nan, passes=100)
    with torch.no_grad():
        next(one._grafts.model.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingDiverged):
        one.run_epoch()


def test_a_seed_that_raises_on_the_shadow_path_costs_the_host_nothing() -> None:
    one, alone = trainer(config()), trainer(config())
    for each in (one, alone):
        each.run_epoch()
    seed = Insert(record("one#0", Stage.GERMINATED, 1), Breaking(0, refuse))
    one.apply(plan(seed, learn("one#0", 1)))
    results = [each.run_epoch() for each in (one, alone)]
    assert results[0].train_loss == results[1].train_loss
    assert same(host_weights(one), host_weights(alone))
    assert one.assemble().figures["one#0"].finite is False


@pytest.mark.parametrize("is_live", [True, False], ids=["live", "isolated"])
def test_a_seed_that_no_gradient_reaches_any_more_has_a_gradient_of_zero(is_live: bool) -> None:
    one = trainer(config(growth=GrowthConfig(shadow_every=1)))
    one.run_epoch()
    seed = Insert(record("one#0", Stage.GERMINATED, 1), Breaking(0, Tensor.detach))
    one.apply(plan(seed, live("one#0", 1) if is_live else learn("one#0", 1)))
    one.run_epoch()
    assert one.assemble().figures["one#0"].grad_norm == 0.0
