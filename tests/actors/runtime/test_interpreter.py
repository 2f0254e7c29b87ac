"""Claims about sharing the interpreter."""

import gc
import sys

import pytest

from actors.runtime.interpreter import SWITCH_S, YOUNG_MAX, shared_interpreter


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
