"""What a message costs: tell and ask through the actor runtime, against a bare deque and other queues.

The floor is the least that any mailbox must do for a message: one call, one deque append and popleft,
and one awaited handler. Every contender sends the same messages to the same kind of handler, which
folds them into a digest; all contenders of a round run one after the other, and ratios are taken
within rounds.

How a process happens to lie in memory moves a ratio by a few hundredths for as long as the process
lives. So the rounds are made in several fresh processes, and a ratio is the median of the processes'
medians; `ratio_to_floor_max` is that of the worst process.

A round's figures (`round_p50_us` and so on) are its time over its messages, the handlers' included. The
others are of single messages: `tell.p50_us` is what the sender waits for one `tell` in a stream of them,
waits for room and the clock's own cost included.
"""

import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import anyio
import msgspec

from actors.runtime.actor import Actor, handles
from actors.runtime.clock import LoopClock
from actors.runtime.system import ActorSystem
from bench.measure import Budget, Size, percentiles, ratio_of
from contracts.request import Request

BUDGETS = (
    Budget("tell.ratio_to_floor", 1.5, "at_most"),
    Budget("tell.ratio_to_asyncio_queue", 1 / 3, "at_most"),
    Budget("tell.ratio_to_anyio", 1 / 10, "at_most"),
    Budget("urgent_under_flood.p99_ms", 2.0, "at_most"),
    Budget("slice.handler_50_us.p99_ms", 3.0, "at_most"),
    Budget("slice.handler_500_us.p99_ms", 3.0, "at_most"),
    Budget("slice.mixed_500_us.p99_ms", 3.0, "at_most"),
)

QUICK_RUN, SLOW_RUN = 200, 64
"""Messages in a row, in a mixed flood."""
CAPACITY = 1024
"""Messages each contender's queue holds; the floor hands over after as many."""


class Add(msgspec.Struct, frozen=True):
    """The message told."""

    n: int


class Total(msgspec.Struct, Request[int], frozen=True):
    """Asks what the messages handled so far add up to."""


class Adder(Actor[Add | Total]):
    """The actor under test, and the handler of every other contender."""

    mailbox_size = CAPACITY

    def __init__(self) -> None:
        self.total = 0

    @handles
    async def add(self, message: Add) -> None:
        self.total += message.n

    @handles
    async def answer(self, message: Total) -> int:
        return self.total


Contender = Callable[[Sequence[Add]], Awaitable[float]]


class BareDeque:
    """The floor: no bound, no lanes, no dispatch, no supervision."""

    def __init__(self, handler: Callable[[Add], Awaitable[None]]) -> None:
        self.queue: deque[Add] = deque()
        self.handler = handler

    def put(self, message: Add) -> None:
        self.queue.append(message)

    async def drain(self) -> None:
        queue, handler = self.queue, self.handler
        while True:
            while queue:
                await handler(queue.popleft())
            await asyncio.sleep(0)


async def floor(messages: Sequence[Add]) -> float:
    """Seconds for all messages through a bare deque."""
    adder = Adder()
    bare = BareDeque(adder.add)
    draining = asyncio.create_task(bare.drain())
    await asyncio.sleep(0)
    start = time.perf_counter()
    for first in range(0, len(messages), CAPACITY):
        for message in messages[first : first + CAPACITY]:
            bare.put(message)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not bare.queue, "drained as often as filled"
    took_s = time.perf_counter() - start
    draining.cancel()
    _check(adder.total, messages)
    return took_s


async def tell(messages: Sequence[Add]) -> float:
    """Seconds for all messages through an actor's mailbox, each tell awaited."""
    system = ActorSystem(LoopClock(asyncio.get_running_loop()), random.Random(1))
    ref = system.spawn("adder", Adder)
    async with system:
        start = time.perf_counter()
        for message in messages:
            await ref.tell(message)
        total = await ref.ask(Total(), deadline_s=60.0)
        took_s = time.perf_counter() - start
    _check(total, messages)
    return took_s


async def asyncio_queue(messages: Sequence[Add]) -> float:
    """Seconds for all messages through `asyncio.Queue`."""
    adder = Adder()
    queue: asyncio.Queue[Add] = asyncio.Queue(CAPACITY)

    async def drain() -> None:
        for _ in range(len(messages)):
            await adder.add(await queue.get())

    draining = asyncio.create_task(drain())
    start = time.perf_counter()
    for message in messages:
        await queue.put(message)
    await draining
    took_s = time.perf_counter() - start
    _check(adder.total, messages)
    return took_s


