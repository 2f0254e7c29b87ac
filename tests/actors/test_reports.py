"""Claims about field reports on their way: nothing is lost, nothing doubled, order is kept."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.oona.bus import Bus, Outcome, Receipt
from actors.oona.errors import QueueFullError
from actors.oona.memory import MemoryBus
from actors.oona.priority import Priority
from actors.oona.topics import run_topics
from actors.reports import (
    ANNOUNCE_EVERY_S,
    ERRANDS_MAX,
    TIDY_EVERY_S,
    Post,
    RecallWindows,
    RememberWindows,
    Reports,
)
from actors.runtime import ActorSystem, InlineThreads, LoopClock
from actors.runtime.simulation import run_simulated
from actors.scribe import InlineScribe
from contracts.control import CloseWindows, Decided, ReportsRead
from contracts.messages import FieldReport
from esper.journal.book import Book, in_memory
from esper.journal.outbox import WAIT_MAX_S, Outbox
from esper.tamiyo.action import Wait, command_for
from esper.tamiyo.observation import Observation, ObservationMemory
from tests.esper.tamiyo.views import state, view

T = TypeVar("T")
DAY_S = 24 * 3600.0
READER = "reader"


def decided(epoch: int, loss: float = 1.0) -> Decided:
    command = command_for(Wait(), "later", f"c{epoch}", 0)
    return Decided(command, state(epoch, loss=loss), view(epoch), True)


class JumpingClock(LoopClock):
    """Somebody sets the wall clock."""

    ahead_s = 0.0

    def wall_ns(self) -> int:
        return super().wall_ns() + int(self.ahead_s * 1e9)


class FlakyBus(MemoryBus):
    """May refuse what is published, or take it and lose it."""

    def __init__(self, world: "World") -> None:
        super().__init__(run_topics(), world.clock)
        self._world = world

    def publish_nowait(
        self,
        topic: str,
        message: msgspec.Struct,
        *,
        priority: Priority = Priority.NORMAL,
        event_id: str | None = None,
        ttl_s: float | None = None,
    ) -> Receipt:
        assert event_id is not None
        if self._world.refuses:
            raise QueueFullError("full")
        if event_id in self._world.published:
            return Receipt(event_id, Outcome.DUPLICATE)
        self._world.published.append(event_id)
        if not self._world.loses:
            assert isinstance(message, FieldReport)
            self._world.read(message)
        return Receipt(event_id, Outcome.ACCEPTED)


@dataclass
class World:
    """A run with its disk and its reader; `live` and `die` begin and end a process of it."""

    clock: JumpingClock
    book: Book = field(default_factory=in_memory)
    refuses: bool = False
    loses: bool = False
    deaf: bool = False
    lost_any: bool = False
    epoch: int = 0
    furthest: int = 0
    """The newest epoch that any process of the run has trained."""
    kept: tuple[int, ObservationMemory] = (0, ObservationMemory())
    """Epoch and windows of the last checkpoint."""
    published: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    """What the reader has made of reports, for good."""
    alerts: list[tuple[str, str]] = field(default_factory=list)
    acknowledging: list[asyncio.Task[None]] = field(default_factory=list)

    async def live(self) -> None:
        self.observation = Observation("run", "v1", 1)
        self.epoch, memory = self.kept
        self.observation.recall(memory)
        self.published.clear()
        self.scribe = InlineScribe(self.book)
        self.outbox = Outbox()
        post = Post(
            FlakyBus(self), self.scribe, self.outbox, lambda name, text: self.alerts.append((name, text))
        )
        self.system = ActorSystem(self.clock, random.Random(0), threads=InlineThreads())
        self.reports = self.system.spawn("reports", lambda: Reports(self.observation, self.clock, post))
        await self.system.start()

    async def die(self) -> None:
        await self.system.stop(0.0)
        for task in self.acknowledging:
            task.cancel()

    def read(self, report: FieldReport) -> None:
        """The reader takes a report, notes it with what it makes of it, and says so."""
        with self.book.transaction():
            new = self.book.seen.take(READER, report.report_id)
        if new:
            self.effects.append(report.report_id)
        if not self.deaf:
            told = self.reports.tell(ReportsRead((report.report_id,)))
            self.acknowledging.append(asyncio.get_running_loop().create_task(told))

    async def train(self, epochs: int) -> None:
        for _ in range(epochs):
            self.epoch += 1
            self.furthest = max(self.furthest, self.epoch)
            await self.reports.tell(decided(self.epoch))
            await asyncio.sleep(0.1)

    @property
    def due(self) -> list[str]:
        """Ids of all reports that there must be: one an epoch, but for the newest, whose window is open."""
        return [f"run-r{number}" for number in range(1, self.furthest)]


OPERATIONS = st.one_of(
    st.tuples(st.just("train"), st.integers(1, 4)),
    st.tuples(st.just("wait"), st.sampled_from([0.3, 3.0, 80.0])),
    st.tuples(st.just("jump"), st.sampled_from([-3600.0, 9 * 3600.0])),
    st.tuples(st.sampled_from(["refuse", "lose", "deaf"]), st.integers(0, 1)),
    st.tuples(st.just("keep"), st.just(0)),
    st.tuples(st.just("die"), st.just(0)),
)


async def carry_out(world: World, name: str, amount: float) -> None:
    match name:
        case "train":
            await world.train(int(amount))
        case "wait":
            await asyncio.sleep(amount)
        case "jump":
            world.clock.ahead_s += amount
        case "refuse":
            world.refuses = bool(amount)
        case "lose":
            world.loses = bool(amount)
            world.lost_any |= world.loses
        case "deaf":
            world.deaf = bool(amount)
        case "keep":
            world.kept = (world.epoch, world.observation.remember())
        case "die":
            await world.die()
            await world.live()


async def lived(operations: Sequence[tuple[str, float]]) -> World:
    world = World(JumpingClock(asyncio.get_running_loop(), wall_ns=10**18))
    await world.live()
    for name, amount in operations:
        await carry_out(world, name, amount)
    world.refuses = world.loses = world.deaf = False
    await asyncio.sleep(WAIT_MAX_S + TIDY_EVERY_S)
    return world


def check_life(operations: list[tuple[str, float]], seed: int) -> None:
    """Nothing lost, nothing doubled, order kept; `seed` orders what is ready at the same time."""

    async def main() -> None:
        world = await lived(operations)
        expired = " ".join(text for name, text in world.alerts if name == "field_reports_expired")
        assert {name for name, _ in world.alerts} <= {"field_reports_expired"}
        assert len(set(world.effects)) == len(world.effects)
        missing = set(world.due) - set(world.effects)
        if "more" not in expired:
            assert all(one in expired for one in missing)
        assert set(world.effects) <= set(world.due)
        if not world.lost_any:
            assert world.effects == sorted(world.effects, key=lambda one: int(one[5:]))
        assert world.book.reports.pending(1_000) == ((), ())
        assert len(world.outbox.held) == 0
        await world.die()
        world.book.close()

    run_simulated(main, seed=seed)


@settings(max_examples=25)
@given(st.lists(OPERATIONS, min_size=4, max_size=16), st.integers(0, 100))
@example([("deaf", 1), ("train", 3), ("wait", 80.0)], 0)
@example([("deaf", 1), ("train", 3), ("die", 0), ("train", 4)], 1)
@example([("refuse", 1), ("train", 4), ("wait", 3.0), ("refuse", 0), ("train", 2)], 2)
@example([("train", 3), ("keep", 0), ("train", 3), ("die", 0), ("train", 4)], 3)
@example([("lose", 1), ("train", 3), ("lose", 0), ("wait", 80.0)], 4)
@example([("refuse", 1), ("train", 3), ("jump", 30 * 3600.0), ("wait", 80.0)], 5)
def test_every_report_reaches_its_reader_once_and_in_order(
    operations: list[tuple[str, float]], seed: int
) -> None:
    check_life(operations, seed)


@pytest.mark.slow
@settings(max_examples=500)
@given(st.lists(OPERATIONS, max_size=40), st.integers(0, 10_000))
def test_every_report_reaches_its_reader_once_and_in_order_in_long_lives(
    operations: list[tuple[str, float]], seed: int
) -> None:
    check_life(operations, seed)


def in_world(operations: Sequence[tuple[str, float]]) -> World:
    return run_simulated(lambda: lived(operations), seed=0)


def test_a_report_that_nobody_reads_is_sent_again_ever_more_rarely_and_under_new_event_ids() -> None:
    async def main() -> None:
        world = World(JumpingClock(asyncio.get_running_loop()))
        world.loses = True
        await world.live()
        await world.train(2)
        assert world.published == ["run-r1"]
        await asyncio.sleep(600)
        assert len(set(world.published)) == len(world.published)
        assert 10 <= len(world.published) <= 18
        assert world.outbox.resent == len(world.published) - 1
        world.clock.ahead_s = DAY_S
        await asyncio.sleep(2 * TIDY_EVERY_S)
        many = len(world.published)
        assert world.alerts == [
            ("field_reports_expired", "nobody has acknowledged them within a day: run-r1")
        ]
        await asyncio.sleep(2 * WAIT_MAX_S)
        assert len(world.published) == many
        await world.die()

    run_simulated(main, seed=0)


def test_what_is_not_on_the_disk_is_not_announced_and_that_is_said() -> None:
    async def main() -> None:
        world = World(JumpingClock(asyncio.get_running_loop()))
        await world.live()
        await asyncio.sleep(1)
        world.scribe.broken = "the disk is full"
        await world.train(3)
        assert (world.published, world.effects) == ([], [])
        assert world.alerts == [("field_reports_lost", "run-r1 could not be kept: the disk is full")]
        (last,) = await world.reports.ask(CloseWindows(state(5), view(5)), deadline_s=1.0)
        assert last.report_id == "run-cut200-1"
        told = "3 reports in all could not be kept, and were not announced"
        assert world.alerts[1:] == [("field_reports_lost", told)]
        assert world.published == []
        await world.die()

    run_simulated(main, seed=0)


class Slow(InlineScribe):
    """A disk that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def run(self, work: Callable[[Book], T]) -> T:
        await self.answers.wait()
        return await super().run(work)


