"""Claims about the policies that have to be beaten."""

import random

import pytest

from contracts.config import GrowthConfig
from contracts.growth import Path
from contracts.lifecycle import Stage
from esper.karn.catalogue import CATALOGUE
from esper.tamiyo.action import Germinate, Wait
from esper.tamiyo.baselines import GrowBlindly, NeverGrow
from tests.esper.tamiyo.views import seed, state, view

GROWTH = GrowthConfig(path=Path(0, 0, 0, 2))


def test_never_grow_only_waits() -> None:
    policy = NeverGrow()
    for epoch in range(50):
        assert isinstance(policy.act(state(epoch), view(epoch)), Wait)
        assert policy.survey(state(epoch), view(epoch)) is None


@pytest.mark.parametrize("number", range(20))
def test_blind_growth_germinates_its_number_within_the_window_and_the_limit(number: int) -> None:
    policy = GrowBlindly(CATALOGUE, random.Random(number), GROWTH, seeds=3, window=(0.1, 0.4))
    params, grown = 338, []
    for epoch in range(100):
        action = policy.act(state(epoch), view(epoch, progress=epoch / 100, params=params))
        if isinstance(action, Germinate):
            grown.append(epoch)
            params += action.candidate.params
    assert len(grown) == 3
    assert min(grown) >= 10
    assert max(grown) <= 42
    assert params <= 1300


def test_blind_growth_waits_while_every_site_is_taken() -> None:
    policy = GrowBlindly(CATALOGUE, random.Random(0), GROWTH, seeds=3, window=(0.0, 0.01))
    long = Path(training_epochs=50)
    taken = tuple(seed(Stage.TRAINING, site, stage_epoch=9, path=long) for site in ("body.0", "body.1"))
    assert isinstance(policy.act(state(9), view(9, taken, progress=0.5, max_active=5)), Wait)


def test_blind_growth_has_no_reason_to_tell_while_its_time_has_not_come() -> None:
    policy = GrowBlindly(CATALOGUE, random.Random(0), GROWTH, window=(0.2, 0.3))
    assert policy.act(state(9), view(9, progress=0.1)) == Wait(), "which nobody is alerted of"
    growing = (seed(Stage.TRAINING, stage_epoch=9, path=Path(training_epochs=50)),)
    assert policy.act(state(9), view(9, growing, progress=0.5)) == Wait()


def test_different_seeds_grow_differently() -> None:
    def first(number: int) -> object:
        policy = GrowBlindly(CATALOGUE, random.Random(number), GROWTH, window=(0.0, 0.01))
        return policy.act(state(9), view(9, progress=0.5))

    assert len({str(first(number)) for number in range(10)}) > 3
    assert first(3) == first(3)
