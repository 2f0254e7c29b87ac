import random

import numpy as np
import pytest
import torch

from esper.tolaria.errors import PlanRefused
from tests.esper.tolaria.world import config, fossilize, insert, learn, live, plan, same, trainer, weights


def test_a_restored_run_resumes_bit_for_bit() -> None:
    one = trainer(config(epochs=6), dropout=0.3)
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0"), insert("two#0", dropout=0.5)))
    one.apply(plan(learn("two#0")))
    one.run_epoch()
    kept = one.snapshot()
    first = [one.run_epoch() for _ in range(3)]
    expected, facts = weights(one), one.assemble()
    one.run_epoch()
    one.restore(kept)
    assert [one.run_epoch() for _ in range(3)] == first
    assert same(weights(one), expected)
    assert one.assemble() == facts


def test_a_restored_seed_is_as_live_as_it_was() -> None:
    one = trainer()
    one.apply(plan(insert("one#0"), live("one#0", alpha=0.5)))
    one.run_epoch()
    kept, before = one.snapshot(), weights(one)
    one.apply(plan(live("one#0", alpha=1.0)))
    one.run_epoch()
    one.restore(kept)
    assert one._grafts.alpha("one#0") == 0.5
    assert same(weights(one), before)


def test_a_snapshot_of_another_shape_is_refused_and_nothing_changes() -> None:
    one = trainer()
    one.run_epoch()
    kept = one.snapshot()
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    before, step = weights(one), one.assemble().state.global_step
    with pytest.raises(PlanRefused, match="take out what was grafted since"):
        one.restore(kept)
    assert same(weights(one), before)
    assert one.assemble().state.global_step == step


def test_the_process_own_streams_come_back_too() -> None:
    one = trainer()
    kept = one.snapshot()
    drawn = (random.random(), np.random.normal(), torch.rand(3).tolist())
    one.restore(kept)
    assert (random.random(), np.random.normal(), torch.rand(3).tolist()) == drawn