def test_nobody_but_an_announcement_waits_for_the_disk() -> None:
    async def main() -> None:
        clock, scribe = JumpingClock(asyncio.get_running_loop()), Slow()
        world = World(clock)
        bus: Bus = FlakyBus(world)
        alerts: list[str] = []
        post = Post(bus, scribe, Outbox(), lambda name, text: alerts.append(text))
        system = ActorSystem(clock, random.Random(0), threads=InlineThreads())
        observation = Observation("run", "v1", 1)
        world.reports = system.spawn("reports", lambda: Reports(observation, clock, post))
        async with system:
            for epoch in range(ERRANDS_MAX + 10):
                await world.reports.tell(decided(epoch))
            memory = await world.reports.ask(RememberWindows(), deadline_s=0.1)
            assert memory.written == ERRANDS_MAX + 9
            assert await world.reports.ask(RecallWindows(memory), deadline_s=0.1)
            assert world.published == []
            scribe.answers.set()
            await asyncio.sleep(20 * ANNOUNCE_EVERY_S)
            lost = memory.written - len(world.effects)
            assert 0 < lost <= 10
            await world.reports.ask(CloseWindows(state(999), view(999)), deadline_s=1.0)
            first = f"run-r{memory.written - lost + 1} could not be kept: too many wait for the disk"
            assert alerts == [first, f"{lost} reports in all could not be kept, and were not announced"]

    run_simulated(main, seed=0)


