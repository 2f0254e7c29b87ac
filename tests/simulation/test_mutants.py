"""Bugs in the system's own actors: a whole run brings each out, and says what it broke."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.play import simulate

SEEDS_MAX = 1_000
QUICK = 20
"""Seeds below it have short runs, as it happens: with those the tests do by default."""


def named(mutant: Mutant) -> str:
    return mutant.name


@pytest.mark.parametrize(
    "mutant",
    [m if m.seed < QUICK else pytest.param(m, marks=pytest.mark.slow) for m in MUTANTS],
    ids=named,
)
def test_the_known_seed_brings_the_bug_out_and_passes_without_it(mutant: Mutant) -> None:
    assert mutant.says in mutant.found_by(mutant.seed)
    simulate(mutant.seed)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_every_bug_is_found_within_a_thousand_seeds(mutant: Mutant) -> None:
    found = next((seed for seed in range(SEEDS_MAX) if mutant.says in mutant.found_by(seed)), None)
    assert found is not None
    print(f"\n{mutant.name}: found by seed {found}: {mutant.found_by(found)}")
