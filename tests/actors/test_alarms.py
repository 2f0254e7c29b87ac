"""What Tolaria tells of troubles comes to the right alarm."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from actors.alarms import RunAlarms, for_want_of_space
from actors.keeping import Wrote
from actors.oona.memory import MemoryBus
from actors.oona.topics import run_topics
from actors.runtime import LoopClock
from actors.runtime.simulation import run_simulated
from contracts.config import Config
from contracts.emergency import NONE, Level, Trigger
from contracts.growth import SeedFigures
from contracts.messages import AdaptationCommand, CommandType
from esper.boundary import Boundary
from esper.checkpoint.errors import CheckpointError
from esper.tolaria.errors import TrainingDiverged
from esper.tolaria.results import Assembled
from tests.actors.test_alarm import BORN_NS, Ring
from tests.esper.tamiyo.views import state, view

CONFIG = Config()
SLOW_S = CONFIG.budgets.epoch_boundary_ms / 1e3 * 1.1


def told(test: Callable[[Ring, RunAlarms], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop(), wall_ns=BORN_NS)
        ring = Ring(MemoryBus(run_topics(), clock), clock)
        await test(ring, RunAlarms(ring.alarm, CONFIG))

    run_simulated(main, seed=0)


def boundary(
    epoch: int,
    took_s: float = 0.001,
    violations: int = 0,
    part: Literal["keep", "assemble", "decide", "apply"] = "assemble",
    **metrics: float,
) -> Boundary:
    facts = state(epoch)
    facts.training_metrics.update(metrics)
    figures = {"a#0": SeedFigures("a#0", isolation_violations=violations)}
    command = AdaptationCommand(f"c{epoch}", CommandType.PAUSE, 0, "test")
    assembled = Assembled(facts, view(epoch), figures)
    assemble_s, decide_s, apply_s, keep_s = (
        took_s if name == part else 0.0 for name in ("assemble", "decide", "apply", "keep")
    )
    return Boundary(assembled, command, None, "", assemble_s, decide_s, apply_s, keep_s=keep_s)


def saved(epoch: int) -> Wrote:
    from esper.checkpoint.store import Saved

    return Wrote(epoch, Saved(1, Path("x"), 1))


def failed(error: BaseException) -> Wrote:
    return Wrote(7, None, error)


def test_a_turn_that_diverged_is_gone_back_from() -> None:
    async def test(ring: Ring, alarms: RunAlarms) -> None:
        ordered = alarms.trouble(TrainingDiverged(70, "gradient"), 7)
        assert ordered is not None
        assert (ordered.rollback, ordered.level) == (True, Level.CONSERVATIVE)
        assert ring.emergencies.open[0].trigger is Trigger.NOT_FINITE
        exploded = alarms.trouble(TrainingDiverged(70, "training loss", 15.0), 7)
        assert exploded is not None
        assert exploded.rollback
        assert ring.emergencies.open[1].trigger is Trigger.LOSS_EXPLODED

    told(test)


def test_any_other_error_is_no_trouble_to_go_back_from() -> None:
    async def test(ring: Ring, alarms: RunAlarms) -> None:
        assert alarms.trouble(RuntimeError("a bug"), 7) is None
        assert ring.alarm.level is NONE

    told(test)


def test_no_way_back_halts() -> None:
    async def test(ring: Ring, alarms: RunAlarms) -> None:
        alarms.no_way_back("nothing was kept", 7)
        assert ring.did == ["freeze: nothing was kept", "told HALT"]

    told(test)


def test_a_journal_that_fails_is_a_trouble_until_it_goes_on_which_is_told_once() -> None:
    async def test(ring: Ring, _: RunAlarms) -> None:
        why, told = ["the disk is full"], list[str]()
        alarms = RunAlarms(ring.alarm, CONFIG, lambda: why[0], lambda: told.append("goes on"))
        alarms.boundary(boundary(1))
        assert [one.trigger for one in ring.emergencies.open] == [Trigger.JOURNAL_FAILED]
        assert (ring.alarm.level, told) == (Level.NOTICE, [])
        why[0] = ""
        for epoch in range(2, 6):
            alarms.boundary(boundary(epoch))
        assert (ring.alarm.level, told) == (NONE, ["goes on"])

    told(test)


def test_a_quiet_boundary_is_calm() -> None:
    async def test(ring: Ring, alarms: RunAlarms) -> None:
        alarms.trouble(TrainingDiverged(70, "gradient"), 7)
        for epoch in range(8, 12):
            alarms.boundary(boundary(epoch))
        assert ring.alarm.level is Level.ELEVATED

    told(test)


@pytest.mark.parametrize(
    ("boundaries", "level"),
    [
        ([boundary(epoch, SLOW_S) for epoch in (1, 2)], NONE),
        ([boundary(epoch, SLOW_S) for epoch in (1, 2, 3)], Level.NOTICE),
        ([boundary(epoch, SLOW_S) for epoch in range(1, 13)], Level.CONSERVATIVE),
        ([boundary(epoch, SLOW_S, part="decide") for epoch in range(1, 13)], Level.CONSERVATIVE),
        ([boundary(epoch, SLOW_S, part="apply") for epoch in range(1, 13)], Level.CONSERVATIVE),
        ([boundary(epoch, 10 * SLOW_S, part="keep") for epoch in range(1, 50)], NONE),
        ([boundary(1, violations=1)], Level.NOTICE),
        ([boundary(1, violations=3)], Level.ELEVATED),
        ([boundary(1, foreign_rate_changes=1.0)], Level.CONSERVATIVE),
    ],
    ids=[
        "two slow",
        "three slow",
        "twelve slow",
        "decided",
        "applied",
        "copied",
        "not isolated",
        "quarantine",
        "a foreign rate",
    ],
)
def test_what_a_boundary_shows(boundaries: list[Boundary], level: Level) -> None:
    async def test(ring: Ring, alarms: RunAlarms) -> None:
        for one in boundaries:
            alarms.boundary(one)
        assert ring.alarm.level is level

    told(test)


def raised(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "trigger"),
    [
        (raised(CheckpointError("no"), OSError(errno.ENOSPC, "full")), Trigger.DISK_FULL),
        (raised(CheckpointError("no"), OSError(errno.EDQUOT, "full")), Trigger.DISK_FULL),
        (OSError(errno.ENOSPC, "full"), Trigger.DISK_FULL),
        (raised(CheckpointError("no"), OSError(errno.EIO, "broken")), Trigger.CHECKPOINT_FAILED),
        (CheckpointError("no"), Trigger.CHECKPOINT_FAILED),
    ],
)
def test_a_checkpoint_that_fails_is_a_trouble_until_one_is_written(
    error: BaseException, trigger: Trigger
) -> None:
    async def test(ring: Ring, alarms: RunAlarms) -> None:
        alarms.wrote(failed(error), 7)
        full = trigger is Trigger.DISK_FULL
        assert ring.alarm.level is (Level.ELEVATED if full else Level.NOTICE), "growth rests on a full disk"
        assert [one.trigger for one in ring.emergencies.open] == [trigger]
        assert not ring.told[0][0].checkpoint, "that would only fail again"
        alarms.wrote(failed(error), 8)
        assert len(ring.told) == 1, "people hear of it once"
        alarms.wrote(saved(9), 9)
        assert not ring.emergencies.open

    told(test)


def test_the_cause_of_a_failed_write_is_looked_for_all_the_way() -> None:
    outer: Any = raised(ValueError("outer"), raised(KeyError("inner"), OSError(errno.ENOSPC, "full")))
    assert for_want_of_space(outer)
    assert not for_want_of_space(ValueError("outer"))


def test_a_touch_that_a_moment_knows_is_not_told_again_by_the_process_that_goes_on() -> None:
    async def before(ring: Ring, alarms: RunAlarms) -> None:
        alarms.boundary(boundary(5, violations=4))
        assert ring.emergencies.level is Level.ELEVATED
        assert alarms.isolations == {"a#0": 4}

    async def after(ring: Ring, alarms: RunAlarms) -> None:
        alarms.go_back({"a#0": 4})
        alarms.boundary(boundary(6, violations=4))
        assert ring.emergencies.level is NONE
        alarms.boundary(boundary(7, violations=5))
        assert ring.emergencies.level is Level.ELEVATED

    told(before)
    told(after)
