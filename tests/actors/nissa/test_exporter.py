"""Scrapes are answered from kept text, and text is rendered only outside boundaries."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.nissa import exporter as module
from actors.nissa.counters import RunCounters
from actors.nissa.exporter import BOUNDARY_WAIT_S, STALE_AFTER_S, Exporter, NoText
from actors.nissa.prometheus import Page
from actors.nissa.reading import Reading
from tests.actors.nissa import sample


@dataclass
class HandClock:
    """Time that passes only while somebody sleeps, or when a test says so."""

    now_s: float = 100.0
    slept: list[float] = field(default_factory=list)
    ends_s: float = 0.0
    """Before this moment a boundary is active."""

    def monotonic(self) -> float:
        return self.now_s

    def wall_ns(self) -> int:
        return int(self.now_s * 1e9)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def boundary_active(self) -> bool:
        return self.now_s < self.ends_s


@dataclass
class Scene:
    """An exporter, the clock it lives by, and how often it looked at the run."""

    clock: HandClock = field(default_factory=HandClock)
    run: RunCounters = field(default_factory=sample.measured)
    renderings: int = -1
    """The exporter looks once when it is made."""

    def exporter(self, render_every_s: float = 1.0) -> Exporter:
        return Exporter(self.take, self.clock.boundary_active, self.clock, render_every_s)

    def take(self) -> Reading:
        self.renderings += 1
        return sample.reading(self.run)


def scene(play: Callable[[Scene, Exporter], Coroutine[Any, Any, None]]) -> Scene:
    stage = Scene()
    exporter = stage.exporter()
    asyncio.run(play(stage, exporter))
    exporter.close()
    return stage


def test_nothing_is_rendered_until_somebody_asks() -> None:
    async def play(stage: Scene, _: Exporter) -> None:
        stage.clock.now_s += 3600

    assert scene(play).renderings == 0


def test_text_is_kept_for_a_moment_and_then_rendered_anew() -> None:
    async def play(stage: Scene, exporter: Exporter) -> None:
        first = await exporter.text()
        stage.run.training.steps = 7
        stage.clock.now_s += 0.99
        assert await exporter.text() is first
        stage.clock.now_s += 0.02
        assert b"esper_training_steps_total 7.0" in await exporter.text()

    assert scene(play).renderings == 2


def test_scrapes_at_once_share_one_rendering() -> None:
    async def play(stage: Scene, exporter: Exporter) -> None:
        first, *others = await asyncio.gather(*(exporter.text() for _ in range(20)))
        assert all(other is first for other in others)

    assert scene(play).renderings == 1


def test_a_scrape_in_a_boundary_renders_when_it_is_over() -> None:
    async def play(stage: Scene, exporter: Exporter) -> None:
        stage.clock.ends_s = stage.clock.now_s + 0.018
        waiting = asyncio.create_task(exporter.text())
        await asyncio.sleep(0)
        assert stage.renderings == 0
        assert b"esper_" in await waiting
        assert stage.clock.now_s >= stage.clock.ends_s

    assert scene(play).renderings == 1


def test_a_boundary_that_begins_during_a_slice_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Scene()
    exporter, rendered = stage.exporter(), list[float]()

    def pieces(_: Page) -> Iterator[bytes]:
        for number in range(4):
            if number == 1:
                stage.clock.ends_s = stage.clock.now_s + 0.018
            rendered.append(stage.clock.now_s)
            yield b"%d" % number

    monkeypatch.setattr(Page, "render", pieces)
    assert asyncio.run(exporter.text()) == b"0123"
    begun, during, *later = rendered
    assert begun == during == 100.0, "the boundary begins while this piece is made"
    assert min(later) >= stage.clock.ends_s, "and the next one waits for its end"
    exporter.close()


def test_a_boundary_that_does_not_end_is_answered_with_the_kept_text_until_it_is_stale() -> None:
    async def play(stage: Scene, exporter: Exporter) -> None:
        kept = await exporter.text()
        stage.clock.now_s += 10
        stage.clock.ends_s = float("inf")
        asked_s = stage.clock.now_s
        assert await exporter.text() is kept
        assert stage.clock.now_s - asked_s == pytest.approx(BOUNDARY_WAIT_S, abs=0.01)
        stage.clock.now_s += STALE_AFTER_S
        with pytest.raises(NoText, match="boundary"):
            await exporter.text()

    assert scene(play).renderings == 1


def test_many_scrapes_wait_for_a_boundary_together_not_one_after_the_other() -> None:
    async def play(stage: Scene, exporter: Exporter) -> None:
        stage.clock.ends_s = float("inf")
        asked_s = stage.clock.now_s
        answers = await asyncio.gather(*(exporter.text() for _ in range(10)), return_exceptions=True)
        assert all(isinstance(answer, NoText) for answer in answers)
        assert stage.clock.now_s - asked_s < 2 * BOUNDARY_WAIT_S

    assert scene(play).renderings == 0


def test_a_rendering_pauses_after_each_slice_and_stands_still_in_a_boundary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SLICE_S", 0.0)

    async def play(stage: Scene, exporter: Exporter) -> None:
        waiting = asyncio.create_task(exporter.text())
        await sample.until(lambda: len(stage.clock.slept) >= 5)
        stage.clock.ends_s = stage.clock.now_s + 0.018
        pauses = stage.clock.slept.count(module.PAUSE_S)
        await sample.until(lambda: not stage.clock.boundary_active())
        assert stage.clock.slept.count(module.PAUSE_S) <= pauses + 1
        assert module.BOUNDARY_POLL_S in stage.clock.slept
        assert (await waiting).endswith(b"\n")

    stage = scene(play)
    assert stage.renderings == 1
    assert stage.clock.slept.count(module.PAUSE_S) > 30


def test_a_rendering_interrupted_for_too_long_is_given_up_and_the_next_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SLICE_S", 0.0)

    async def play(stage: Scene, exporter: Exporter) -> None:
        waiting = asyncio.create_task(exporter.text())
        await sample.until(lambda: len(stage.clock.slept) >= 5)
        stage.clock.ends_s = float("inf")
        with pytest.raises(NoText):
            await waiting
        stage.clock.ends_s = 0.0
        assert (await exporter.text()).count(b"# HELP esper_training_steps_total") == 1

    assert scene(play).renderings == 2


def test_renderings_are_themselves_measured() -> None:
    async def play(stage: Scene, exporter: Exporter) -> None:
        await exporter.text()
        assert stage.run.render.count == 1

    scene(play)


def test_who_waits_for_a_boundary_is_answered_at_once_when_the_exporter_closes() -> None:
    async def play(stage: Scene, exporter: Exporter) -> None:
        stage.clock.ends_s = float("inf")
        waiting = asyncio.create_task(exporter.text())
        await asyncio.sleep(0)
        asked_s = stage.clock.now_s
        exporter.close()
        with pytest.raises(NoText):
            await waiting
        assert stage.clock.now_s - asked_s < 0.05

    scene(play)
