"""Claims about sharing the interpreter."""

import gc
import sys
from collections.abc import Iterator

import pytest

from actors.runtime.interpreter import SWITCH_S, YOUNG_MAX, shared_interpreter


@pytest.fixture(autouse=True)
def _nothing_is_frozen() -> Iterator[None]:
    """As in a run; the tests' own imports are frozen again afterwards."""
    gc.unfreeze()
    yield
    gc.freeze()


def test_the_interpreter_is_as_before_afterwards_even_after_an_error() -> None:
    before, thresholds, inside = sys.getswitchinterval(), gc.get_threshold(), []

    def fail() -> None:
        with shared_interpreter():
            inside.append((sys.getswitchinterval(), gc.get_freeze_count()))
            assert gc.get_threshold()[0] == YOUNG_MAX
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    ((interval_s, frozen),) = inside
    assert interval_s == pytest.approx(SWITCH_S)
    assert frozen > 0
    assert sys.getswitchinterval() == before
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0


def test_what_was_frozen_before_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with shared_interpreter(), shared_interpreter():
        assert gc.get_freeze_count() == frozen
    assert gc.get_freeze_count() == frozen
    gc.unfreeze()
    with shared_interpreter():
        with shared_interpreter():
            pass
        assert gc.get_freeze_count() > 0, "the outer one's is not undone by the inner one"
    assert gc.get_freeze_count() == 0
