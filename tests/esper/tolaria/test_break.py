"""NaN or a loss far above its level, at any step: no step is taken with it, and the run goes on."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contracts.emergency import Trigger
from esper.tolaria.errors import TrainingDiverged
from esper.tolaria.level import OPENING_IN_A_ROW, OPENING_STEPS, RECENT_EPOCHS, LevelState, LossLevel
from esper.tolaria.trainer import ODD_VALIDATION
from tests import hosts
from tests.esper.tolaria.runs import (
    Run,
    config,
    finished,
    resumed,
    same_snapshot,
    same_value,
    tensors_of,
)
from tests.hosts import HOSTS, Host

MLP = HOSTS[0]


class Poisoned(torch.autograd.Function):
    """The same value forwards, NaN backwards."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor) -> Tensor:
        return outputs.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * float("nan")


HARMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nan": lambda outputs, targets: hosts.loss_fn(outputs, targets) * float("nan"),
    "infinite": lambda outputs, targets: hosts.loss_fn(outputs, targets) + float("inf"),
    "gradient": lambda outputs, targets: hosts.loss_fn(Poisoned.apply(outputs), targets),
    "exploded": lambda outputs, targets: hosts.loss_fn(outputs, targets) * 1e4,
}


@dataclass
class Loss:
    """The hosts' loss, which does harm once, when it is called for the `at`th time."""

    harm: str
    at: int
    calls: int = 0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            return HARMS[self.harm](outputs, targets)
        return hosts.loss_fn(outputs, targets)


def healthy(run: Run) -> bool:
    """Every number of network and optimizer is finite."""
    kept = run.trainer.keep()
    entries = [value for state in kept.optimizer.entries.values() for value in state.values()]
    tensors = [*kept.network.tensors.values(), *(one for one in entries if isinstance(one, Tensor))]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def driven(run: Run) -> Iterator[TrainingDiverged]:
    """Train to the end as an emergency does: back to the newest moment, on behind the batch that broke."""
    while not run.finished:
        epoch = len(run.kept)
        try:
            run.turn()
        except TrainingDiverged as diverged:
            yield diverged
            assert len(run.kept) == epoch
            if run.kept:
                run.go_back(run.kept[-1], behind_break=True)
            else:
                run.trainer.restore(run_start[id(run)], behind_break=True)
                run.plan = run.probe = None
        assert healthy(run)


run_start: dict[int, Any] = {}


def poisoned(host: Host, harm: str, at: int) -> tuple[Run, list[TrainingDiverged], Loss]:
    loss = Loss(harm, at)
    run = Run.new(host, loss_fn=loss)
    run_start[id(run)] = run.trainer.keep()
    return run, list(driven(run)), loss


def calls_of(host: Host) -> int:
    """How often a whole run calls its loss."""
    loss = Loss("nan", 0)
    Run.new(host, loss_fn=loss).finish()
    return loss.calls


CALLS = 300


@settings(max_examples=2, deadline=None)
@given(st.sampled_from(sorted(HARMS)), st.integers(1, CALLS))
def test_harm_at_any_call_of_the_loss_leaves_nothing_behind(harm: str, at: int) -> None:
    check(MLP, harm, at)


def check(host: Host, harm: str, at: int) -> str:
    """Harm it; what became of it, in a word."""
    run, diverged, loss = poisoned(host, harm, at)
    assert run.finished
    assert healthy(run)
    calls, final = loss.calls, run.trainer.final()
    assert math.isfinite(final.test_loss) or calls < at <= loss.calls, "or it was the judging that was harmed"
    assert len(diverged) <= 1
    if diverged:
        expected = Trigger.LOSS_EXPLODED if harm == "exploded" else Trigger.NOT_FINITE
        assert diverged[0].kind is expected
        return "back"
    results = [kept.snapshot.position.last for kept in run.kept if kept.snapshot.position.last]
    assert not any(result.set_aside for result in results), "what does harm once is no seed's doing"
    if any("tried again" in notice for result in results for notice in result.notices):
        assert same_value(tensors_of(run), tensors_of(finished(host))), "as if nothing had happened"
        return "again"
    return "borne" if loss.calls >= at else "never"


