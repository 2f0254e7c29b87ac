"""Over Redis an operator's signed signal sets the level; one that is not signed does nothing."""

import asyncio
import random
from itertools import count

from actors.alarm import Alarm
from actors.oona.priority import Priority
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.frames import LeylineFrames
from actors.oona.topics import run_topics
from actors.runtime import ActorSystem, LoopClock
from actors.warden import Warden
from contracts import topics
from contracts.config import EmergencyConfig
from contracts.emergency import NONE, Level, Ordered, Trouble
from contracts.messages import EmergencySignal
from contracts.signing.keyring import Keyring
from esper.tolaria.emergency import Emergencies
from tests.actors.oona.patience import PATIENCE_S, PATIENT
from tests.actors.oona.redis_server import RedisServer

SECRET = {"ESPER_LEYLINE_SECRET": "a secret of more than thirty-two letters"}
_runs = count()


async def opened(server: RedisServer, run_id: str, sender: str, clock: LoopClock, *, signs: bool) -> RedisBus:
    keyring = Keyring.from_environment(SECRET if signs else {})
    frames = LeylineFrames(keyring, sender, clock)
    return await RedisBus.open(server.address, run_id, run_topics(), clock, frames, options=PATIENT)


def test_signed_signals_steer_and_unsigned_ones_do_not(redis_server: RedisServer) -> None:
    async def scenario() -> None:
        run_id = f"steered {next(_runs)}"
        clock = LoopClock(asyncio.get_running_loop())
        run = await opened(redis_server, run_id, "esper-run", clock, signs=True)
        anna = await opened(redis_server, run_id, "anna", clock, signs=True)
        stranger = await opened(redis_server, run_id, "stranger", clock, signs=False)
        did: list[str] = []
        news = asyncio.Queue[Level]()

        def told(ordered: Ordered, trouble: Trouble | None) -> None:
            news.put_nowait(ordered.level)

        alarm = Alarm(Emergencies(EmergencyConfig()), run_id, run, clock, lambda: 1, did.append, told)

        async def say(bus: RedisBus, level: Level, order: str) -> None:
            attributes = {"order": order} if order else {}
            signal = EmergencySignal(level, "now", "anna", clock.wall_ns(), attributes=attributes)
            await bus.publish(topics.EMERGENCY, signal, priority=Priority.EMERGENCY)
            await bus.flush()

        system = ActorSystem(clock, random.Random(0), drain_s=0.5)
        system.spawn("warden", lambda: Warden(alarm, run))
        async with system, asyncio.timeout(PATIENCE_S):
            await run.flush()  # the warden has joined: its group sees what is published from now on
            await say(stranger, Level.HALT, "force")
            for level, order, comes_to in (
                (Level.CONSERVATIVE, "force", Level.CONSERVATIVE),
                (NONE, "release", NONE),
                (Level.ELEVATED, "", Level.ELEVATED),
                (NONE, "hold", Level.ELEVATED),
                (Level.HALT, "", Level.HALT),
            ):
                await say(anna, level, order)
                assert await news.get() is comes_to
        link = run.metrics().link
        assert link is not None
        assert sum(link.refused.values()) >= 1, "the stranger's was refused"
        assert did[0] == "anna: now"
        await run.flush()  # what it said last is there too
        said = [one.message for one in await anna.history(topics.EMERGENCY)]
        own = [one.level for one in said if isinstance(one, EmergencySignal) and one.origin == "tolaria"]
        assert own == [Level.CONSERVATIVE, NONE, Level.ELEVATED, Level.HALT], "and others hear of it"
        for bus in (stranger, anna, run):
            await bus.close()

    asyncio.run(scenario())
