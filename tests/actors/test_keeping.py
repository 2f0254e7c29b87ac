"""Claims about what of a run can't be undone any more, by its moments in memory and on disk."""

import math
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import convert

from actors.keeping import LATE_S, Desk, Keeper, Wrote
from actors.lane import Deliver, Job
from actors.perform import way_on
from contracts.config import CheckpointConfig
from contracts.control import Decided
from esper.checkpoint.store import Saved
from esper.folder import going_on
from esper.moment import Moment
from esper.tamiyo.action import Wait, command_for
from esper.tamiyo.observation import SPAN_MAX, UNSETTLED_MAX, Observation
from tests.esper.tamiyo.views import state, view

SAVED = Saved(1, cast(Any, None), 1)


class Writer:
    """A lane whose jobs are never done: the test says what came of them."""

    def __init__(self) -> None:
        self.jobs = 0

    def submit(self, job: Job, deliver: Deliver) -> None:
        self.jobs += 1

    def close(self, timeout_s: float) -> bool:
        return True


def moment(epoch: int) -> Moment:
    return Moment(epoch, cast(Any, SimpleNamespace(nbytes=0)), cast(Any, None))


def keeper(*, disk: bool = True, boundaries: int = 3) -> Keeper:
    desk = Desk(cast(Any, None), Writer(), cast(Any, None), cast(Any, None)) if disk else None
    return Keeper(CheckpointConfig(boundaries=boundaries), desk, lambda: 0.0)


def kept(epochs: range, *, disk: bool = True, boundaries: int = 3) -> Keeper:
    one = keeper(disk=disk, boundaries=boundaries)
    for epoch in epochs:
        one.keep(moment(epoch))
    one.trim()
    return one


def written(one: Keeper) -> None:
    """The newest moment comes to the disk."""
    assert one.write_newest()
    one.wrote(Wrote(one.moments[-1].epoch, SAVED))


def test_without_a_way_back_everything_is_settled() -> None:
    assert keeper(disk=False, boundaries=0).settled == math.inf


def test_what_is_settled_is_older_than_every_moment_in_memory_and_the_newest_on_disk() -> None:
    one = kept(range(10), disk=False)
    assert one.settled == 7
    one = kept(range(5))
    assert one.settled == -1, "another process would begin anew"
    written(one)
    assert (one.settled, one.written) == (2, 4)
    for epoch in range(5, 9):
        one.keep(moment(epoch))
    one.trim()
    assert one.settled == 4
    written(one)
    assert one.settled == 6


def test_a_moment_that_was_written_is_let_go_with_the_others_of_its_age() -> None:
    one = kept(range(5))
    written(one)
    assert one.write_newest()
    assert not one.writing, "it is on disk already"
    saved = weakref.ref(one.moments[-1])
    for epoch in range(5, 9):
        one.keep(moment(epoch))
    one.trim()
    assert saved() is None
    assert one.write_newest()
    assert one.writing


def test_a_checkpoint_that_could_not_be_written_settles_nothing() -> None:
    one = kept(range(9))
    assert one.write_newest()
    one.wrote(Wrote(8, None, OSError("no space left on device")))
    assert one.settled == -1


def test_a_run_that_is_taken_up_can_go_back_to_where_it_was() -> None:
    one = keeper()
    one.begin(moment(6))
    assert one.settled == 6
    one.keep(moment(6))
    assert [kept.epoch for kept in one.moments] == [6], "kept anew, once"


def test_a_run_that_is_taken_up_can_go_back_further_where_the_disk_has_more() -> None:
    one = keeper()
    one.begin(moment(6), [moment(3), moment(5)])
    assert ([kept.epoch for kept in one.moments], one.settled) == ([3, 5, 6], 3)
    one.keep(moment(6))
    one.keep(moment(7))
    one.trim()
    assert one.settled == one.moments[0].epoch


def test_after_a_rollback_nothing_is_settled_until_the_disk_has_what_happened() -> None:
    one = kept(range(9))
    written(one)
    one.go_back(7)
    assert not one.write_newest(), "what it has would be of the undone future"
    one.keep(moment(7))
    assert ([kept.epoch for kept in one.moments], one.settled) == ([6, 7], -1)
    written(one)
    assert one.settled == 6