def test_the_broken_step_is_not_taken_and_the_epoch_before_is_what_it_goes_on_from() -> None:
    run = Run.new(MLP, loss_fn=Loss("nan", 1_000_000))
    for _ in range(2):
        run.turn()
    assert run.plan is not None
    run.trainer.apply(run.plan)
    loss = run.trainer._machine.loop
    good = loss.loss_fn
    broken = 0

    def breaks(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal broken
        broken += 1
        return good(outputs, targets) * (float("nan") if broken == 3 else 1.0)

    loss.loss_fn = breaks
    steps = run.trainer.assemble().state.global_step
    before = tensors_of(run)
    with pytest.raises(TrainingDiverged) as raised:
        run.trainer.run_epoch()
    assert raised.value.step == steps + 2
    assert raised.value.kind is Trigger.NOT_FINITE
    assert any(not torch.equal(before[name], tensor) for name, tensor in tensors_of(run).items())
    loader = run.trainer._machine.parts.loader.state()
    kept = run.kept[-1].snapshot
    run.trainer.restore(kept, behind_break=True)
    after = run.trainer._machine.parts.loader.state()
    assert (after.position, after.order.tolist()) == (loader.position, loader.order.tolist())
    passed = (after.position - kept.loader.position) % 7
    assert passed == 3, "two good batches and the one that broke"
    run.trainer.restore(kept)
    assert same_snapshot(run.trainer.keep(), kept, spent=False)


def test_a_host_that_an_epochs_last_step_has_damaged_is_no_boundary_to_go_back_to() -> None:
    run = Run.new(MLP, config(epochs=4))
    run.turn()
    optimizer, step = run.trainer._machine.parts.optimizer, run.trainer.assemble().state.global_step
    epoch_steps, taken = run.trainer._config.train.epoch_steps, 0

    def spoil(*_: object) -> None:
        nonlocal taken
        taken += 1
        if taken == epoch_steps:
            optimizer.param_groups[0]["lr"] = float("nan")

    spoiler = optimizer.register_step_pre_hook(spoil)
    with pytest.raises(TrainingDiverged, match=r"host's .* is not finite; the epoch is given up") as raised:
        run.turn()
    spoiler.remove()
    assert (raised.value.kind, raised.value.step) == (Trigger.NOT_FINITE, step + epoch_steps)
    assert len(run.kept) == 1, "it is not kept"
    run.go_back(run.kept[-1], behind_break=True)
    other = resumed(run.keep(), MLP, config(epochs=4))
    for process in (run, other):
        process.turn()
        told = [(one.setting, one.found) for one in process.trainer.assemble().foreign]
        assert told == [("lr", "nan")], "what broke it is told all the same, by whichever process goes on"
    run.finish()
    assert healthy(run)


def test_validation_that_is_not_finite_breaks_no_run_whose_host_is_sound() -> None:
    run = Run.new(MLP, config(epochs=2))
    run.trainer._machine.parts.grafts.model.register_forward_hook(
        lambda module, inputs, outputs: outputs if module.training else outputs * float("nan")
    )
    results = [run.trainer.run_epoch(), run.trainer.run_epoch()]
    assert all(math.isnan(result.val_loss) for result in results)
    assert [result.notices for result in results] == [(ODD_VALIDATION,), ()], "said once"
    assert healthy(run)


def test_a_running_variance_that_overflowed_is_found_though_no_loss_shows_it() -> None:
    run = Run.new(MLP, config(epochs=3))
    run.turn()
    buffers = dict(run.trainer._machine.parts.grafts.model.named_buffers())
    *_, variance = (buffer for name, buffer in buffers.items() if name.endswith(".running_var"))
    sound = variance.clone()
    variance.fill_(math.inf)
    with pytest.raises(TrainingDiverged, match=r"host's \S+\.running_var is not finite"):
        run.trainer.run_epoch()
    run.go_back(run.kept[-1], behind_break=True)
    assert torch.equal(variance, sound)
    run.finish()
    assert healthy(run)


def test_a_buffer_that_came_to_be_nan_is_no_boundary_to_go_back_to() -> None:
    run = Run.new(MLP, config(epochs=3))
    run.turn()
    model = run.trainer._machine.parts.grafts.model
    model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    model.register_buffer("spoilt", torch.tensor([math.nan]))
    spoils = model.register_forward_hook(
        lambda module, inputs, outputs: outputs if module.training else outputs + module.spoilt.sum()
    )
    with pytest.raises(TrainingDiverged, match="host's spoilt is not finite"):
        run.trainer.run_epoch()
    spoils.remove()


def test_a_loss_far_above_its_level_is_no_step_and_one_below_it_is() -> None:
    run, factor = Run.new(MLP, config(epochs=4)), [1.0]
    loop = run.trainer._machine.loop
    plain = loop.loss_fn
    loop.loss_fn = lambda outputs, targets: plain(outputs, targets) * factor[0]
    run.trainer.run_epoch()
    level = run.trainer._level.limit / 15
    factor[0] = 10.0
    run.trainer.run_epoch()
    assert run.trainer._level.limit > 5 * 15 * level
    factor[0] = 400.0
    with pytest.raises(TrainingDiverged, match="far over its recent level") as raised:
        run.trainer.run_epoch()
    assert raised.value.kind is Trigger.LOSS_EXPLODED


def test_in_the_first_epoch_the_steps_before_are_the_level() -> None:
    steps = OPENING_STEPS + OPENING_IN_A_ROW
    run, factor, calls = Run.new(MLP, config(epochs=2, epoch_steps=steps)), 1e4, 0
    loop = run.trainer._machine.loop
    plain = loop.loss_fn

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return plain(outputs, targets) * (factor if calls > OPENING_STEPS else 1.0)

    loop.loss_fn = loss_fn
    with pytest.raises(TrainingDiverged, match="far over its recent level") as raised:
        run.trainer.run_epoch()
    assert raised.value.step == steps - 1


def test_in_the_first_epoch_a_loss_that_is_large_alone_is_its_batchs_and_raises_the_level() -> None:
    level = LossLevel(15.0)
    opening = level.opening()
    assert opening is not None
    for _ in range(OPENING_STEPS):
        limit = opening.saw(1e-6)
    assert limit == pytest.approx(1.5e-5)
    assert not opening.is_spike(2.0)
    assert opening.saw(2.0) == limit, "not before it is known to have been alone"
    assert opening.saw(1e-6) == 30.0
    for _ in range(OPENING_IN_A_ROW - 1):
        assert not opening.is_spike(31.0)
        opening.saw(31.0)
    assert opening.is_spike(31.0)
    level.saw(0.1, 2.0)
    assert level.limit == 30.0, "what training came through once is no spike the next time"


def test_a_first_epoch_does_not_end_with_a_loss_of_which_nobody_knows_whether_it_is_a_spike() -> None:
    steps = OPENING_STEPS + OPENING_IN_A_ROW - 1
    run, calls = Run.new(MLP, config(epochs=2, epoch_steps=steps)), 0
    loop = run.trainer._machine.loop
    plain = loop.loss_fn

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return plain(outputs, targets) * (1e4 if calls > OPENING_STEPS else 1.0)

    loop.loss_fn = loss_fn
    with pytest.raises(TrainingDiverged, match="the epoch is given up"):
        run.trainer.run_epoch()
    booked = run.trainer.ledger.accounts()["train"]
    assert booked == steps * run.trainer._machine.costs.step, "all were taken, and none beside them"


def test_few_large_targets_among_tiny_ones_break_no_run() -> None:
    run, calls = Run.new(MLP, config(epochs=4, epoch_steps=40)), 0
    loop = run.trainer._machine.loop
    plain = loop.loss_fn

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return plain(outputs, targets) * (1.0 if calls % 25 == 0 else 1e-4)

    loop.loss_fn = loss_fn
    for _ in range(4):
        run.trainer.run_epoch()


@given(st.lists(st.floats(-1e6, 1e6), min_size=OPENING_STEPS, max_size=20))
def test_an_opening_allows_what_its_steps_were_and_no_step_as_far_above_them_as_they_are_large(
    losses: list[float],
) -> None:
    opening = LossLevel(15.0).opening()
    assert opening is not None
    limits = [opening.saw(loss) for loss in losses]
    assert limits[: OPENING_STEPS - 1] == [math.inf] * (OPENING_STEPS - 1)
    size, highest = max(map(abs, losses)), max(losses)
    assert limits[-1] >= highest
    assert limits[-1] <= highest + 15.0 * size if size else limits[-1] == math.inf


def test_before_the_first_epoch_there_is_no_level_and_below_zero_a_loss_may_rise_by_as_much() -> None:
    level = LossLevel(15.0)
    assert level.opening() is not None
    assert level.limit == math.inf
    level.saw(math.nan, math.nan)
    assert level.limit == math.inf
    level.saw(1.0, 2.0)
    assert level.limit == 30.0
    level.saw(math.nan, math.nan)
    assert level.limit == 30.0
    assert level.opening() is None
    below = LossLevel(15.0)
    below.saw(-1.0, -1.0)
    assert below.limit == 13.0
    below.saw(-49.0, -40.0)
    assert below.limit == -1.0 + 14 * 49.0
    nothing = LossLevel(15.0)
    nothing.saw(0.0, 0.0)
    assert nothing.limit == math.inf


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_the_level_is_the_highest_of_the_newest_epochs_or_a_hundredth_of_the_first(
    losses: list[float],
) -> None:
    level = LossLevel(15.0)
    for loss in losses:
        level.saw(loss, 2.0 * loss)
    assert level.limit == 15.0 * max(2.0 * max(losses[-RECENT_EPOCHS:]), 0.01 * losses[0])
    other, newest = LossLevel(15.0), tuple(losses[-RECENT_EPOCHS:])
    other.restore(level.state())
    assert (other.limit, other.state()) == (level.limit, level.state())
    assert level.state() == LevelState(losses[0], newest, tuple(2.0 * loss for loss in newest))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("harm", HARMS)
def test_harm_at_any_call_of_any_hosts_loss_leaves_nothing_behind(harm: str) -> None:
    became: dict[str, int] = {}
    for host in HOSTS:
        calls = calls_of(host)
        for at in range(1 + 3 * list(HARMS).index(harm), calls, calls // (8 if host is MLP else 3)):
            word = check(host, harm, at)
            became[word] = became.get(word, 0) + 1
    print(f"{harm}: {became}")
    assert became["again"] > 0
    assert became.get("back", 0) > 0 or harm == "exploded"  # which the first steps have no level for
    assert "never" not in became
