"""Over Redis a message may be given twice, and what Esper makes of it happens once.

The bus itself sees to that within a process. Another process, after a loss of the server's data, is given
everything again that the publisher has not heard to be settled: here nothing, so each is given all of it.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import msgspec
import pytest

from actors.alarm import Alarm
from actors.nissa.counters import RunCounters
from actors.nissa.journal import Journal
from actors.nissa.nissa import Lookout, Nissa
from actors.oona.bus import Bus
from actors.oona.ledger import GroupLedger
from actors.oona.priority import Priority
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.frames import LeylineFrames
from actors.oona.topics import run_topics
from actors.runtime import Actor, ActorSystem, LoopClock, handles
from actors.warden import Warden
from contracts import topics
from contracts.config import EmergencyConfig
from contracts.control import ReportsRead
from contracts.emergency import Level, Ordered, Trouble
from contracts.messages import AdaptationCommand, CommandType, EmergencySignal, FieldReportOutcome
from esper.journal.schema import EVENTS
from esper.tolaria.emergency import Emergencies
from tests.actors.fakes import Spectator
from tests.actors.oona.patience import PATIENCE_S, PATIENT
from tests.actors.oona.redis_server import RedisServer
from tests.esper.journal.samples import report
from tests.esper.kasmina.engine_world import Rig

_runs = count(1)


@asynccontextmanager
async def client(
    server: RedisServer, namespace: str, name: str, *, house: bool = True
) -> AsyncIterator[RedisBus]:
    """As a process has it. Without housekeeping it never hears that what it published is settled."""
    clock = LoopClock(asyncio.get_running_loop())
    frames = LeylineFrames(None, name, clock)
    bus = await RedisBus.open(server.address, namespace, run_topics(), clock, frames, options=PATIENT)
    keeping = asyncio.create_task(bus.run_housekeeping()) if house else None
    try:
        yield bus
    finally:
        await bus.close()
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait({keeping})


def command(number: int) -> AdaptationCommand:
    return AdaptationCommand(f"command-{number}", CommandType.PAUSE, 0, "operator")


def alarming(level: Level) -> EmergencySignal:
    now_ns = LoopClock(asyncio.get_running_loop()).wall_ns()
    return EmergencySignal(level, "now", "anna", now_ns)


class Reader(Actor[ReportsRead]):
    """Is told which reports were taken, and does nothing about it."""

    @handles
    async def on_read(self, message: ReportsRead) -> None:
        pass


@asynccontextmanager
async def nissa(bus: Bus, journal: Journal) -> AsyncIterator[RunCounters]:
    """At work in a process of its own."""
    clock, counters = LoopClock(asyncio.get_running_loop()), RunCounters()
    system = ActorSystem(clock, random.Random(0), drain_s=PATIENCE_S)
    reports = system.spawn("reports", Reader)

    def view() -> None:
        raise AssertionError("it is never quiet enough to look")

    lookout = Lookout(bus, clock, counters, deque(), Spectator(), view, lambda: True, journal, reports)  # type: ignore[arg-type]
    system.spawn("nissa", lambda: Nissa(lookout))
    async with system:
        await bus.flush()
        yield counters


async def given(bus: RedisBus) -> int:
    """Deliveries to Nissa since the server has its data, once all are acknowledged."""
    while any(ledger.pending for ledger in await nissas(bus)):
        continue
    return sum(ledger.delivered for ledger in await nissas(bus))


async def nissas(bus: RedisBus) -> list[GroupLedger]:
    return [row.ledger for row in (await bus.refresh()).groups if row.group == "nissa"]


@pytest.mark.slow
def test_nissa_takes_everything_down_once(own_redis: RedisServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        namespace, one = f"taken down {next(_runs)}", report(1)
        async with client(own_redis, namespace, "teller", house=False) as teller, asyncio.timeout(PATIENCE_S):
            with Journal(tmp_path) as journal:
                async with client(own_redis, namespace, "run") as bus, nissa(bus, journal) as counters:
                    await teller.publish(topics.ADAPTATION_COMMAND, command(1), event_id="c1")
                    await teller.publish(topics.FIELD_REPORT, one, event_id=one.report_id)
                    await teller.publish(topics.FIELD_REPORT, one, event_id=one.report_id + "~1")
                    await teller.publish(topics.EMERGENCY, alarming(Level.NOTICE), event_id="e1")
                    assert await given(teller) == 4
                    own_redis.execute("FLUSHALL")
                    await teller.publish(topics.ADAPTATION_COMMAND, command(2), event_id="c2")
                    assert await given(teller) >= 5
                assert counters.growth.field_reports[FieldReportOutcome.SUCCESS] == 1
            own_redis.execute("FLUSHALL")
            with Journal(tmp_path) as journal:
                async with client(own_redis, namespace, "resumed") as bus, nissa(bus, journal) as counters:
                    await teller.publish(topics.ADAPTATION_COMMAND, command(3), event_id="c3")
                    assert await given(teller) >= 6, "all of it came again"
                assert journal.lines == 4, (
                    "the report is known to have been taken; the rest is told by the disk"
                )
                assert counters.growth.field_reports[FieldReportOutcome.SUCCESS] == 0
        left = [
            msgspec.json.decode(each)["event_id"] for each in (tmp_path / EVENTS).read_bytes().splitlines()
        ]
        assert sorted(left) == ["c1", "c2", "c3", "e1", one.report_id]

    asyncio.run(scenario())


@asynccontextmanager
async def warden(bus: Bus) -> AsyncIterator[asyncio.Queue[Level]]:
    """At work in a process of its own; every order that comes of what it hears."""
    clock, news = LoopClock(asyncio.get_running_loop()), asyncio.Queue[Level]()

    def told(ordered: Ordered, trouble: Trouble | None) -> None:
        news.put_nowait(ordered.level)

    alarm = Alarm(Emergencies(EmergencyConfig()), "run", bus, clock, lambda: 1, lambda reason: None, told)
    system = ActorSystem(clock, random.Random(0), drain_s=PATIENCE_S)
    system.spawn("warden", lambda: Warden(alarm, bus))
    async with system:
        await bus.flush()
        yield news


def test_the_warden_follows_a_signal_once(own_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        namespace = f"followed {next(_runs)}"
        async with client(own_redis, namespace, "anna", house=False) as anna, asyncio.timeout(PATIENCE_S):

            async def say(level: Level, event_id: str) -> None:
                await anna.publish(
                    topics.EMERGENCY, alarming(level), priority=Priority.EMERGENCY, event_id=event_id
                )

            async with client(own_redis, namespace, "run") as bus, warden(bus) as news:
                await say(Level.ELEVATED, "e1")
                assert await news.get() is Level.ELEVATED
                own_redis.execute("FLUSHALL")
                await bus.flush()  # it has joined again: its group sees what is published from now on
                await say(Level.CONSERVATIVE, "e2")
                assert await news.get() is Level.CONSERVATIVE
                await bus.flush()
                assert news.empty()
            own_redis.execute("FLUSHALL")
            async with client(own_redis, namespace, "resumed") as bus, warden(bus) as news:
                await say(Level.NOTICE, "e3")
                assert await news.get() is Level.NOTICE, "what was followed before its birth is not again"
                await bus.flush()
                assert news.empty()

    asyncio.run(scenario())
    assert sum("is not followed" in each for each in caplog.messages) == 2, "both came again"


@pytest.mark.slow
def test_a_command_is_carried_out_once(own_redis: RedisServer) -> None:
    """The engine knows it by its id, and the resumed run's engine knows what the first one knew."""

    async def carried_out(bus: Bus, rig: Rig, name: str, most: int) -> list[bool]:
        """Whether each command that came was one that had been answered before."""
        repeated: list[bool] = []
        async with bus.subscribe(topics.ADAPTATION_COMMAND, "nissa", name) as subscription:
            while len(repeated) < most:
                for delivery in await subscription.receive(most):
                    with delivery:
                        assert isinstance(delivery.message, AdaptationCommand)
                        verdict = rig.do(delivery.message)
                        assert verdict.applied
                        repeated.append(verdict.repeated)
            await bus.flush()
        return repeated

    async def scenario() -> None:
        namespace, rig = f"carried out {next(_runs)}", Rig()
        async with client(own_redis, namespace, "teller", house=False) as teller, asyncio.timeout(PATIENCE_S):
            await teller.publish(topics.ADAPTATION_COMMAND, rig.germinate(), event_id="c1")
            async with client(own_redis, namespace, "run") as bus:
                assert await carried_out(bus, rig, "a", 1) == [False]
            records = rig.engine.records()
            resumed = Rig(commands=rig.commands)
            resumed.engine.restore(rig.engine.state())
            own_redis.execute("FLUSHALL")
            await teller.publish(topics.ADAPTATION_COMMAND, resumed.pause(), event_id="c2")
            async with client(own_redis, namespace, "resumed") as bus:
                assert await carried_out(bus, resumed, "b", 2) == [True, False]
            assert resumed.engine.records() == records

    asyncio.run(scenario())
