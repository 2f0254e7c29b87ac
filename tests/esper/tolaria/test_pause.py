"""A paused seed at the safe point: a live one counts as before, and not a bit of it moves."""

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from contracts.growth import SeedRecord
from contracts.lifecycle import Stage
from esper.kasmina.plan import Change, Pause, Resume
from esper.tolaria.optimizer import state_by_name
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria.world import (
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

PAUSED = replace(record("one#0", Stage.PROBATIONARY, alpha=1.0), paused_since=2)


def grown(*changes: object) -> Trainer:
    one = trainer()
    one.run_epoch()
    one.apply(plan(insert("one#0"), *changes))  # type: ignore[arg-type]
    one.run_epoch()
    return one


def seed_bits(of: Trainer) -> dict[str, Tensor]:
    """The seed's weights and all of its optimizer state, copied."""
    named = of._grafts.named_parameters("one#0")
    state = state_by_name(of._machine.parts.optimizer, named)
    bits = {name: parameter.detach().clone() for name, parameter in named}
    return bits | {f"{n}.{key}": value for n, entries in state.items() for key, value in entries.items()}


def paused(stage: Stage, alpha: float = 0.0) -> SeedRecord:
    return replace(record("one#0", stage, alpha=alpha), paused_since=2)


def awake(stage: Stage, alpha: float = 0.0) -> SeedRecord:
    return record("one#0", stage, alpha=alpha)


def test_a_live_seed_that_is_paused_stays_as_it_is_bit_for_bit_and_keeps_contributing() -> None:
    one, alone = grown(live("one#0")), trainer()
    for group in one._machine.parts.optimizer.param_groups:
        group["weight_decay"] = 0.1
    one.apply(plan(Pause(PAUSED)))
    before, host = seed_bits(one), host_weights(one)
    assert len(before) > 4, "it has optimizer state"
    for _ in range(3):
        one.run_epoch()
        assert same(seed_bits(one), before)
    assert not same(host_weights(one), host), "the host goes on learning"
    inputs = alone._task.validation.inputs
    one._grafts.model.eval()
    with torch.no_grad():
        with_it = one._grafts.model(inputs)
        with one._grafts.host_only():
            assert not torch.equal(one._grafts.model(inputs), with_it)


@pytest.mark.parametrize("stage", [Stage.TRAINING, Stage.SHADOWING])
def test_an_isolated_seed_that_is_paused_learns_nothing_until_it_resumes(stage: Stage) -> None:
    one = grown(learn("one#0"))
    one.apply(plan(Pause(paused(stage))))
    before = seed_bits(one)
    one.run_epoch()
    assert same(seed_bits(one), before)
    one.apply(plan(Resume(awake(stage))))
    one.run_epoch()
    assert not same(seed_bits(one), before)


def test_a_live_seed_that_resumes_learns_on_from_the_state_that_it_had() -> None:
    one = grown(live("one#0"))
    steps = {name: bits for name, bits in seed_bits(one).items() if name.endswith(".step")}
    one.apply(plan(Pause(PAUSED)))
    one.run_epoch()
    one.apply(plan(Resume(awake(Stage.PROBATIONARY, 1.0))))
    before = seed_bits(one)
    one.run_epoch()
    after = seed_bits(one)
    assert not same(after, before)
    taken = one._config.train.epoch_steps
    assert all(after[name] == count + taken for name, count in steps.items())


def test_a_seed_at_rest_does_not_begin_to_learn_by_a_pause() -> None:
    one = grown()
    before = seed_bits(one)
    one.apply(plan(Pause(paused(Stage.GERMINATED)), Resume(awake(Stage.GERMINATED))))
    one.run_epoch()
    assert same(seed_bits(one), before)


def test_a_module_that_is_taken_out_while_paused_is_as_it_was_made() -> None:
    one = grown(live("one#0"))
    parameters = list(one._grafts.module("one#0").parameters())
    parameters[0].requires_grad_(True)
    one.apply(plan(Pause(PAUSED)))
    assert not any(parameter.requires_grad for parameter in parameters)
    one.apply(plan(remove("one#0")))
    assert all(parameter.requires_grad for parameter in parameters)


def test_a_pause_survives_a_way_back_and_forth() -> None:
    one = grown(live("one#0"))
    running = one.keep()
    one.apply(plan(Pause(PAUSED)))
    held = one.keep()
    one.run_epoch()
    expected = weights(one)
    one.restore(running)
    before = seed_bits(one)
    one.run_epoch()
    assert not same(seed_bits(one), before), "not paused then"
    one.restore(held)
    one.run_epoch()
    assert same(weights(one), expected)
    one.apply(plan(Resume(awake(Stage.PROBATIONARY, 1.0))))
    before = seed_bits(one)
    one.run_epoch()
    assert not same(seed_bits(one), before)


@pytest.mark.parametrize("begun", [live("one#0"), learn("one#0")], ids=["live", "isolated"])
def test_the_warm_up_of_a_paused_seed_stands_still_also_over_a_way_back(begun: Change) -> None:
    one = trainer(config(seed_warmup_steps=24))
    one.run_epoch()
    one.apply(plan(insert("one#0"), begun))

    def share() -> float:
        """Of the host's rate, in the last step."""
        one.run_epoch()
        host, seed = one._machine.parts.optimizer.param_groups
        return float(seed["lr"] / host["lr"])

    stage = begun.record.stage
    assert share() == pytest.approx(6 / 24)
    one.apply(plan(Pause(paused(stage, 1.0))))
    held = one.keep()
    assert share() == share() == pytest.approx(7 / 24)
    one.restore(held)
    share()
    one.apply(plan(Resume(awake(stage, 1.0))))
    assert [share(), share(), share(), share()] == pytest.approx([12 / 24, 18 / 24, 1.0, 1.0])
