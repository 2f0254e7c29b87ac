"""The process's random streams: what was taken of them draws the same again, whatever was drawn since."""

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.tolaria.streams import flaw_of_streams, put_streams, take_streams

DRAWS: dict[str, Callable[[], object]] = {
    "uniform": np.random.random,
    "one normal": np.random.standard_normal,  # the generator makes two, and keeps the second for the next
    "many": lambda: np.random.random(700),
    "integer": lambda: np.random.randint(10),
    "seed": lambda: np.random.seed(3),
    "python": random.random,
    "python's normal": lambda: random.gauss(0.0, 1.0),
    "torch": lambda: torch.rand(()),
}


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Every stream is where it was before."""
    before = take_streams()
    yield
    put_streams(before)


def drawn() -> tuple[object, ...]:
    """Some of each, an odd number of normals first."""
    normals = np.random.standard_normal(3).tolist()
    return normals, np.random.random(), random.gauss(0.0, 1.0), random.random(), torch.rand(2).tolist()


names = st.lists(st.sampled_from(sorted(DRAWS)), max_size=4)


@given(names, names)
def test_what_is_put_back_draws_the_same(before: list[str], between: list[str]) -> None:
    for name in before:
        DRAWS[name]()
    here = take_streams()
    expected = drawn()
    for name in between:
        DRAWS[name]()
    later = take_streams()
    assert flaw_of_streams(here) == ""
    put_streams(here)
    assert drawn() == expected
    put_streams(later)
    after_later = drawn()
    put_streams(here)
    again = take_streams()
    assert drawn() == expected
    put_streams(again)
    assert drawn() == expected
    put_streams(later)
    assert drawn() == after_later
