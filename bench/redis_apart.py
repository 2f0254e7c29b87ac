"""Publishers in this process and the consumer in another, each with a bus and a connection of its own."""

import asyncio
import sys
import time

import msgspec

from actors.runtime.interpreter import shared_interpreter
from bench.redis_rig import consumed, ended, opened, sent
from contracts import topics

READY = b"ready\n"
WAIT_S = 300.0
"""Seconds that the other process may take."""


class Apart(msgspec.Struct, frozen=True):
    """Seconds until every message was acknowledged by who consumed it, and of the two processors."""

    took_s: float
    publisher_cpu_s: float
    consumer_cpu_s: float


async def through_two(port: int, namespace: str, messages: int) -> Apart:
    """Move the messages from here to another process."""
    command = ("-m", "bench.redis_apart", str(port), namespace, str(messages))
    other = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert other.stdout is not None
    try:
        async with asyncio.timeout(WAIT_S):
            assert await other.stdout.readline() == READY, "the consumer did not come up"
            bus = await opened(port, namespace)
            house = asyncio.create_task(bus.run_housekeeping())
            cpu_s, start_s = time.thread_time(), time.perf_counter()
            await sent(bus, messages)
            publisher_cpu_s = time.thread_time() - cpu_s
            consumer_cpu_s = float(await other.stdout.readline())
            took_s = time.perf_counter() - start_s
            await ended(bus, house)
            await other.wait()
    finally:
        if other.returncode is None:
            other.kill()
            await other.wait()
    return Apart(took_s, publisher_cpu_s, consumer_cpu_s)


async def consume(port: int, namespace: str, messages: int) -> None:
    """Say when it can begin, and in the end how many seconds of a processor it took."""
    bus = await opened(port, namespace)
    consumer = bus.subscribe(topics.FIELD_REPORT, "bench", "consumer")
    house = asyncio.create_task(bus.run_housekeeping())
    await bus.flush()
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    cpu_s = time.thread_time()
    await consumed(bus, consumer, messages)
    print(time.thread_time() - cpu_s, flush=True)
    await ended(bus, house)


if __name__ == "__main__":
    with shared_interpreter():
        asyncio.run(consume(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
