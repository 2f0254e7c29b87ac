"""Claims about an actor's ear on a bus over Redis."""

import asyncio
import signal
import subprocess
import sys
from itertools import count

from actors.hearing import Ear, Heard
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.frames import LeylineFrames
from actors.oona.topics import run_topics
from actors.runtime import LoopClock
from contracts import topics
from contracts.messages import EmergencyLevel, EmergencySignal
from contracts.signing.keyring import Keyring
from tests.actors.oona.patience import PATIENCE_S, PATIENT
from tests.actors.oona.redis_server import RedisServer

_runs = count()
LISTENING = """
import asyncio, sys
from tests.actors.test_hearing import listening
asyncio.run(listening(sys.argv[1], sys.argv[2]))
"""


async def opened(address: str, run_id: str, clock: LoopClock) -> RedisBus:
    frames = LeylineFrames(Keyring.from_environment({}), "esper-run", clock)
    return await RedisBus.open(address, run_id, run_topics(), clock, frames, options=PATIENT)


def ear_on(bus: RedisBus, heard: asyncio.Queue[str], clock: LoopClock) -> Ear:
    async def tell(one: Heard) -> None:
        with one.delivery:
            heard.put_nowait(one.delivery.event_id)

    return Ear(bus, (topics.EMERGENCY,), "warden", tell, clock)


async def said(bus: RedisBus, event_id: str, clock: LoopClock) -> None:
    message = EmergencySignal(EmergencyLevel.NOTICE, "now", "anna", clock.wall_ns())
    await bus.publish(topics.EMERGENCY, message, event_id=event_id)
    await bus.flush()


async def listening(address: str, run_id: str) -> None:
    """Hear one signal, say so, and listen on for ever."""
    clock, heard = LoopClock(asyncio.get_running_loop()), asyncio.Queue[str]()
    bus = await opened(address, run_id, clock)
    ear_on(bus, heard, clock).open()
    await bus.refresh()
    await said(bus, "first", clock)
    print(await heard.get(), flush=True)
    await asyncio.Event().wait()


def test_a_run_that_was_killed_is_heard_again_as_soon_as_it_goes_on(redis_server: RedisServer) -> None:
    run_id = f"killed {next(_runs)}"
    with subprocess.Popen(
        [sys.executable, "-c", LISTENING, redis_server.address, run_id], stdout=subprocess.PIPE, text=True
    ) as before:
        assert before.stdout is not None
        assert before.stdout.readline() == "first\n"
        before.send_signal(signal.SIGKILL)

    async def scenario() -> str:
        clock, heard = LoopClock(asyncio.get_running_loop()), asyncio.Queue[str]()
        bus = await opened(redis_server.address, run_id, clock)
        ear = ear_on(bus, heard, clock)
        ear.open()
        await said(bus, "second", clock)
        async with asyncio.timeout(PATIENCE_S):  # less than it takes to see that a consumer is dead
            event_id = await heard.get()
        await ear.close()
        await bus.close()
        return event_id

    assert asyncio.run(scenario()) == "second"
