"""Planted races: first in, first out shows none, the seeded order finds all, and the real code has none."""

import pytest

from tests.simulation.races import RACES
from tests.simulation.races.race import Race

SEEDS_MAX = 1_000


def named(race: Race) -> str:
    return race.name


def test_there_are_as_many_as_were_asked_for_each_in_another_piece_of_real_code() -> None:
    assert len({race.name for race in RACES}) == len(RACES) >= 10
    assert len({(race.of, race.method) for race in RACES}) == len(RACES)
    assert {race.of.__module__.partition(".")[0] for race in RACES} == {"actors"}


@pytest.mark.parametrize("race", RACES, ids=named)
def test_no_order_of_first_in_first_out_brings_the_bug_out(race: Race) -> None:
    assert race.breaks(None) == ""


@pytest.mark.parametrize("race", RACES, ids=named)
def test_the_known_seed_brings_the_bug_out_every_time(race: Race) -> None:
    first, second = race.breaks(race.seed), race.breaks(race.seed)
    assert race.says in first
    assert first == second


@pytest.mark.parametrize("race", RACES, ids=named)
def test_the_real_code_holds_in_the_same_orders(race: Race) -> None:
    assert race.breaks(None, planted=False) == ""
    assert race.breaks(race.seed, planted=False) == ""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("race", RACES, ids=named)
def test_every_bug_is_found_and_nothing_else_within_a_thousand_seeds(race: Race) -> None:
    found = next(seed for seed in range(SEEDS_MAX) if race.breaks(seed))
    assert found == race.seed
    assert race.says in race.breaks(found)
    broken = [seed for seed in range(SEEDS_MAX) if race.breaks(seed, planted=False)]
    assert broken == []
    shown = sum(bool(race.breaks(seed)) for seed in range(100))
    print(
        f"\n{race.name}: found by seed {found}, shown by {shown} of 100 orders; real code: 0 of {SEEDS_MAX}"
    )
