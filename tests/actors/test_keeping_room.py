"""The keeper's ring and its writer hold what a trainer copied: room that they let go takes up the next."""

from dataclasses import replace
from typing import Any, cast

import pytest

from actors.keeping import Desk, Keeper, Wrote
from actors.lane import Deliver, Job
from contracts.config import CheckpointConfig
from esper.moment import Moment
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.spare import Spare
from tests.esper.tolaria.test_spare import nothing_is_small as nothing_is_small
from tests.esper.tolaria.test_spare import places, words
from tests.esper.tolaria.world import config, trainer

BOUNDARIES = 5
MEMORIES = cast(Any, None)


class SlowWriter:
    """A lane whose one job is under way until the test says that it is done."""

    def __init__(self) -> None:
        self.under_way: list[Job] = []

    def submit(self, job: Job, deliver: Deliver) -> None:
        self.under_way.append(job)

    def close(self, timeout_s: float) -> bool:
        return True


def moment(epoch: int, snapshot: Snapshot) -> Moment:
    return Moment(epoch, snapshot, MEMORIES)


@pytest.mark.usefixtures("nothing_is_small")
def test_a_ring_of_five_and_a_slow_writer_take_room_for_seven_and_nothing_in_it_changes() -> None:
    """What a write that outlasts the ring leaves behind is one room too many: the next needs a new one."""
    one, spare, writer = trainer(config(epochs=100, epoch_steps=1)), Spare(1), SlowWriter()
    one._machine = replace(one._machine, spare=spare)
    now_s = [0.0]
    desk = Desk(cast(Any, None), writer, cast(Any, None), cast(Any, None))
    keeper = Keeper(CheckpointConfig(boundaries=BOUNDARIES, every_s=0.0), desk, lambda: now_s[0])
    seen: set[int] = set()
    said: dict[int, list[bytes]] = {}
    each = written = 0
    for epoch in range(1, 31):
        now_s[0] += 1.0
        one.run_epoch()
        keeper.keep(moment(epoch, one.keep()))
        keeper.trim()
        keeper.write_due()
        newest = keeper.moments[-1].snapshot
        seen, each = seen | places(newest), len(places(newest))
        if epoch % 8 == 0:
            writer.under_way.clear()  # the lane lets go of a job that is done
            written += 1
            keeper.wrote(Wrote(epoch, None, OSError("the disk is slow")))
        said[epoch] = words(newest)
        assert all(words(kept.snapshot) == said[kept.epoch] for kept in keeper.moments)
    assert written == 3
    assert len(seen) <= (BOUNDARIES + 2 + written) * each
    assert spare.nbytes <= newest.nbytes
