"""The control run that a grown one is compared with."""

import pytest
from msgspec.structs import replace

from contracts.config import Config
from esper.comparison import Ungrown
from esper.tolaria.results import EpochResult
from tests.esper.tolaria import world

LEFT_OVER = 0.4
"""Of a step: what a budget has left that no step fits into any more."""


def budget(epochs: float) -> Config:
    """As many FLOPs as so many epochs and a part of a step take."""
    whole = world.config(epochs=3)
    one = world.trainer(whole, counts_validation=False)
    while not one.finished:
        one.run_epoch()
    step = one.ledger.spent / (3 * whole.train.epoch_steps)
    flops = step * (epochs * whole.train.epoch_steps + LEFT_OVER)
    return replace(whole, run=replace(whole.run, epochs=None, gflop=flops / 1e9))


@pytest.mark.parametrize("epochs", [3, 2.5])
def test_a_run_that_grew_nothing_comes_out_as_its_control(epochs: float) -> None:
    config = budget(epochs)
    one, results = world.trainer(config, counts_validation=False), list[EpochResult]()
    while not one.finished:
        results.append(one.run_epoch())
    control = Ungrown(config, world.task(), one.ledger.spent)
    final = control.run(lambda facts: None)
    assert final == one.final()
    ours = [(each.train_loss, each.val_loss, each.learning_rate) for each in results]
    assert [(each.train_loss, each.val_loss, each.learning_rate) for each in control.epochs] == ours
