"""What a message costs on the Redis bus: published, delivered and acknowledged, against the bare server.

Starts a server of its own. The bus moves field reports from many awaiting publishers to one consumer, each
acknowledged to its publisher: once with both ends in this process, over its one connection, and once with the
consumer in a process of its own (`apart`), over a connection each. The native side moves entries of the same
size through the same server: XADD, XREADGROUP, XACK and XDEL in pipelines of 100, and nothing else;
`redis-benchmark`, where there is one, says what XADD alone can do. The sides of a round run one after the
other, and ratios are taken within rounds.

What bounds the bus is a processor: in one process that of its one thread, apart the machine's two, which
three processes share. What a message takes of each (`client_cpu_us`, `server_cpu_us`, and apart those of
publisher and consumer) says more on a shared machine than the rate does.
"""

import asyncio
import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from statistics import median
from typing import Final

import msgspec

from actors.runtime.interpreter import shared_interpreter
from bench.measure import Budget, Size, percentiles, ratio_of
from bench.redis_apart import through_two
from bench.redis_rig import (
    BATCH,
    Pipeline,
    consumed,
    ended,
    envelope,
    opened,
    report,
    sent,
    server,
    server_cpu_s,
)
from contracts import topics
from contracts.messages import FieldReport

BUDGETS = (
    Budget("publish.p95_ms", 1.0, "at_most"),
    Budget("throughput_per_s", 20_000.0, "at_least"),
)

PIPELINE: Final = 100
"""Commands that the native side has on their way at a time."""
RATE_PER_S: Final = 1_000.0
"""Where latencies are measured."""
MESSAGES = {Size.SMALL: 500, Size.FULL: 30_000}
PACED = {Size.SMALL: 100, Size.FULL: 10_000}
ROUNDS = {Size.SMALL: 1, Size.FULL: 7}

_names = count(1)


class Round(msgspec.Struct, frozen=True):
    """Seconds of one side after the other for the same number of messages; `cpu` is of processors."""

    bus_s: float
    client_cpu_s: float
    server_cpu_s: float
    apart_s: float
    publisher_cpu_s: float
    consumer_cpu_s: float
    native_s: float


def run(size: Size) -> dict[str, object]:
    """Throughput, latencies, and how many times more the bare server moves."""
    messages = MESSAGES[size]
    with server() as port, shared_interpreter():
        _round(port, messages)  # warms up
        rounds = [_round(port, messages) for _ in range(ROUNDS[size])]
        publish_s, delivery_s = asyncio.run(latencies(port, PACED[size]))
        native_s = [one.native_s for one in rounds]
        ratio = ratio_of([one.bus_s for one in rounds], native_s)
        ratio_apart = ratio_of([one.apart_s for one in rounds], native_s)

        def us(seconds: Iterator[float]) -> float:
            return median(seconds) / messages * 1e6

        return {
            "throughput_per_s": messages / median(one.bus_s for one in rounds),
            "client_cpu_us": us(one.client_cpu_s for one in rounds),
            "server_cpu_us": us(one.server_cpu_s for one in rounds),
            "apart": {
                "throughput_per_s": messages / median(one.apart_s for one in rounds),
                "publisher_cpu_us": us(one.publisher_cpu_s for one in rounds),
                "consumer_cpu_us": us(one.consumer_cpu_s for one in rounds),
                "ratio_to_native": ratio_apart.median,
                "ratio_to_native_spread": ratio_apart.spread,
            },
            "publish": _milliseconds(publish_s),
            "delivery": _milliseconds(delivery_s),
            "native_per_s": messages / median(native_s),
            "native_xadd_per_s": redis_benchmark(port, messages),
            "ratio_to_native": ratio.median,
            "ratio_to_native_spread": ratio.spread,
            "rounds": ratio.n,
            "messages": messages,
            "envelope_bytes": len(envelope()),
        }


