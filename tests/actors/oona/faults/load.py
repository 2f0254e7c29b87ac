"""Load on a bus under a fault: publishers that try again, consumers whose effects are counted, and an end."""

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from actors.oona.bus import Bus, Delivery, Receipt
from actors.oona.errors import ClosedError, RefusedError
from actors.oona.priority import Priority
from tests.actors.oona.faults.ledger import FaultLedger
from tests.actors.oona.faults.work import GROUP, TOPIC, Work
from tests.actors.oona.patience import PATIENCE_S

_POLL_S: Final = 0.005
_RETRY_S: Final = 0.02
_BATCH: Final = 16


async def until(condition: Callable[[], bool], what: str = "that") -> None:
    """Let others go on until it holds."""
    end_s = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < end_s, f"it did not come to {what} in {PATIENCE_S:g} s"
        await asyncio.sleep(_POLL_S)


async def until_taken(ledger: FaultLedger, count: int) -> None:
    """Until so many messages were acknowledged to their publishers."""
    await until(lambda: len(ledger.acknowledged) >= count, f"{count} acknowledged ({ledger.name})")


def connected(bus: Bus) -> bool:
    """As the bus itself sees it."""
    link = bus.metrics().link
    assert link is not None
    return link.connected


async def entries_made(bus: Bus, least: int) -> int:
    """Publications that the back end took, in all topics: one for each logical publish. Asked for until it
    says at least so many: while the server does not answer, the figures are those of before."""
    made = 0
    async with asyncio.timeout(PATIENCE_S):
        while made < least:
            made = sum(row.ledger.accepted for row in (await bus.refresh()).published)
            await asyncio.sleep(_POLL_S)
    return made


async def tried(bus: Bus, ledger: FaultLedger, work: Work) -> Receipt | RefusedError:
    """Published once, and what came of it."""
    event_id = ledger.hand_over(work.n)
    answer: Receipt | RefusedError
    try:
        answer = await bus.publish(TOPIC, work, event_id=event_id)
    except RefusedError as error:
        answer = error
    ledger.answered(event_id, answer)
    return answer


async def insisted(bus: Bus, ledger: FaultLedger, work: Work) -> Receipt:
    """Published again and again, under one id, until it is taken."""
    for _ in range(int(PATIENCE_S / _RETRY_S)):
        answer = await tried(bus, ledger, work)
        if isinstance(answer, Receipt):
            return answer
        await asyncio.sleep(_RETRY_S)
    raise AssertionError(f"{ledger.name}: {work.n} was not taken in {PATIENCE_S:g} s")


class Publisher:
    """Hands numbers over one after the other; a refused one again and again under the same id."""

    def __init__(self, bus: Bus, ledger: FaultLedger, rng: random.Random, body_bytes: int = 4) -> None:
        self.bus = bus
        self.ledger = ledger
        self.rng = rng
        self.body_bytes = body_bytes
        self.nowait_share = 0.3
        """Of the numbers, handed over with `publish_nowait`."""
        self.urgent_share = 0.1
        self.give_up_share = 0.0
        """Of the refusals, after which a number is not tried again."""

    async def publish(self, numbers: Iterable[int]) -> None:
        for n in numbers:
            await self._until_taken(n)

    async def _until_taken(self, n: int) -> None:
        rng, event_id = self.rng, self.ledger.hand_over(n)
        work = Work(n, "x" * self.body_bytes)
        hand_over = self._nowait if rng.random() < self.nowait_share else self._waiting
        priority = Priority.CRITICAL if rng.random() < self.urgent_share else Priority.NORMAL
        while True:
            answer = await hand_over(work, event_id, priority)
            self.ledger.answered(event_id, answer)
            if isinstance(answer, Receipt) or rng.random() < self.give_up_share:
                return
            await asyncio.sleep(_RETRY_S)

    async def _nowait(self, work: Work, event_id: str, priority: Priority) -> Receipt | RefusedError:
        await asyncio.sleep(0)
        try:
            return self.bus.publish_nowait(TOPIC, work, event_id=event_id, priority=priority)
        except RefusedError as error:
            return error

    async def _waiting(self, work: Work, event_id: str, priority: Priority) -> Receipt | RefusedError:
        try:
            return await self.bus.publish(TOPIC, work, event_id=event_id, priority=priority)
        except RefusedError as error:
            return error


class Consumer:
    """Takes what comes, has its effect, acknowledges; forgets or gives back as often as it is told."""

    def __init__(self, bus: Bus, ledger: FaultLedger, rng: random.Random, name: str) -> None:
        self.bus = bus
        self.ledger = ledger
        self.rng = rng
        self.name = name
        self.forget_share = 0.0
        """Looked at, and neither done nor acknowledged: as if the consumer had died in between."""
        self.nack_share = 0.0
        self.pause_s = 0.0
        """After each batch."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> "Consumer":
        self._task = asyncio.create_task(self._consume(), name=f"consumer {self.name}")
        return self

    async def stop(self) -> None:
        """Between two batches or in the wait for one; fails if it failed."""
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def ended(self) -> None:
        """Its bus was closed under it."""
        assert self._task is not None
        with suppress(ClosedError):
            await self._task

    async def _consume(self) -> None:
        async with self.bus.subscribe(TOPIC, GROUP, self.name) as subscription:
            while True:
                for delivery in await subscription.receive(_BATCH):
                    self._handle(delivery)
                await asyncio.sleep(self.pause_s)

    def _handle(self, delivery: Delivery) -> None:
        work = delivery.message
        assert isinstance(work, Work)
        self.ledger.came(delivery.event_id, work.n)
        fate = self.rng.random()
        if fate < self.nack_share:
            delivery.nack(delay_s=0.0)
        elif fate >= self.nack_share + self.forget_share:
            self.ledger.did(delivery.event_id, by=self.bus)
            delivery.ack()


async def settled(ledger: FaultLedger, *clients: Bus) -> None:
    """Until all that was promised has its effect, nothing is on its way and nothing unsettled."""
    await until(lambda: not ledger.missing, f"the effects of all ({ledger.name})")
    end_s = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        for bus in clients:
            await bus.flush()
        metrics = [await bus.refresh() for bus in clients]
        on_their_way = sum(each.link.outbox for each in metrics if each.link is not None)
        if not on_their_way and not any(each.depth for each in metrics):
            assert all(each.closes() for each in metrics), f"the bus's own ledger does not close: {metrics}"
            return
        assert asyncio.get_running_loop().time() < end_s, f"{ledger.name}: it did not settle: {metrics}"
        await asyncio.sleep(_POLL_S)
