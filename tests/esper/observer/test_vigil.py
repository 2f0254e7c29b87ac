"""Signs of life, by the watcher's clock."""

from esper.observer.vigil import SILENT_S, Vigil


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
