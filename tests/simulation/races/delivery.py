"""Races of what must arrive exactly once: an acknowledgement, a wake-up, a report."""

import asyncio
from collections import deque
from functools import partial

import msgspec

from actors.oona.bus import Delivery, Subscription
from actors.oona.memory import MemoryBus
from actors.oona.policy import TopicPolicy
from actors.runtime import Actor, LoopClock, handles
from tests.simulation.races.race import Race, Scene, hop, on_stage
from tests.simulation.trace import ensure


class Report(msgspec.Struct, frozen=True):
    number: int


class Disk:
    """What is durable."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    async def write(self, report: Report) -> None:
        await hop()
        if report.number not in self.rows:
            self.rows.append(report.number)


async def _consume(subscription: Subscription, disk: Disk, planted: bool) -> None:
    while True:
        for delivery in await subscription.receive(1):
            assert isinstance(delivery.message, Report)
            await _store(delivery, delivery.message, disk, planted)


async def _store(delivery: Delivery, report: Report, disk: Disk, planted: bool) -> None:
    if planted:
        delivery.ack()
        await disk.write(report)
    else:
        await disk.write(report)
        delivery.ack()


async def acknowledge(planted: bool) -> None:
    """The real bus: a consumer is killed, another takes over what it had not acknowledged."""
    loop, disk, scene = asyncio.get_running_loop(), Disk(), Scene()
    bus = MemoryBus({"reports": TopicPolicy(groups=("journal",))}, LoopClock(loop, wall_ns=0))
    house = loop.create_task(bus.run_housekeeping())
    async with on_stage(scene):
        for life in range(2):
            async with bus.subscribe("reports", "journal", f"journal {life}") as subscription:
                consumer = loop.create_task(_consume(subscription, disk, planted))
                await asyncio.sleep(0.5)
                if life == 0:
                    await bus.publish("reports", Report(1), event_id="r1")
                    scene.later(lambda victim=consumer: _kill_soon(scene, victim))
                await asyncio.sleep(1.0)
                consumer.cancel()
                await asyncio.wait({consumer})
    house.cancel()
    ensure(disk.rows == [1], f"published one report; on disk: {disk.rows}")
    ensure(bus.metrics().depth == 0, "the report was never acknowledged")


def _kill_soon(scene: Scene, victim: "asyncio.Task[None]") -> None:
    asyncio.get_running_loop().create_task(_kill(victim))


async def _kill(victim: "asyncio.Task[None]") -> None:
    victim.cancel()


PRODUCERS = 6
"""Any of them would wake the consumer: it oversleeps only if all of them come too early."""


class Put(msgspec.Struct, frozen=True):
    item: int


class Basket:
    """A queue with one consumer, that a producer wakes."""

    def __init__(self) -> None:
        self.items: deque[int] = deque()
        self.sleeping: asyncio.Future[None] | None = None

    def put(self, item: int) -> None:
        self.items.append(item)
        if self.sleeping is not None and not self.sleeping.done():
            self.sleeping.set_result(None)


class Producer(Actor[Put]):
    def __init__(self, basket: Basket) -> None:
        self._basket = basket

    @handles
    async def on_put(self, put: Put) -> None:
        self._basket.put(put.item)


class Fetch(msgspec.Struct, frozen=True):
    pass


class Consumer(Actor[Fetch]):
    """Takes one item, waiting for it."""

    def __init__(self, basket: Basket, taken: list[int], planted: bool) -> None:
        self._basket, self._taken, self._planted = basket, taken, planted

    @handles
    async def on_fetch(self, _: Fetch) -> None:
        basket = self._basket
        if not basket.items:
            await hop()  # it says that it is idle
            if self._planted or not basket.items:
                basket.sleeping = asyncio.get_running_loop().create_future()
                await asyncio.wait({basket.sleeping}, timeout=5.0)
        if not basket.sleeping or basket.sleeping.done():
            self._taken.append(basket.items.popleft())


async def wake_up(planted: bool) -> None:
    scene, basket, taken = Scene(), Basket(), list[int]()
    consumer = scene.system.spawn("consumer", lambda: Consumer(basket, taken, planted))
    producers = [scene.system.spawn(f"producer {n}", lambda: Producer(basket)) for n in range(PRODUCERS)]
    async with on_stage(scene):
        consumer.tell_nowait(Fetch())
        for n, producer in enumerate(producers):
            scene.later(partial(producer.tell_nowait, Put(n)))
    ensure(len(taken) == 1, f"{PRODUCERS} items were put, none taken: the consumer sleeps beside them")


class Watch(msgspec.Struct, frozen=True):
    epoch: int


class CloseAll(msgspec.Struct, frozen=True):
    pass


class Windows:
    """Open windows, and the reports on those that closed."""

    def __init__(self) -> None:
        self.open = [1, 2]
        self.reported: list[int] = []


class Observer(Actor[Watch]):
    """Reports on the windows that end at a boundary."""

    def __init__(self, windows: Windows, planted: bool) -> None:
        self._windows, self._planted = windows, planted

    @handles
    async def on_watch(self, watch: Watch) -> None:
        windows = self._windows
        due = [opened for opened in windows.open if watch.epoch - opened >= 3]
        left = [opened for opened in windows.open if opened not in due]
        if not self._planted:
            windows.open = left
        await hop()  # the report is written down
        windows.reported += due
        if self._planted:
            windows.open = left


class Ender(Actor[CloseAll]):
    """Reports on every window, because the run ends."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    @handles
    async def on_close_all(self, _: CloseAll) -> None:
        self._windows.reported += self._windows.open
        self._windows.open = []


async def window(planted: bool) -> None:
    scene, windows = Scene(), Windows()
    observer = scene.system.spawn("observer", lambda: Observer(windows, planted))
    ender = scene.system.spawn("ender", lambda: Ender(windows))
    async with on_stage(scene):
        observer.tell_nowait(Watch(4))
        scene.later(lambda: ender.tell_nowait(CloseAll()))
    ensure(sorted(windows.reported) == [1, 2], f"two windows, reports on {sorted(windows.reported)}")


class Job(msgspec.Struct, frozen=True):
    number: int


class Worker(Actor[Job]):
    """Does each job of a group once, though it may be delivered to several."""

    def __init__(self, done: dict[int, int], planted: bool) -> None:
        self._done, self._planted = done, planted

    @handles
    async def on_job(self, job: Job) -> None:
        known = job.number in self._done
        if not self._planted and not known:
            self._done[job.number] = 0
        await hop()  # the work
        if not known:
            self._done[job.number] = self._done.get(job.number, 0) + 1


async def redelivery(planted: bool) -> None:
    scene, done = Scene(), dict[int, int]()
    workers = [scene.system.spawn(f"worker {n}", lambda: Worker(done, planted)) for n in range(2)]
    async with on_stage(scene):
        workers[0].tell_nowait(Job(7))
        scene.later(lambda: workers[1].tell_nowait(Job(7)))
    ensure(done == {7: 1}, f"job 7 was done {done[7]} times")


RACES = (
    Race("acknowledge before durable", "a report is acknowledged before it is on disk", acknowledge, 0),
    Race("lost wake-up", "the queue is not looked at again before its consumer goes to sleep", wake_up, 6),
    Race("window closed twice", "a window is taken off the list after its report was written", window, 1),
    Race("redelivery", "a job is looked up before the work and noted after it", redelivery, 1),
)