def test_what_a_full_bus_refused_is_tried_once_more_when_the_run_ends() -> None:
    async def main() -> None:
        world = World(JumpingClock(asyncio.get_running_loop()))
        world.refuses = True
        await world.live()
        await world.train(3)
        await asyncio.sleep(WAIT_MAX_S)
        world.refuses = False
        assert world.published == [], "the next try is far off"
        await world.reports.ask(CloseWindows(state(5), view(5)), deadline_s=1.0)
        assert world.published == ["run-r1", "run-r2", "run-cut200-1"]
        await world.die()

    run_simulated(main, seed=0)


def test_the_reports_of_the_last_windows_are_on_the_disk_before_the_answer_comes() -> None:
    async def main() -> None:
        world = World(JumpingClock(asyncio.get_running_loop()))
        world.refuses = True
        await world.live()
        await world.train(1)
        (last,) = await world.reports.ask(CloseWindows(state(5), view(5)), deadline_s=1.0)
        assert [one.report_id for one in world.book.reports.pending(9).reports] == [last.report_id]
        assert world.published == []
        await world.die()

    run_simulated(main, seed=0)


def test_a_report_that_was_taken_and_says_something_else_now_is_told() -> None:
    async def main() -> None:
        world = World(JumpingClock(asyncio.get_running_loop()))
        await world.live()
        await world.train(3)
        await world.die()
        await world.live()  # at epoch 0 again, with other numbers
        await world.reports.tell(decided(1, loss=9.0))
        await world.reports.tell(decided(2))
        await asyncio.sleep(1)
        told = "run-r1 was taken before and says something else now; it stays as it was"
        assert world.alerts == [("field_report_refused", told)]
        assert world.effects == ["run-r1", "run-r2"]
        await world.die()

    run_simulated(main, seed=0)


def test_damaged_reports_are_told_once_and_the_others_go_out() -> None:
    async def main() -> None:
        world = World(JumpingClock(asyncio.get_running_loop()))
        world.refuses = True
        await world.live()
        await world.train(4)
        await world.die()
        world.book.run("UPDATE reports SET payload = ? WHERE report_id = 'run-r1'", b"x")
        world.refuses = False
        await world.live()
        await asyncio.sleep(3 * TIDY_EVERY_S)
        assert world.alerts == [("field_reports_damaged", "they can't be announced: run-r1")]
        assert world.effects == ["run-r2", "run-r3"]
        await world.die()

    run_simulated(main, seed=0)


def test_a_whole_run_leaves_no_report_unread() -> None:
    world = in_world([("train", 30), ("die", 0), ("train", 4)])
    assert world.effects == [f"run-r{number}" for number in range(1, 30)]
