"""Claims about sharing the interpreter."""

import gc
import sys

import pytest

from actors.runtime.interpreter import SWITCH_S, shared_interpreter


def test_the_interpreter_is_as_before_afterwards_even_after_an_error() -> None:
    before, inside = sys.getswitchinterval(), []

    def fail() -> None:
        with shared_interpreter():
            inside.append((sys.getswitchinterval(), gc.get_freeze_count()))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    ((interval_s, frozen),) = inside
    assert interval_s == pytest.approx(SWITCH_S)
    assert frozen > 0
    assert sys.getswitchinterval() == before
    assert gc.get_freeze_count() == 0
