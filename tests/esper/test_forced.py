"""Claims about an operator's orders and a kill: what came behind the newest checkpoint holds all the same."""

from pathlib import Path
from typing import Any, cast

import pytest

from contracts.config import EmergencyConfig
from contracts.emergency import NONE, EmergencyState, Level
from esper.forced import FILE, followed, forget, note
from esper.moment import Moment
from esper.report.record import Recorded
from esper.tolaria.emergency import Emergencies
from tests.esper.test_moment import those_of


def moment(emergencies: Emergencies) -> Moment:
    return Moment(3, cast(Any, None), those_of(Recorded(), emergencies.state()))


def reborn(folder: Path, checkpoint: Moment) -> Emergencies:
    """As a new process has them that begins at this checkpoint."""
    emergencies = Emergencies(EmergencyConfig())
    emergencies.restore(followed(folder, checkpoint).memories.emergency)
    return emergencies


def test_what_was_ordered_after_the_checkpoint_holds_in_the_process_that_resumes(tmp_path: Path) -> None:
    emergencies = Emergencies(EmergencyConfig())
    checkpoint = moment(emergencies)
    emergencies.force(Level.CONSERVATIVE, 3, "anna")
    note(tmp_path, emergencies.state())
    again = reborn(tmp_path, checkpoint)
    assert (again.level, again.forced, again.held) == (Level.CONSERVATIVE, Level.CONSERVATIVE, False)
    assert (again.reason, again.since) == ("forced by anna", 3)
    emergencies.release(4, "anna")
    emergencies.hold(4, "anna")
    note(tmp_path, emergencies.state())
    again = reborn(tmp_path, checkpoint)
    assert (again.level, again.forced, again.held) == (NONE, NONE, True)


def test_a_checkpoint_that_knows_of_the_order_says_more_than_the_note(tmp_path: Path) -> None:
    emergencies = Emergencies(EmergencyConfig())
    emergencies.hold(1, "anna")
    note(tmp_path, emergencies.state())
    emergencies.restore(EmergencyState(Level.ELEVATED, Level.ELEVATED, held=True, orders=1))
    checkpoint = moment(emergencies)
    assert followed(tmp_path, checkpoint) is checkpoint
    assert reborn(tmp_path, checkpoint).forced is Level.ELEVATED, "what is held has risen since"


@pytest.mark.parametrize("noted", [None, b"", b"\xff", b"[]", b'{"orders": "many"}'])
def test_a_note_that_can_not_be_read_is_none(tmp_path: Path, noted: bytes | None) -> None:
    if noted is not None:
        (tmp_path / FILE).write_bytes(noted)
    checkpoint = moment(Emergencies(EmergencyConfig()))
    assert followed(tmp_path, checkpoint) is checkpoint


def test_a_run_that_begins_anew_is_under_no_order(tmp_path: Path) -> None:
    emergencies = Emergencies(EmergencyConfig())
    checkpoint = moment(emergencies)
    forget(tmp_path)
    emergencies.force(Level.ELEVATED, 0, "anna")
    note(tmp_path, emergencies.state())
    forget(tmp_path)
    assert reborn(tmp_path, checkpoint).level is NONE
