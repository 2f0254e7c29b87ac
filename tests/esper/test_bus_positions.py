"""A reader with a group of its own hears the history of a run that was killed and resumed, once."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from actors.oona.bus import Bus
from actors.oona.open import door, keeping_house, open_bus
from actors.presence import BUS_CONSERVATIVE
from actors.runtime import LoopClock
from contracts import topics
from contracts.messages import AdaptationCommand, FieldReport, SystemState, TelemetryPacket
from esper.report.build import read
from esper.run import DONE
from tests.actors.oona.redis_server import RedisServer
from tests.esper.observing import EPOCHS, UNHURRIED, Child, Stage, stage, until

pytestmark = pytest.mark.timeout(900)
HEARD = (topics.SYSTEM_STATE, topics.ADAPTATION_COMMAND, topics.FIELD_REPORT, topics.TELEMETRY)
BEHIND = ("--set", "checkpoint.every_epochs=10", "--set", "checkpoint.every_s=0")
"""Checkpoints so far apart that a killed run had told more than the newest of them knows."""
KILLED_AT = 12
GROUP = "archive"
Said = tuple[str, str, msgspec.Struct]


async def listen(
    address: str,
    run_id: str,
    consumer: str,
    said: list[Said],
    begin: Callable[[], object],
    enough: Callable[[], bool],
) -> None:
    """Be one consumer of the group, acknowledging what comes, until it is `enough` and nothing is left.

    A group hears what is published once it is there: then it is time to `begin`."""
    clock = LoopClock(asyncio.get_running_loop())
    async with (
        open_bus(door(address, {}, GROUP), run_id, clock) as opened,
        keeping_house(opened.bus),
        opened.bus.subscribe(HEARD, GROUP, consumer) as subscription,
    ):
        while await pending(opened.bus) is None:
            await opened.bus.flush()
        begin()
        over = False
        while not over or await pending(opened.bus) != 0:
            over = enough()
            for delivery in await subscription.receive(16, 0.1):
                said.append((delivery.topic, delivery.event_id, delivery.message))
                delivery.ack()
            await opened.bus.flush()


async def pending(bus: Bus) -> int | None:
    """What the group has not acknowledged yet; None if it is not there, or nobody can say."""
    figures = await bus.refresh()
    rows = [row.ledger.pending for row in figures.groups if row.group == GROUP]
    return sum(rows) if rows and figures.link is not None and figures.link.connected else None


def killed_and_resumed(scene: Stage, address: str) -> list[Said]:
    """All that a reader of its own group heard of both lives; it is another process in each."""
    said: list[Said] = []
    first = scene.run_that_waits(address, KILLED_AT, *BEHIND)
    until(lambda: any(scene.runs.glob("*/run.lock")), "the run begins")
    run_id = scene.run_folder.name
    second: list[Child] = []

    def far() -> bool:
        if any(isinstance(one, SystemState) and one.current_epoch >= KILLED_AT for _, _, one in said):
            first.process.kill()
        return first.process.poll() is not None

    def resume() -> None:
        second.append(scene.resume(address))

    asyncio.run(listen(address, run_id, "one", said, scene.begin.touch, far))
    asyncio.run(listen(address, run_id, "two", said, resume, lambda: second[0].process.poll() is not None))
    assert second[0].code() == DONE, second[0].err
    return said


@pytest.mark.real
def test_a_reader_of_its_own_hears_a_killed_and_resumed_run_as_one_that_nothing_befell(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    with stage(tmp_path, UNHURRIED) as scene:
        said = killed_and_resumed(scene, own_redis.address)
        report = read(scene.run_folder / "report.json")
        written = scene.run_folder.joinpath("events.jsonl").read_bytes().splitlines()
    once = {(topic, event_id): message for topic, event_id, message in said}
    (resumed,) = report.resumes
    assert resumed.epoch < KILLED_AT, "what was told behind the checkpoint was told again"

    states = [one for one in once.values() if isinstance(one, SystemState)]
    told = {one.current_epoch: (one.training_loss, one.validation_loss) for one in states}
    expected = {
        one.epoch: pytest.approx((one.train_loss, one.val_loss), rel=1e-6)  # single precision on the wire
        for one in report.epochs
        if one.epoch < EPOCHS
    }
    assert told == expected, "the last epoch has no boundary"
    assert len(states) == len(told), "none of them twice"
    assert sum(isinstance(one, AdaptationCommand) for one in once.values()) == EPOCHS - 1

    events = [event for one in once.values() if isinstance(one, TelemetryPacket) for event in one.events]
    assert len({event.event_id for event in events}) == len(events)
    changes = Counter(
        (event.attributes["seed_id"], event.attributes["stage"], int(event.attributes["epoch"]))
        for event in events
        if "stage" in event.attributes
    )
    entered = [(graft.seed_id, one.stage, one.epoch) for graft in report.grafts for one in graft.stages]
    assert set(changes) >= {one for one in entered if one[2] < EPOCHS}
    assert set(changes.values()) == {1}
    assert sum("taken up again" in event.description for event in events) == 1
    lines = [msgspec.json.decode(line) for line in written]
    assert {(line["topic"], line["event_id"]) for line in lines if "event_id" in line} >= set(once)
    assert BUS_CONSERVATIVE not in {one.name for one in report.alerts}, "who is dead is not slow"
    reports = [one.report_id for one in once.values() if isinstance(one, FieldReport)]
    assert reports
