"""Signs of life, by the watcher's clock."""

from typing import get_args

from contracts.view import Phase
from esper.observer.vigil import LULL_S, SILENT_S, Lull, Vigil


def test_silence_is_said_once_and_its_end_once() -> None:
    vigil = Vigil(alive=True, now_s=100.0)
    vigil.saw(101.0, pulse=1)
    assert vigil.change(104.9) == ""
    assert "no sign of life for 5 s" in vigil.change(100.0 + SILENT_S)
    assert vigil.silent
    assert vigil.change(120.0) == ""
    vigil.saw(121.0, pulse=2)
    assert "again" in vigil.change(121.0)
    assert not vigil.silent
    assert vigil.change(121.0) == ""


def test_the_same_pulse_again_is_no_sign_of_life_and_a_message_is_one() -> None:
    vigil = Vigil(alive=True, now_s=0.0)
    for now_s in range(10):
        vigil.saw(float(now_s), pulse=7)
    assert vigil.change(9.0)
    vigil.heard(10.0)
    assert "again" in vigil.change(10.0)


def test_a_run_that_was_gone_when_it_was_found_is_silent_at_once() -> None:
    assert Vigil(alive=False, now_s=50.0).change(50.0)
    assert not Vigil(alive=True, now_s=50.0).change(50.0)


def test_a_lull_is_said_once_until_a_new_epoch_comes() -> None:
    lull = Lull(0.0)
    assert lull.change(1.0, "training", 3) == ""
    assert lull.change(LULL_S, "training", 3) == ""
    assert lull.change(1.0 + LULL_S, "training", 3) == "no new state for a minute"
    assert lull.change(500.0, "training", 3) == ""
    assert lull.change(501.0, "training", 4) == ""
    assert lull.change(501.0 + LULL_S, "training", 4)


def test_a_run_that_probes_finishes_or_is_silent_owes_no_epochs() -> None:
    for phase in set(get_args(Phase)) - {"training", "comparing"}:
        lull = Lull(0.0)
        assert not any(lull.change(now_s, phase, 3) for now_s in (0.0, LULL_S, 9 * LULL_S))
        assert not lull.change(9 * LULL_S + 1.0, "training", 3), "the minute begins anew"