def _round(port: int, messages: int) -> Round:
    client_began_s, server_began_s = time.thread_time(), server_cpu_s(port)
    bus_s = asyncio.run(through_bus(port, messages))
    client_s, server_s = time.thread_time() - client_began_s, server_cpu_s(port) - server_began_s
    apart = asyncio.run(through_two(port, f"bench {next(_names)}", messages))
    return Round(
        bus_s,
        client_s,
        server_s,
        apart.took_s,
        apart.publisher_cpu_s,
        apart.consumer_cpu_s,
        native(port, messages),
    )


async def through_bus(port: int, messages: int) -> float:
    """Seconds until all messages were published, delivered and acknowledged."""
    bus = await opened(port, f"bench {next(_names)}")
    consumer = bus.subscribe(topics.FIELD_REPORT, "bench", "consumer")
    house = asyncio.create_task(bus.run_housekeeping())
    start_s = time.perf_counter()
    consuming = asyncio.create_task(consumed(bus, consumer, messages))
    await sent(bus, messages)
    await consuming
    took_s = time.perf_counter() - start_s
    await ended(bus, house)
    return took_s


async def latencies(port: int, messages: int) -> tuple[list[float], list[float]]:
    """Seconds each publish took at 1,000 a second, and until the consumer had the message."""
    bus = await opened(port, f"bench {next(_names)}")
    house = asyncio.create_task(bus.run_housekeeping())
    consumer = bus.subscribe(topics.FIELD_REPORT, "bench", "consumer")
    started_s = [0.0] * messages
    publish_s: list[float] = []
    delivery_s: list[float] = []

    async def consume() -> None:
        while len(delivery_s) < messages:
            for delivery in await consumer.receive(BATCH):
                assert isinstance(delivery.message, FieldReport)
                delivery_s.append(time.perf_counter() - started_s[int(delivery.message.report_id)])
                delivery.ack()

    consuming = asyncio.create_task(consume())
    begin_s = time.perf_counter()
    for n in range(messages):
        await asyncio.sleep(max(0.0, begin_s + n / RATE_PER_S - time.perf_counter()))
        started_s[n] = time.perf_counter()
        await bus.publish(topics.FIELD_REPORT, report(n))
        publish_s.append(time.perf_counter() - started_s[n])
    await consuming
    await ended(bus, house)
    return publish_s, delivery_s


def native(port: int, messages: int) -> float:
    """Seconds to add entries of the same size, read them in a group and acknowledge them, in pipelines."""
    name = f"native {next(_names)}"
    body = envelope()
    with Pipeline(port) as server:
        server.ask([("XGROUP", "CREATE", name, "g", "$", "MKSTREAM")])
        start_s = time.perf_counter()
        for first in range(0, messages, PIPELINE):
            some = min(PIPELINE, messages - first)
            server.ask([("XADD", name, "*", "envelope", body)] * some)
            (read,) = server.ask([("XREADGROUP", "GROUP", "g", "c", "COUNT", some, "STREAMS", name, ">")])
            ids = [entry[0] for entry in read[0][1]]
            assert len(ids) == some
            server.ask([("XACK", name, "g", *ids), ("XDEL", name, *ids)])
        took_s = time.perf_counter() - start_s
        server.ask([("DEL", name)])
    return took_s


def redis_benchmark(port: int, messages: int) -> float:
    """Entries a second that `redis-benchmark` adds in pipelines; 0 where there is none."""
    program = shutil.which("redis-benchmark")
    if program is None:
        return 0.0
    command = ["XADD", "native", "*", "envelope", "x" * len(envelope())]
    shape = ["-p", str(port), "-P", str(PIPELINE), "-c", "1", "-n", str(messages), "--csv"]
    told = subprocess.run([program, *shape, *command], capture_output=True, text=True, check=True)
    return float(told.stdout.splitlines()[-1].split(",")[1].strip('"'))


def _milliseconds(samples_s: list[float]) -> dict[str, object]:
    """With the 95th percentile, which is what is promised."""
    figures = percentiles(samples_s).figures("ms")
    figures["p95_ms"] = sorted(samples_s)[math.ceil(0.95 * len(samples_s)) - 1] * 1e3
    return figures
