import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from contracts.config import GrowthConfig
from esper.tolaria.errors import TrainingDiverged
from esper.tolaria.loop import SAMPLE_EVERY
from esper.tolaria.randomness import generator_for
from tests.esper.tolaria import world
from tests.esper.tolaria.world import config, host_weights, insert, learn, live, plan, same, trainer, weights


def test_training_is_bit_for_bit_that_of_the_plainest_loop() -> None:
    ours = trainer(config(epochs=4))
    task = world.task()
    optimizer = torch.optim.Adam(task.model.parameters(), lr=1e-2, fused=True)
    order = generator_for(3, "batches")
    losses = []
    for epoch in range(4):
        losses.append([])
        for step in range(6):
            position = (epoch * 6 + step) % 8
            if position == 0:
                permutation = torch.randperm(80, generator=order)
            progress = (epoch * 6 + step) / 24
            fallen = max(0.0, (progress - 0.7) / 0.3)
            optimizer.param_groups[0]["lr"] = 1e-2 * (1 - 0.98 * fallen)
            index = permutation[position * 10 : position * 10 + 10]
            optimizer.zero_grad()
            loss = F.cross_entropy(task.model(task.train.inputs[index]), task.train.targets[index])
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    results = [ours.run_epoch() for _ in range(4)]
    assert [result.train_loss for result in results] == pytest.approx([sum(x) / 6 for x in losses])
    theirs = {**dict(task.model.named_parameters()), **dict(task.model.named_buffers())}
    assert same(weights(ours), {name: tensor.detach() for name, tensor in theirs.items()})


def test_the_same_seed_gives_the_same_numbers_twice_in_one_process() -> None:
    first, second = trainer(dropout=0.3), trainer(dropout=0.3)
    ones = [first.run_epoch() for _ in range(3)]
    torch.rand(5)  # what others draw between epochs changes nothing
    assert [second.run_epoch() for _ in range(3)] == ones
    assert same(weights(first), weights(second))


def test_another_seed_gives_another_order_of_data() -> None:
    first, second = trainer(config(seed=1)), trainer(config(seed=2))
    assert first.run_epoch().train_loss != second.run_epoch().train_loss


def test_training_leaves_the_global_stream_as_it_was() -> None:
    one = trainer(dropout=0.3)
    before = torch.get_rng_state()
    one.run_epoch()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_host_trains_bit_for_bit_the_same_beside_an_isolated_learning_seed(dropout: float) -> None:
    alone, beside = trainer(dropout=dropout), trainer(dropout=dropout)
    beside.apply(plan(insert("one#0", dropout=0.5), learn("one#0")))
    seed_before = weights(beside)["one.esper_graft.seeds.at_one_x23_0.body.up.weight"]
    for _ in range(4):
        assert alone.run_epoch().train_loss == beside.run_epoch().train_loss
    assert same(weights(alone), host_weights(beside))
    assert not torch.equal(weights(beside)["one.esper_graft.seeds.at_one_x23_0.body.up.weight"], seed_before)
    assert beside.isolation.violations("one#0") == 0


def test_a_live_seed_learns_and_is_part_of_the_loss() -> None:
    alone, grown = trainer(), trainer()
    grown.apply(plan(insert("one#0"), live("one#0")))
    losses = [(alone.run_epoch().train_loss, grown.run_epoch().train_loss) for _ in range(2)]
    assert losses[1][0] != losses[1][1]
    assert grown.params == alone.params + 27


def test_a_learning_seed_is_trained_on_every_nth_batch_and_its_passes_are_booked() -> None:
    one = trainer(config(growth=GrowthConfig(shadow_every=4)))
    one.apply(plan(insert("two#0"), learn("two#0")))
    one.run_epoch()  # steps 0 to 5: shadow passes at 0 and 4
    once = one.ledger.accounts()["shadow"]
    one.run_epoch()  # steps 6 to 11: at 8
    assert once > 0
    assert one.ledger.accounts()["shadow"] == once * 3 // 2
    optimizer = one._machine.parts.optimizer
    seed_state = optimizer.state[optimizer.param_groups[1]["params"][0]]
    assert int(seed_state["step"]) == 3


class Poison(torch.autograd.Function):
    """The identity, with a gradient that is not a number."""

    @staticmethod
    def forward(context: object, inputs: Tensor) -> Tensor:
        return inputs.clone()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return gradient * math.nan


