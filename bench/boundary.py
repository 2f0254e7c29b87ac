"""The pause between two epochs of a real growing run, part by part; a checkpoint is written at every one.

Beside the small network of the demo one of 10 million parameters is grown, whose boundaries mostly copy it:
`conservative` says how often that stopped its growth. And the small one again, with its metrics scraped each
second.
"""

import asyncio
from collections.abc import Sequence

from actors.company import Company
from actors.nissa.http import listen
from actors.nissa.journal import Journal
from bench.large import WIDTHS, large_config, large_parts
from bench.measure import Budget, Size, percentiles
from bench.real_run import make_parts, meet_nobody, mnist1d, real_run
from contracts.emergency import Trigger
from contracts.report import BoundaryFacts

BUDGETS = (
    Budget("total.p99_ms", 9.0),
    Budget("share_above_18ms", 0.0),
    Budget("boundaries", 300, "at_least"),
    Budget("scraped.total.p99_ms", 9.0),
    Budget("scraped.share_above_18ms", 0.0),
    Budget("scraped.scrapes", 10, "at_least"),
    Budget("large.conservative", 0),
    Budget("large.grafts", 1, "at_least"),
)
EPOCHS = {Size.SMALL: 14, Size.FULL: 360}
STEPS = {Size.SMALL: 4, Size.FULL: 40}
SCRAPED_EVERY_S = {Size.SMALL: 0.02, Size.FULL: 1.0}
HOST = "127.0.0.1"
LARGE = {Size.SMALL: "0.1M", Size.FULL: "10M"}
LARGE_EPOCHS = {Size.SMALL: 14, Size.FULL: 60}


class Scraper:
    """Serves a company's metrics, and asks for them every so often."""

    def __init__(self, every_s: float, port: int) -> None:
        self.scrapes = 0
        self._every_s = every_s
        self._port = port
        self._company: Company | None = None

    def meet(self, company: Company, _: Journal) -> None:
        self._company = company

    async def beside(self) -> None:
        assert self._company is not None, "it is met before the run begins"
        async with self._company.serving():
            while True:
                await asyncio.sleep(self._every_s)
                answer = await self._scrape()
                self.scrapes += answer.startswith(b"HTTP/1.1 200 ") and b"esper_training_steps" in answer

    async def _scrape(self) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            writer.write(f"GET /metrics HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            return await reader.read()
        finally:
            writer.close()


def run(size: Size) -> dict[str, object]:
    """Grow on MNIST-1D with the heuristic policy and take the boundaries' times from the run's record; then
    the same while it is scraped, and of the large network."""
    return {**_small(size), "scraped": _scraped(size), "large": _large(size)}


def _scraped(size: Size) -> dict[str, object]:
    with listen(HOST, 0) as free:
        port = free.getsockname()[1]
    scraper = Scraper(SCRAPED_EVERY_S[size], port)
    served = ("serve.enabled=true", f"serve.port={port}", f"serve.render_every_s={SCRAPED_EVERY_S[size] / 2}")
    return {**_small(size, *served, scraper=scraper), "scrapes": scraper.scrapes}


def _small(size: Size, *settings: str, scraper: Scraper | None = None) -> dict[str, object]:
    steps = f"train.epoch_steps={STEPS[size]}"
    config = mnist1d(steps, "checkpoint.every_s=0", *settings, policy="heuristic", epochs=EPOCHS[size])
    meet, beside = (scraper.meet, scraper.beside) if scraper is not None else (meet_nobody, None)
    recorded = real_run(make_parts(config), beside, meet=meet).witness.recorder.recorded
    times = [facts.boundary_ms for facts in recorded.epochs if facts.boundary_ms is not None]
    budget_ms = config.budgets.epoch_boundary_ms
    return {
        **_parts(times),
        "share_above_18ms": sum(_above(one, budget_ms) for one in times) / len(times),
        "boundaries": len(times),
        "decisions_missing": recorded.late,
        "grafts": len(recorded.grafts),
    }


def _large(size: Size) -> dict[str, object]:
    parts = large_parts(WIDTHS[LARGE[size]], large_config(LARGE_EPOCHS[size]))
    recorded = real_run(parts).witness.recorder.recorded
    times = [facts.boundary_ms for facts in recorded.epochs if facts.boundary_ms is not None]
    return {
        **_parts(times),
        "boundaries": len(times),
        "parameters": recorded.epochs[-1].params,
        "decisions_missing": recorded.late,
        "conservative": sum(alert.name == Trigger.BOUNDARIES_SLOW for alert in recorded.alerts),
        "grafts": len(recorded.grafts),
    }


def _parts(times: Sequence[BoundaryFacts]) -> dict[str, object]:
    return {
        "keep": _part([one.keep for one in times]),
        "assemble": _part([one.assemble for one in times]),
        "decide": _part([one.decide for one in times]),
        "apply": _part([one.apply for one in times]),
        "total": _part([one.total for one in times]),
    }


def _part(times_ms: list[float]) -> dict[str, object]:
    return percentiles([time / 1e3 for time in times_ms]).figures("ms")


def _above(times: BoundaryFacts, budget_ms: float) -> bool:
    return times.total > budget_ms