@pytest.mark.parametrize("waits", [True, False])
def test_a_checkpoint_of_an_undone_future_that_lands_late_settles_nothing(waits: bool) -> None:
    one = kept(range(9))
    assert one.write_newest()
    if waits:
        one.keep(moment(9))
        one.trim()
        assert one.write_newest()
    one.go_back(7)
    one.keep(moment(7))
    assert one.write_newest(), "it waits for the one that is being written"
    one.wrote(Wrote(8, SAVED))
    assert (one.settled, one.written, one.writing) == (-1, 8, True)
    one.wrote(Wrote(7, SAVED))
    assert (one.settled, one.written, one.writing) == (6 if not waits else 7, 7, False)


def test_how_to_go_on_is_said_of_what_has_happened_and_of_an_undone_future_as_such() -> None:
    one, folder = kept(range(9)), Path("runs/a")
    resume = f"go on with: {going_on(folder)}"
    assert way_on(one, folder) == ""
    written(one)
    assert way_on(one, folder) == f"the end of epoch 8 is on disk; {resume}"
    one.go_back(6)
    one.keep(moment(6))
    told = "the disk has only the end of epoch 8 as it was before the run went back"
    assert way_on(one, folder) == f"{told}; {resume}"
    written(one)
    assert way_on(one, folder) == f"the end of epoch 6 is on disk; {resume}"


@dataclass
class Course:
    """Boundary after boundary at a steady pace, beside an observation whose windows last one epoch."""

    one: Keeper
    now_s: list[float]
    pace_s: float
    observation: Observation = field(default_factory=lambda: Observation("run", "v1", 1))
    epoch: int = 0
    hasty: int = 0
    """Boundaries at which reports were due before their time."""

    def go_on(self, boundaries: int, outcome: Saved | None = SAVED) -> None:
        """`outcome` is what comes of a checkpoint, one boundary later; None for a disk that takes none."""
        for _ in range(boundaries):
            self.epoch += 1
            self.now_s[0] += self.pace_s
            if self.one.writing:
                self.one.wrote(Wrote(self.epoch - 1, outcome))
            self.one.keep(moment(self.epoch))
            wait = command_for(Wait(), f"c{self.epoch}", "test", 0)
            self.observation.watch(Decided(wait, STATE, view(self.epoch), True), 0)
            self.hasty += self.observation.hasty(self.one.settled)
            due = self.observation.due(self.one.settled)
            self.observation.kept({report.report_id for report in due})
            self.one.write_due()
            self.one.trim()


STATE = state(1)


def course(pace_s: float, **settings: float) -> tuple[Course, Writer]:
    writer, config, at = Writer(), convert(settings, CheckpointConfig), [0.0]
    desk = Desk(cast(Any, None), writer, cast(Any, None), cast(Any, None))
    return Course(Keeper(config, desk, lambda: at[0]), at, pace_s), writer


@pytest.mark.parametrize(
    "settings",
    [{"every_epochs": 10**6}, {"every_s": 1e9}, {"boundaries": 10**6, "every_s": 0.0}, {"every_epochs": 0}],
)
def test_whatever_is_configured_no_more_reports_wait_than_memory_has_room_for_and_none_is_hasty(
    settings: dict[str, float],
) -> None:
    going, writer = course(0.01, **settings)
    going.go_on(2 * UNSETTLED_MAX)
    assert going.hasty == 0
    assert len(going.observation.remember().closed) <= SPAN_MAX + 100
    assert len(going.one.moments) <= SPAN_MAX
    assert (writer.jobs > 0) == (settings.get("every_epochs") != 0)
    assert writer.jobs <= 5 or "boundaries" in settings, "no more is written than has to be"


def test_a_disk_that_takes_no_checkpoint_is_asked_once_a_second_and_haste_is_noticed() -> None:
    going, writer = course(0.01, every_s=1e9)
    going.go_on(UNSETTLED_MAX, None)
    assert going.hasty == 0
    assert writer.jobs == pytest.approx((UNSETTLED_MAX - SPAN_MAX) * 0.01 / LATE_S, abs=1)
    going.go_on(10, None)
    assert going.hasty > 0
    assert len(going.observation.remember().closed) <= UNSETTLED_MAX
    hasty = going.hasty
    going.go_on(200)
    assert going.one.on_disk > 0
    going.hasty = 0
    going.go_on(10)
    assert (going.hasty, hasty > 0) == (0, True), "a checkpoint has come, and all is settled"