async def anyio_stream(messages: Sequence[Add]) -> float:
    """Seconds for all messages through an anyio memory object stream, both ends awaited."""
    adder = Adder()
    sending, receiving = anyio.create_memory_object_stream[Add](CAPACITY)

    async def drain() -> None:
        async with receiving:
            async for message in receiving:
                await adder.add(message)

    draining = asyncio.create_task(drain())
    start = time.perf_counter()
    async with sending:
        for message in messages:
            await sending.send(message)
    await draining
    took_s = time.perf_counter() - start
    _check(adder.total, messages)
    return took_s


def _check(total: int, messages: Sequence[Add]) -> None:
    assert total == sum(message.n for message in messages), "every message is handled once"


# Single tells, asks, urgency and slices ------------------------------------------------------------


async def single_tells(count: int) -> list[float]:
    """Seconds that the sender waits for each of `count` tells in a row."""
    system = ActorSystem(LoopClock(asyncio.get_running_loop()), random.Random(1))
    ref = system.spawn("adder", Adder)
    messages = [Add(n) for n in range(count)]
    took_s: list[float] = []
    async with system:
        for message in messages:
            start = time.perf_counter()
            await ref.tell(message)
            took_s.append(time.perf_counter() - start)
        total = await ref.ask(Total(), deadline_s=60.0)
    _check(total, messages)
    return took_s


async def ask(count: int) -> tuple[list[float], list[float]]:
    """Seconds of each of `count` asks, and of as many bare hand-overs: a future answered by another task."""
    system = ActorSystem(LoopClock(asyncio.get_running_loop()), random.Random(1))
    ref = system.spawn("adder", Adder)
    asked_s: list[float] = []
    async with system:
        for _ in range(count):
            start = time.perf_counter()
            await ref.ask(Total(), deadline_s=1.0)
            asked_s.append(time.perf_counter() - start)
    return asked_s, await _hand_overs(count)


async def _hand_overs(count: int) -> list[float]:
    """The least an ask must do: queue a future, wake a task, have it answer, wake up again."""
    loop = asyncio.get_running_loop()
    queue: deque[asyncio.Future[int]] = deque()
    adder = Adder()
    wake = [loop.create_future()]

    async def drain() -> None:
        while True:
            await wake[0]
            wake[0] = loop.create_future()
            while queue:
                queue.popleft().set_result(await adder.answer(Total()))

    draining = asyncio.create_task(drain())
    await asyncio.sleep(0)
    took_s: list[float] = []
    for _ in range(count):
        start = time.perf_counter()
        reply: asyncio.Future[int] = loop.create_future()
        queue.append(reply)
        wake[0].set_result(None)
        await reply
        took_s.append(time.perf_counter() - start)
    draining.cancel()
    return took_s


class Work(msgspec.Struct, frozen=True):
    """Keeps the handler, and so the loop, busy for `seconds`; notes how long it was on its way."""

    sent_at: float
    seconds: float
    urgent: bool


class Glance(msgspec.Struct, frozen=True):
    """Handled at once."""


class Worker(Actor[Work | Glance]):
    """Works without ever letting go of the loop."""

    mailbox_size = CAPACITY

    def __init__(self) -> None:
        self.urgent_s: list[float] = []
        self.count = 0

    @handles
    async def work(self, message: Work) -> None:
        start = time.perf_counter()
        self.count += 1
        if message.urgent:
            self.urgent_s.append(start - message.sent_at)
        while time.perf_counter() - start < message.seconds:
            pass

    @handles
    async def glance(self, message: Glance) -> None:
        self.count += 1


async def flood(count: int, handler_s: float, mixed: bool = False) -> tuple[list[float], list[float]]:
    """Delays of `count` urgent messages into a flooded actor, and the time between another task's turns.

    A `mixed` flood is of quick and slow messages in turn, many of each, the quick ones of two types.
    """
    quick: tuple[Work | Glance, ...] = (
        (*[Glance()] * QUICK_RUN, *[Work(0.0, 0.0, urgent=False)] * QUICK_RUN) if mixed else ()
    )
    slow = [Work(0.0, handler_s, urgent=False)] * (SLOW_RUN if mixed else 1)
    system = ActorSystem(LoopClock(asyncio.get_running_loop()), random.Random(1))
    worker = Worker()
    ref = system.spawn("worker", lambda: worker)
    turns_s: list[float] = []

    async def send_normal() -> None:
        while True:
            for message in (*quick, *slow):
                await ref.tell(message)

    async with system:
        senders = [asyncio.create_task(send_normal()) for _ in range(1 if mixed else 4)]
        await asyncio.sleep(0.01)
        for _ in range(count):
            before = time.perf_counter()
            await asyncio.sleep(0)
            turns_s.append(time.perf_counter() - before)
            await ref.tell(Work(time.perf_counter(), 0.0, urgent=True), urgent=True)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
    assert len(worker.urgent_s) == count, "every urgent message is handled once"
    return worker.urgent_s, turns_s


