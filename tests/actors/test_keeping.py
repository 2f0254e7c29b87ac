"""Claims about what of a run can't be undone any more, by its moments in memory and on disk."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors.keeping import Desk, Keeper, Wrote
from actors.lane import Deliver, Job
from contracts.config import CheckpointConfig
from esper.checkpoint.store import Saved
from esper.moment import Moment

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
