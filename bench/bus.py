"""What a message costs on the memory bus: publish, deliver and acknowledge, against `asyncio.Queue`.

Both sides move the same messages from one publisher to one consumer through a bounded buffer, and fold them
into a digest; the sides of a round run one after the other, and the ratio is taken within rounds. Latencies
are measured apart, in bursts: with a backlog the time to delivery would only show how long the backlog is.

All of it is one thread's work, which never waits: a second of its processor's time is a second on a quiet
machine. So the budget is on messages for each second of processor time (`throughput_per_cpu_s`), which others
on the machine hardly change; `throughput_per_s` is by the clock on the wall, for whatever was going on.
"""

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable

import msgspec

from actors.oona.memory import MemoryBus
from actors.oona.policy import Overflow, TopicPolicy
from actors.runtime.clock import LoopClock
from bench.measure import Budget, Size, percentiles, ratio_of

BUDGETS = (
    Budget("publish.p99_us", 1_000.0, "at_most"),
    Budget("delivery.p99_us", 5_000.0, "at_most"),
    Budget("throughput_per_cpu_s", 150_000.0, "at_least"),
)

CAPACITY = 1_000
"""Messages the bus's queue and the contender's hold."""
BATCH = 64
"""Messages the consumer takes at a time."""
BURST = 10
"""Messages published in a row where latency is measured."""
MESSAGES = {Size.SMALL: 1_000, Size.FULL: 50_000}
ROUNDS = {Size.SMALL: 2, Size.FULL: 11}


class Sample(msgspec.Struct, frozen=True):
    """The message."""

    n: int


def run(size: Size) -> dict[str, object]:
    """Throughput, latencies, and the ratio of the bus's time to the queue's."""
    count, rounds = MESSAGES[size], ROUNDS[size]
    bus = Side(through_bus, count)
    queue = Side(through_queue, count)
    for number in range(rounds):
        for side in (bus, queue) if number % 2 else (queue, bus):
            side.play()
    assert bus.digests == queue.digests, "both sides deliver every message once, in order"
    publish_s, delivery_s = asyncio.run(latencies(count))
    ratio = ratio_of(bus.took_s, queue.took_s)
    return {
        "throughput_per_s": count / percentiles(bus.took_s).p50,
        "throughput_per_cpu_s": count / percentiles(bus.cpu_s).p50,
        "publish": percentiles(publish_s).figures("us"),
        "delivery": percentiles(delivery_s).figures("us"),
        "ratio_to_asyncio_queue": ratio.median,
        "ratio_to_asyncio_queue_spread": ratio.spread,
        "cpu_at_10000_per_s_ratio": 10_000 * percentiles(bus.cpu_s).p50 / count,
        "rounds": ratio.n,
        "messages": count,
        "digest": f"{bus.digests.pop():08x}",
    }


class Side:
    """One contender and what its rounds took; the first is played once more before, to warm up."""

    def __init__(self, contender: Callable[[int], Awaitable[int]], count: int) -> None:
        self.took_s: list[float] = []
        self.cpu_s: list[float] = []
        self._contender = contender
        self._count = count
        self.digests = {asyncio.run(self._digest())}

    def play(self) -> None:
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        self.digests.add(asyncio.run(self._digest()))
        self.took_s.append(time.perf_counter() - start_s)
        self.cpu_s.append(time.process_time() - start_cpu_s)

    async def _digest(self) -> int:
        return await self._contender(self._count)


async def through_bus(count: int) -> int:
    """Publish `count` messages, each awaited, and take and acknowledge them in batches; the digest."""
    clock = LoopClock(asyncio.get_running_loop())
    bus = MemoryBus({"samples": TopicPolicy(capacity=CAPACITY, overflow=Overflow.WAIT)}, clock)
    consumer = bus.subscribe("samples", "bench", "consumer")

    async def consume() -> int:
        digest = taken = 0
        while taken < count:
            for delivery in await consumer.receive(BATCH):
                digest = fold(digest, delivery.message)
                delivery.ack()
                taken += 1
        return digest

    consuming = asyncio.create_task(consume())
    for n in range(count):
        await bus.publish("samples", Sample(n))
    digest = await consuming
    figures = bus.metrics()
    assert figures.closes()
    assert figures.depth == 0, "all of them were acknowledged"
    return digest


async def through_queue(count: int) -> int:
    """The same through `asyncio.Queue`, one by one; the digest."""
    queue: asyncio.Queue[Sample] = asyncio.Queue(CAPACITY)

    async def consume() -> int:
        digest = 0
        for _ in range(count):
            digest = fold(digest, await queue.get())
            queue.task_done()
        return digest

    consuming = asyncio.create_task(consume())
    for n in range(count):
        await queue.put(Sample(n))
    return await consuming


async def latencies(count: int) -> tuple[list[float], list[float]]:
    """Seconds each publish took, and seconds from its start until the consumer had the message."""
    bus = MemoryBus({"samples": TopicPolicy(capacity=CAPACITY)}, LoopClock(asyncio.get_running_loop()))
    consumer = bus.subscribe("samples", "bench", "consumer")
    started_s: list[float] = []
    publish_s: list[float] = []
    delivery_s: list[float] = []

    async def consume() -> None:
        while len(delivery_s) < count:
            for delivery in await consumer.receive(BATCH):
                delivery_s.append(time.perf_counter() - started_s[len(delivery_s)])
                delivery.ack()

    consuming = asyncio.create_task(consume())
    for n in range(count):
        started_s.append(time.perf_counter())
        await bus.publish("samples", Sample(n))
        publish_s.append(time.perf_counter() - started_s[n])
        if n % BURST == BURST - 1:
            await asyncio.sleep(0)
    await consuming
    return publish_s, delivery_s


def fold(digest: int, message: msgspec.Struct) -> int:
    """The digest after one more message."""
    assert isinstance(message, Sample)
    return zlib.crc32(message.n.to_bytes(4, "little"), digest)
