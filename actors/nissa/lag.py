"""How late the event loop wakes: a timer that says when it should have rung."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actors.nissa.counters import Histogram
from actors.runtime.clock import Clock

LAG_EVERY_S = 0.25
"""A wake-up costs up to 0.15 ms beside a busy thread, so 4 a second take 0.06 % of a core."""


@asynccontextmanager
async def measuring_lag(into: Histogram, clock: Clock, every_s: float = LAG_EVERY_S) -> AsyncIterator[None]:
    """Record the loop's lag, in seconds, for as long as the block runs.

    The loop's own timer is part of it: epoll counts in milliseconds, so an idle loop shows up to 1 ms.
    A stall is one figure, not as many as it swallowed wake-ups; its length is in the sum.
    """
    meter = asyncio.create_task(_measure(into, clock, every_s), name="event-loop lag")
    try:
        yield
    finally:
        meter.cancel()
        await asyncio.wait([meter])
        if not meter.cancelled():
            meter.result()


async def _measure(into: Histogram, clock: Clock, every_s: float) -> None:
    while True:
        due_s = clock.monotonic() + every_s
        await clock.sleep(every_s)
        into.record(max(0.0, clock.monotonic() - due_s))
