"""How much of a property is tried: a little by default, more of it by `make test-slow`."""

import pytest
from hypothesis import settings

THOROUGH = "thorough"
"""The profile's name."""


def examples(quick: int, thorough: int) -> int:
    """For a property that costs more than most: else the profile's own number will do."""
    return thorough if settings.default is settings.get_profile(THOROUGH) else quick


def few_seeds(quick: int, all_: int) -> pytest.MarkDecorator:
    """A test for each `seed` below `all_`; from `quick` on they are slow ones."""
    slow = (pytest.param(seed, marks=pytest.mark.slow) for seed in range(quick, all_))
    return pytest.mark.parametrize("seed", [*range(quick), *slow])