# The figures ---------------------------------------------------------------------------------------

CONTENDERS: dict[str, Contender] = {
    "floor": floor,
    "tell": tell,
    "asyncio_queue": asyncio_queue,
    "anyio": anyio_stream,
}
Rounds: TypeAlias = dict[str, list[float]]
"""Seconds a message, by contender and round."""
PROCESS_S = 300.0
"""Seconds that the rounds of one process may take."""
SLOW = ("asyncio_queue", "anyio")
"""Contenders that get a tenth of the messages, so that a round of all four stays short."""


def run(size: Size) -> dict[str, object]:
    """Rounds of all contenders in turn, then single messages, urgent ones under a flood, and slices."""
    count, rounds, processes = (20_000, 5, 1) if size is Size.SMALL else (100_000, 5, 9)
    each = [_rounds_elsewhere(count, rounds) for _ in range(processes)]
    each_s = {name: [took_s for one in each for took_s in one[name]] for name in CONTENDERS}
    to_floor = _ratios(each, "floor")
    single_s = asyncio.run(single_tells(count))
    asked_s, handed_s = asyncio.run(ask(count // 20))
    urgent_s, turns_s = asyncio.run(flood(100 if size is Size.SMALL else 1000, 50e-6))
    few = 50 if size is Size.SMALL else 500
    _, slow_turns_s = asyncio.run(flood(few, 500e-6))
    _, mixed_turns_s = asyncio.run(flood(few, 500e-6, mixed=True))
    return {
        "tell": {
            **percentiles(single_s).figures("us"),
            **{f"round_{name}": value for name, value in percentiles(each_s["tell"]).figures("us").items()},
            "floor_round_p50_us": statistics.median(each_s["floor"]) * 1e6,
            "asyncio_queue_round_p50_us": statistics.median(each_s["asyncio_queue"]) * 1e6,
            "anyio_round_p50_us": statistics.median(each_s["anyio"]) * 1e6,
            "ratio_to_floor": statistics.median(to_floor),
            "ratio_to_floor_max": max(to_floor),
            "ratio_to_asyncio_queue": statistics.median(_ratios(each, "asyncio_queue")),
            "ratio_to_anyio": statistics.median(_ratios(each, "anyio")),
            "processes": processes,
            "messages": count * rounds * processes,
            "digest": sum(range(count)),  # what every contender added up to, checked each round
        },
        "ask": {
            **percentiles(asked_s).figures("us"),
            "hand_over_p50_us": statistics.median(handed_s) * 1e6,
            "ratio_to_hand_over": statistics.median(asked_s) / statistics.median(handed_s),
        },
        "urgent_under_flood": percentiles(urgent_s).figures("ms"),
        "slice": {
            "handler_50_us": percentiles(turns_s).figures("ms"),
            "handler_500_us": percentiles(slow_turns_s).figures("ms"),
            "mixed_500_us": percentiles(mixed_turns_s).figures("ms"),
        },
    }


def _ratios(each: Sequence[Rounds], name: str) -> list[float]:
    """Each process's median ratio of a tell to contender `name`."""
    return [ratio_of(one["tell"], one[name]).median for one in each]


def _rounds_elsewhere(count: int, rounds: int) -> Rounds:
    """The same as `_rounds`, in a process of its own."""
    command = [sys.executable, "-m", "bench.mailbox", str(count), str(rounds)]
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=PROCESS_S)
    return msgspec.json.decode(made.stdout, type=Rounds)


def _rounds(count: int, rounds: int) -> Rounds:
    """Seconds a message, by contender and round; the first round only warms up.

    Long rounds would let the machine's phases in between two contenders, so a round is short and the
    order within it turns.
    """
    messages = [Add(n) for n in range(count)]
    names = list(CONTENDERS)
    each_s: Rounds = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            sent = messages[: count // 10] if name in SLOW else messages
            took_s = asyncio.run(_timed(CONTENDERS[name], sent))
            if turn:
                each_s[name].append(took_s / len(sent))
    return each_s


async def _timed(contender: Contender, messages: Sequence[Add]) -> float:
    return await contender(messages)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_rounds(int(sys.argv[1]), int(sys.argv[2]))))