@pytest.mark.parametrize("what", ["training loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_is_never_stepped_with(what: str) -> None:
    calls = 0

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        loss = F.cross_entropy(outputs, targets)
        if calls <= 4 + counting:
            return loss
        poisoned: Tensor = loss * math.inf if what == "training loss" else Poison.apply(loss)
        return poisoned

    counting = 1  # the pass that counts a step's FLOPs
    one = trainer(the_task=replace(world.task(), loss_fn=loss_fn))
    with pytest.raises(TrainingDiverged, match=f"step 4: the {what}") as caught:
        one.run_epoch()
    assert caught.value.step == 4
    good = trainer(config(epoch_steps=4, epochs=30))
    good.run_epoch()
    plain = {name: tensor for name, tensor in weights(good).items() if "norm." not in name}
    assert all(torch.equal(weights(one)[name], tensor) for name, tensor in plain.items())
    broken = one._machine.costs.step  # its passes were made, and are paid for
    assert one.ledger.accounts()["train"] == good.ledger.accounts()["train"] + broken


def test_a_seed_that_is_not_finite_on_the_shadow_path_harms_nobody_else() -> None:
    alone, beside = trainer(), trainer()
    bad = insert("one#0")
    with torch.no_grad():
        next(bad.module.parameters()).fill_(math.inf)
    beside.apply(plan(bad, learn("one#0")))
    assert alone.run_epoch().train_loss == beside.run_epoch().train_loss
    assert same(weights(alone), host_weights(beside))
    assert beside.assemble().figures["one#0"].finite is False


def test_gradients_are_clipped_owner_by_owner() -> None:
    alone, beside = trainer(config(clip_norm=0.01)), trainer(config(clip_norm=0.01))
    beside.apply(plan(insert("one#0"), learn("one#0")))
    alone.run_epoch()
    beside.run_epoch()
    assert same(weights(alone), host_weights(beside))
    for owner in beside._machine.crew().owners:
        total = torch.linalg.vector_norm(
            torch.stack([p.grad.norm() for p in owner if p.grad is not None] or [torch.zeros(())])
        )
        assert total <= 0.0101


def test_a_stop_ends_the_epoch_after_a_step_with_nothing_validated() -> None:
    one = trainer()
    first = one.run_epoch()
    one.stop()
    result = one.run_epoch()
    assert result.stopped
    assert result.steps == 0
    assert (result.val_loss, result.val_accuracy) == (first.val_loss, first.val_accuracy)


def test_a_stop_in_the_middle_of_an_epoch_keeps_the_steps_taken() -> None:
    calls = 0

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            one.stop()
        return F.cross_entropy(outputs, targets)

    one = trainer(the_task=replace(world.task(), loss_fn=loss_fn))
    result = one.run_epoch()
    assert (result.stopped, result.steps) == (True, 3)
    assert math.isnan(result.val_loss)


def test_a_flop_budget_is_spent_to_the_last_step_and_never_overdrawn() -> None:
    one = trainer(config(epochs=None, gflop=2e-4))
    steps = []
    while not one.finished:
        steps.append(one.run_epoch().steps)
    spent = one.ledger.spent
    assert spent <= 200_000
    assert set(steps[:-1]) == {6}
    assert 200_000 - spent < 6 * one.assemble().growth.step_flops
    assert one.assemble().growth.progress == spent / 200_000


def test_a_run_in_epochs_ends_after_them_at_the_final_rate() -> None:
    one = trainer(config(epochs=3))
    rates = []
    while not one.finished:
        rates.append(one.run_epoch().learning_rate)
    assert len(rates) == 3
    assert rates[0] == 1e-2
    assert rates[-1] < 3e-3


def test_a_growing_network_is_counted_as_it_grows() -> None:
    one = trainer()
    before = one.run_epoch() and one.assemble().growth.step_flops
    one.apply(plan(insert("one#0")))
    one.run_epoch()
    assert one.assemble().growth.step_flops == before  # isolated: the host's step is what it was
    one.apply(plan(live("one#0")))
    one.run_epoch()
    assert one.assemble().growth.step_flops > before


def test_every_nth_step_is_sampled_and_no_more() -> None:
    one = trainer()
    for _ in range(4):
        one.run_epoch()
    assert [sample.step for sample in one.samples] == list(range(0, 24, SAMPLE_EVERY))
    assert all(sample.grad_norm > 0 and math.isfinite(sample.loss) for sample in one.samples)


def test_a_foreign_rate_is_reported_with_the_epoch_in_which_it_was_found() -> None:
    one = trainer()
    assert one.run_epoch().foreign_rate_changes == 0
    assert one.assemble().foreign == ()
    one._machine.parts.optimizer.param_groups[0]["lr"] = 1.0
    assert one.run_epoch().foreign_rate_changes == 1
    (change,) = one.assemble().foreign
    assert (change.group, change.setting, change.found) == ("host", "lr", "1.0")
    assert not one.assemble().growth.conservative, "the alarm says how bad that is"


def test_a_foreign_parameter_in_the_host_is_told_once_and_does_not_learn() -> None:
    one = trainer()
    assert one.run_epoch().notices == ()
    stranger = torch.nn.Parameter(torch.ones(2))
    one._machine.parts.grafts.model.register_parameter("stranger", stranger)
    (told,) = one.run_epoch().notices
    assert "foreign parameters" in told
    assert "stranger" in told
    assert one.run_epoch().notices == ()
    assert torch.equal(stranger, torch.ones(2))


def test_the_final_figures_judge_on_all_splits_and_spend_nothing() -> None:
    one = trainer(config(epochs=10))
    while not one.finished:
        one.run_epoch()
    spent = one.ledger.accounts()
    final = one.final()
    assert final.flops == spent == one.ledger.accounts()
    assert final.train_flops == sum(spent.values())
    assert final.val_accuracy is not None
    assert final.val_accuracy > 0.5
    assert final.fresh_accuracy is not None
    assert final.params == one.params


def test_a_network_that_has_grown_when_too_little_is_left_to_count_it_is_not_counted() -> None:
    """The graft comes after the run was found to have a step left: it takes none, and overdraws nothing."""
    plain = trainer(counts_validation=False)
    plain.run_epoch()
    budget = plain.ledger.spent + plain.assemble().growth.step_flops * 3 // 2
    one = trainer(config(epochs=None, gflop=budget / 1e9), counts_validation=False)
    one.run_epoch()
    assert not one.finished
    one.apply(plan(insert("one#0"), live("one#0")))
    spent = one.ledger.accounts()
    assert one.finished
    result = one.run_epoch()
    assert result.steps == 0
    assert one.ledger.spent <= budget
    assert {name for name, flops in one.ledger.accounts().items() if flops != spent[name]} <= {"validation"}
