"""The event loop's lag is what a timer wakes too late."""

import asyncio

import pytest

from actors.nissa.counters import LAG_BUCKETS_S, Histogram
from actors.nissa.lag import measuring_lag
from tests.actors.nissa import sample


class LateClock:
    """Wakes `late_s` after the moment asked for."""

    def __init__(self, late_s: float) -> None:
        self._late_s = late_s
        self._now_s = 0.0
        self.wakes = 0

    def monotonic(self) -> float:
        return self._now_s

    def wall_ns(self) -> int:
        return int(self._now_s * 1e9)

    async def sleep(self, seconds: float) -> None:
        self._now_s += seconds + self._late_s
        self.wakes += 1
        await asyncio.sleep(0)


def test_the_lag_is_what_the_timer_wakes_too_late() -> None:
    lag, clock = Histogram(LAG_BUCKETS_S), LateClock(0.0042)

    async def play() -> None:
        async with measuring_lag(lag, clock):
            await sample.until(lambda: clock.wakes >= 10)

    asyncio.run(play())
    assert lag.count >= 9
    assert lag.quantile(0.5) == lag.quantile(0.99) == 0.005
    assert lag.total == pytest.approx(0.0042 * lag.count)


def test_the_meter_ends_with_its_block_even_when_that_fails() -> None:
    lag = Histogram(LAG_BUCKETS_S)

    async def play() -> None:
        with pytest.raises(RuntimeError, match="the run"):
            async with measuring_lag(lag, LateClock(0.0)):
                raise RuntimeError("the run")
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())
