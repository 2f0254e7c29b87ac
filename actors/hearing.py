"""An actor's ear on the bus: what comes in is told to the actor, one message a delivery."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from actors.oona.bus import Bus, Delivery, Subscription
from actors.runtime.clock import Clock

BATCH = 16
"""Deliveries taken from the bus at a time."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Something came over the bus. Whoever handles it settles it: `with heard.delivery: …`."""

    delivery: Delivery


def consumer_in(group: str, clock: Clock) -> str:
    """A name in the group for this life alone: a process that was killed keeps its own for some seconds."""
    return f"{group}-{clock.wall_ns()}"


class Ear:
    """Listens between `open` and `close`; what was not handled by then is given back by its deadline."""

    def __init__(
        self,
        bus: Bus,
        topics: Sequence[str],
        group: str,
        tell: Callable[[Heard], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._topics = tuple(topics)
        self._group = group
        self._tell = tell
        self._subscription: Subscription | None = None
        self._listening: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Join the group and listen."""
        consumer = consumer_in(self._group, self._clock)
        self._subscription = self._bus.subscribe(self._topics, self._group, consumer)
        self._listening = asyncio.create_task(
            self._listen(self._subscription), name=f"{self._group} listens to {', '.join(self._topics)}"
        )

    async def close(self) -> None:
        """Hear nothing more."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        if self._subscription is not None:
            self._subscription.close()

    async def _listen(self, subscription: Subscription) -> None:
        while True:
            for delivery in await subscription.receive(BATCH):
                await self._tell(Heard(delivery))
