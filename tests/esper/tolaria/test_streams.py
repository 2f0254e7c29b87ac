"""The process's random streams: what is said of them is where they are, however often they were looked at."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.tolaria.streams import Streams, flaw_of_streams, put_streams

DRAWS: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "uniform": np.random.random,
    "normal": np.random.standard_normal,
    "two normals": lambda: np.random.standard_normal(2),
    "many": lambda: np.random.random(700),
    "integer": lambda: np.random.randint(10),
    "seed": lambda: np.random.seed(3),
    "the same state again": lambda: np.random.set_state(np.random.get_state()),
    "python": random.random,
    "torch": lambda: torch.rand(()),
}


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Every stream is where it was before, and of the kind that numpy begins with."""
    before = Streams().now()
    generator = np.random.mtrand.get_bit_generator()
    yield
    np.random.mtrand.set_bit_generator(generator)
    put_streams(before)


def plain(state: Any) -> Any:
    """numpy's state with its words as a list."""
    if isinstance(state, dict):
        return {name: plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def drawn() -> tuple[object, ...]:
    return (
        np.random.standard_normal(3).tolist(),
        np.random.random(),
        random.random(),
        torch.rand(2).tolist(),
    )


@given(st.lists(st.sampled_from(sorted(DRAWS)), max_size=8))
def test_numpys_state_is_that_of_now(names: list[str]) -> None:
    streams = Streams()
    streams.now()
    for name in names:
        DRAWS[name]()
        assert plain(dict(streams.now().numpy)) == plain(np.random.get_state(legacy=False))


@given(
    st.lists(st.sampled_from(sorted(DRAWS)), max_size=4), st.lists(st.sampled_from(sorted(DRAWS)), max_size=4)
)
def test_what_is_put_back_draws_the_same(before: list[str], between: list[str]) -> None:
    streams = Streams()
    for name in before:
        DRAWS[name]()
        streams.now()
    here = streams.now()
    expected = drawn()
    for name in between:
        DRAWS[name]()
    assert flaw_of_streams(here) == ""
    put_streams(here)
    assert drawn() == expected
    put_streams(here)
    assert plain(dict(streams.now().numpy)) == plain(dict(here.numpy))


def test_what_has_not_moved_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    np.random.seed(1)
    streams = Streams()
    first = streams.now()
    asked: list[bool] = []
    get_state = np.random.get_state
    monkeypatch.setattr(
        np.random, "get_state", lambda legacy=True: (asked.append(legacy), get_state(legacy))[1]
    )
    assert streams.now().numpy is first.numpy
    assert not asked
    np.random.random()
    assert streams.now().numpy is not first.numpy
    assert asked == [False]


def test_another_kind_of_generator_is_asked_each_time() -> None:
    np.random.mtrand.set_bit_generator(np.random.PCG64(5))
    streams = Streams()
    first, second = streams.now(), streams.now()
    assert first.numpy is not second.numpy
    np.random.random()
    assert (
        plain(dict(streams.now().numpy))
        == plain(np.random.get_state(legacy=False))
        != plain(dict(first.numpy))
    )
