"""How late the event loop wakes while a network trains and grows beside it."""

import asyncio

from bench.measure import Budget, Size, percentiles
from bench.real_run import make_parts, mnist1d, real_run

BUDGETS = (Budget("p99_ms", 10.0),)
EPOCHS = {Size.SMALL: 6, Size.FULL: 200}
STEPS = {Size.SMALL: 4, Size.FULL: 40}
EVERY_S = 0.01


def run(size: Size) -> dict[str, object]:
    """Sleep 10 ms at a time on the loop of a real run; the lag is what each sleep took more."""
    config = mnist1d(f"train.epoch_steps={STEPS[size]}", policy="heuristic", epochs=EPOCHS[size])
    lags_s: list[float] = []

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            lags_s.append(max(0.0, loop.time() - due))

    real_run(make_parts(config), watch)
    return percentiles(lags_s).figures("ms")
