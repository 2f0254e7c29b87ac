"""Planted races: first in, first out shows none, the seeded order finds all, and sound code has none."""

import pytest

from tests.simulation.races import RACES
from tests.simulation.races.race import Race

SEEDS_MAX = 1_000
SOUND_SEEDS = 20
AROUND = 3
"""Seeds on either side of the known one."""


def named(race: Race) -> str:
    return race.name


def test_there_are_as_many_as_were_asked_for_and_each_has_its_name() -> None:
    assert len({race.name for race in RACES}) == len(RACES) >= 10


@pytest.mark.parametrize("race", RACES, ids=named)
def test_no_order_of_first_in_first_out_brings_the_bug_out(race: Race) -> None:
    assert race.breaks(None) == ""


@pytest.mark.parametrize("race", RACES, ids=named)
def test_the_known_seed_brings_the_bug_out_every_time(race: Race) -> None:
    first, second = race.breaks(race.seed), race.breaks(race.seed)
    assert first.startswith("Violation")
    assert first == second
    nearby = range(max(0, race.seed - AROUND), race.seed + AROUND)
    assert next(seed for seed in nearby if race.breaks(seed)) == race.seed, "no seed before it does"


@pytest.mark.parametrize("race", RACES, ids=named)
def test_the_sound_version_holds_in_every_order(race: Race) -> None:
    assert race.breaks(None, planted=False) == ""
    assert [seed for seed in range(SOUND_SEEDS) if race.breaks(seed, planted=False)] == []


@pytest.mark.slow
@pytest.mark.parametrize("race", RACES, ids=named)
def test_every_bug_is_found_and_nothing_else_within_a_thousand_seeds(race: Race) -> None:
    found = next(seed for seed in range(SEEDS_MAX) if race.breaks(seed))
    assert found == race.seed
    assert [seed for seed in range(SEEDS_MAX) if race.breaks(seed, planted=False)] == []
    shown = sum(bool(race.breaks(seed)) for seed in range(100))
    print(f"\n{race.name}: found by seed {found}, shown by {shown} of 100 orders; sound: by 0 of {SEEDS_MAX}")
