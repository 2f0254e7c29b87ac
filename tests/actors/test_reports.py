"""Claims about field reports on their way: one on each command, of what has happened, in order."""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.oona.bus import Outcome, Receipt
from actors.oona.errors import QueueFullError
from actors.oona.memory import MemoryBus
from actors.oona.priority import Priority
from actors.oona.topics import run_topics
from actors.reports import (
    ANNOUNCE_EVERY_S,
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
from contracts.messages import FieldReport, FieldReportOutcome
from esper.journal.book import Book, in_memory
from esper.journal.outbox import WAIT_MAX_S, Outbox
from esper.tamiyo import observation as observation_module
from esper.tamiyo.action import Wait, command_for
from esper.tamiyo.observation import CLOSED_MAX, UNDONE, Observation, ObservationMemory, report_id_of
from tests.esper.tamiyo.views import state, view

T = TypeVar("T")
DAY_S = 24 * 3600.0
READER = "reader"
WINDOW = 2
"""Epochs."""
BOUNDARIES = 3
"""Moments in memory."""


def decided(epoch: int, loss: float = 1.0, number: int = 0) -> Decided:
    command = command_for(Wait(), f"run-c{number or epoch}", "later", 0)
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


@dataclass(frozen=True)
class History:
    """What has happened up to a boundary, as who sees everything would tell it."""

    epoch: int = 0
    losses: tuple[float, ...] = (0.0,)
    """By epoch."""
    commands: tuple[tuple[str, int], ...] = ()
    """Each with the epoch of its boundary."""
    undone: frozenset[str] = frozenset()

    def trained(self, loss: float) -> "History":
        return replace(self, epoch=self.epoch + 1, losses=(*self.losses, loss))

    def decided(self, command_id: str) -> "History":
        return replace(self, commands=(*self.commands, (command_id, self.epoch)))

    def back_at(self, then: "History") -> "History":
        """A rollback: what was decided since is undone."""
        gone = {name for name, _ in self.commands} - {name for name, _ in then.commands}
        return replace(then, undone=self.undone | gone)


@dataclass(frozen=True)
class Moment:
    """All that a run goes on from, before anything is decided at its boundary."""

    history: History
    windows: ObservationMemory
    issued: int


@dataclass
class World:
    """A run with its disk and its reader; `live` and `die` begin and end a process of it."""

    clock: JumpingClock
    window: int = WINDOW
    book: Book = field(default_factory=in_memory)
    refuses: bool = False
    loses: bool = False
    deaf: bool = False
    lost_any: bool = False
    history: History = History()
    issued: int = 0
    """Commands; no process uses an id twice, and one that is resumed goes on with those of its checkpoint."""
    tokens: int = 0
    moments: list[Moment] = field(default_factory=list)
    """In memory."""
    checkpoint: Moment | None = None
    of_this_life: bool = False
    """The checkpoint is of what has happened since the last rollback, or there was none."""
    published: list[str] = field(default_factory=list)
    effects: list[FieldReport] = field(default_factory=list)
    """What the reader has taken, for good."""
    alerts: list[tuple[str, str]] = field(default_factory=list)
    acknowledging: list[asyncio.Future[None]] = field(default_factory=list)
    settles: Callable[[], float] | None = None
    """Says what is settled, in place of the moments and checkpoints there are."""

    async def live(self) -> None:
        """Begin a process: at the checkpoint, or at the beginning."""
        at = self.checkpoint or Moment(History(), ObservationMemory(), 0)
        self.observation = Observation("run", "v1", self.window)
        self.observation.recall(at.windows)
        self.history, self.issued, self.moments = at.history, at.issued, []
        self.of_this_life = self.checkpoint is not None
        self.published.clear()
        self.scribe = InlineScribe(self.book)
        self.outbox = Outbox()
        post = Post(FlakyBus(self), self.scribe, self.outbox, self.alert, self.settles or self.settled)
        self.system = ActorSystem(self.clock, random.Random(0), threads=InlineThreads())
        self.reports = self.system.spawn("reports", lambda: Reports(self.observation, self.clock, post))
        await self.system.start()
        if self.checkpoint is not None:
            await self.boundary()

    async def die(self) -> None:
        await self.system.stop(0.0)
        for task in self.acknowledging:
            task.cancel()

    def alert(self, name: str, text: str) -> None:
        self.alerts.append((name, text))

    def settled(self) -> float:
        """As `Keeper` has it."""
        disk = self.checkpoint.history.epoch if self.checkpoint is not None and self.of_this_life else -1
        return min(disk, self.moments[0].history.epoch) if self.moments else disk

    def read(self, report: FieldReport) -> None:
        """The reader takes a report, notes it with what it makes of it, and says so."""
        with self.book.transaction():
            new = self.book.seen.take(READER, report.report_id)
        if new:
            self.effects.append(report)
        if not self.deaf:
            told = self.reports.tell(ReportsRead((report.report_id,)))
            self.acknowledging.append(asyncio.ensure_future(told))

    @property
    def read_ids(self) -> list[str]:
        return [report.report_id for report in self.effects]

    async def train(self, epochs: int) -> None:
        for _ in range(epochs):
            self.tokens += 1
            self.history = self.history.trained(self.tokens**0.5)  # another loss each time it is trained
            await self.boundary()
            await asyncio.sleep(0.1)

    async def boundary(self) -> None:
        """Keep the moment, then decide."""
        windows = await self.reports.ask(RememberWindows(), deadline_s=1.0)
        self.moments = [*self.moments, Moment(self.history, windows, self.issued)][-BOUNDARIES:]
        self.issued += 1
        history = self.history
        one = decided(history.epoch, history.losses[-1], self.issued)
        self.history = history.decided(one.command.command_id)
        await self.reports.tell(one)

    def save(self) -> None:
        """The newest moment is on the disk."""
        if self.moments:
            self.checkpoint, self.of_this_life = self.moments[-1], True

    async def go_back(self, pass_over: int) -> None:
        """Return to an earlier moment, and decide there again."""
        if not self.moments:
            return
        to = self.moments[max(0, len(self.moments) - 1 - pass_over)]
        await self.reports.ask(RecallWindows(to.windows), deadline_s=1.0)
        await asyncio.sleep(2 * ANNOUNCE_EVERY_S)  # the trainer goes back, then who keeps moments
        self.history = self.history.back_at(to.history)
        self.moments = [one for one in self.moments if one.history.epoch < to.history.epoch]
        self.of_this_life = False
        await self.boundary()

    async def end(self, *, resumable: bool) -> tuple[FieldReport, ...]:
        epoch, loss = self.history.epoch, self.history.losses[-1]
        last = CloseWindows(state(epoch, loss=loss), view(epoch), resumable)
        return await self.reports.ask(last, deadline_s=1.0)


OPERATIONS = st.one_of(
    st.tuples(st.just("train"), st.integers(1, 4)),
    st.tuples(st.just("train"), st.integers(1, 4)),
    st.tuples(st.just("save"), st.just(0)),
    st.tuples(st.just("go back"), st.integers(0, BOUNDARIES)),
    st.tuples(st.just("die"), st.just(0)),
    st.tuples(st.just("interrupt"), st.integers(0, 1)),
    st.tuples(st.just("wait"), st.sampled_from([0.3, 3.0, 80.0])),
    st.tuples(st.just("jump"), st.sampled_from([-3600.0, 9 * 3600.0])),
    st.tuples(st.sampled_from(["refuse", "lose", "deaf", "break"]), st.integers(0, 1)),
)


GOES_ON = (("train", 3), ("save", 0), ("train", 4))


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
        case "break":
            world.scribe.broken = "the disk is full" if amount else ""
        case "save":
            world.save()
        case "go back":
            await world.go_back(int(amount))
        case "interrupt":
            if amount:
                world.save()
            await world.end(resumable=True)
            await world.die()
            await world.live()
        case "die":
            await world.die()
            await world.live()


async def lived(operations: Sequence[tuple[str, float]]) -> World:
    """A run to its end; then everybody has time to hear of everything."""
    world = World(JumpingClock(asyncio.get_running_loop(), wall_ns=10**18))
    await world.live()
    for name, amount in operations:
        await carry_out(world, name, amount)
    world.refuses = world.loses = world.deaf = False
    world.scribe.broken = ""
    await world.end(resumable=False)
    await asyncio.sleep(WAIT_MAX_S + TIDY_EVERY_S)
    return world


def expected(world: World) -> dict[str, tuple[str, float | None]]:
    """By the id of each command that was issued: the notes of its one report, and what the loss did."""
    history = world.history
    told: dict[str, tuple[str, float | None]] = dict.fromkeys(history.undone, (UNDONE, None))
    for name, opened in history.commands:
        closed = min(opened + WINDOW, history.epoch)
        told[name] = ("", history.losses[closed] - history.losses[opened])
    return told


def check_life(operations: list[tuple[str, float]], seed: int) -> None:
    """One report on each command, of what has happened, in order; `seed` orders what is ready at once."""

    async def main() -> None:
        world = await lived(operations)
        expired = " ".join(text for name, text in world.alerts if name == "field_reports_expired")
        assert {name for name, _ in world.alerts} <= {"field_reports_expired"}
        assert len(set(world.read_ids)) == len(world.effects)
        due = expected(world)
        got = {one.command_id: one for one in world.effects}
        assert got.keys() <= due.keys()
        if "more" not in expired:
            assert all(report_id_of(name) in expired for name in due.keys() - got.keys())
        for name, report in got.items():
            notes, delta = due[name]
            assert report.notes == notes
            assert (report.outcome is FieldReportOutcome.ABORTED) == (notes == UNDONE)
            assert delta is None or report.metrics["loss_delta"] == delta
        if not world.lost_any:
            order = [name for name, _ in world.history.commands]
            assert [one.command_id for one in world.effects if one.command_id in order] == [
                name for name in order if name in got
            ]
        assert world.book.reports.pending(1_000) == ((), ())
        assert len(world.outbox.held) == 0
        await world.die()
        world.book.close()

    run_simulated(main, seed=seed)


@settings(max_examples=25)
@given(st.lists(OPERATIONS, min_size=4, max_size=16), st.integers(0, 100))
@example([("deaf", 1), ("train", 3), ("wait", 80.0)], 0)
@example([("deaf", 1), ("train", 3), ("save", 0), ("train", 4), ("die", 0), ("train", 4)], 1)
@example([("refuse", 1), ("train", 4), ("wait", 3.0), ("refuse", 0), ("train", 2)], 2)
@example([("train", 3), ("save", 0), ("train", 3), ("die", 0), ("train", 4)], 3)
@example([("lose", 1), ("train", 6), ("save", 0), ("lose", 0), ("wait", 80.0)], 4)
@example([("refuse", 1), ("train", 6), ("save", 0), ("jump", 30 * 3600.0), ("wait", 80.0)], 5)
@example([("train", 6), ("save", 0), ("train", 3), ("go back", 2), ("train", 5)], 6)
@example([("train", 4), ("save", 0), ("train", 2), ("go back", 2), ("die", 0), ("train", 3)], 7)
@example([("train", 5), ("go back", 1), ("save", 0), ("die", 0), ("train", 2), ("go back", 3)], 8)
@example([("train", 5), ("interrupt", 1), ("train", 2), ("interrupt", 0), ("train", 3)], 9)
@example([("break", 1), ("train", 6), ("save", 0), ("train", 2), ("die", 0), ("train", 2)], 10)
@example([*GOES_ON, ("break", 1), ("train", 4), ("save", 0), ("train", 3), ("save", 0), ("die", 0)], 11)
@example([*GOES_ON, ("save", 0), ("train", 1), ("go back", 3), ("train", 4), ("die", 0), ("train", 4)], 12)
@example([*GOES_ON, ("train", 1), ("save", 0), ("go back", 3), ("die", 0), ("train", 4)], 13)
def test_every_command_has_one_report_of_what_has_happened(
    operations: list[tuple[str, float]], seed: int
) -> None:
    check_life(operations, seed)


@pytest.mark.slow
@settings(max_examples=500)
@given(st.lists(OPERATIONS, max_size=40), st.integers(0, 10_000))
def test_every_command_has_one_report_of_what_has_happened_in_long_lives(
    operations: list[tuple[str, float]], seed: int
) -> None:
    check_life(operations, seed)


def in_world(main: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Whose windows last an epoch, and which can't go back: what is closed is settled."""

    async def lives() -> None:
        world = World(JumpingClock(asyncio.get_running_loop()), window=1)
        world.settles = lambda: math.inf
        await world.live()
        await main(world)
        await world.die()

    run_simulated(lives, seed=0)


def test_a_report_that_nobody_reads_is_sent_again_ever_more_rarely_and_under_new_event_ids() -> None:
    async def main(world: World) -> None:
        world.loses = True
        await world.train(2)
        assert world.published == ["run-c1-r"]
        await asyncio.sleep(600)
        assert len(set(world.published)) == len(world.published)
        assert 10 <= len(world.published) <= 18
        assert world.outbox.resent == len(world.published) - 1
        world.clock.ahead_s = DAY_S
        await asyncio.sleep(2 * TIDY_EVERY_S)
        many = len(world.published)
        assert world.alerts == [
            ("field_reports_expired", "nobody has acknowledged them within a day: run-c1-r")
        ]
        await asyncio.sleep(2 * WAIT_MAX_S)
        assert len(world.published) == many

    in_world(main)


def test_what_a_disk_does_not_take_waits_and_is_announced_once_it_does() -> None:
    async def main(world: World) -> None:
        await asyncio.sleep(1)
        world.scribe.broken = "the disk is full"
        await world.train(3)
        assert (world.published, world.alerts) == ([], [])
        assert [one.report.report_id for one in world.observation.remember().closed] == [
            "run-c1-r",
            "run-c2-r",
        ]
        world.scribe.broken = ""
        await asyncio.sleep(2 * ANNOUNCE_EVERY_S)
        assert world.published == ["run-c1-r", "run-c2-r"]
        assert world.observation.remember().closed == ()

    in_world(main)


def test_what_is_not_on_the_disk_when_the_run_ends_is_not_announced_and_that_is_said() -> None:
    async def main(world: World) -> None:
        await asyncio.sleep(1)
        world.scribe.broken = "the disk is full"
        await world.train(5)
        (last,) = await world.end(resumable=False)
        assert last.report_id == "run-c5-r"
        names = "run-c1-r, run-c2-r, run-c3-r and 2 more"
        assert world.alerts == [
            ("field_reports_lost", f"{names} could not be kept: the disk is full"),
            ("field_reports_lost", "5 reports in all could not be kept, and were not announced"),
        ]
        assert world.published == []

    in_world(main)


class Slow(InlineScribe):
    """A disk that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def run(self, work: Callable[[Book], T], *, hurry: bool = False) -> T:
        await self.answers.wait()
        return await super().run(work)


def test_nobody_but_an_announcement_waits_for_the_disk() -> None:
    async def main() -> None:
        clock, scribe = JumpingClock(asyncio.get_running_loop()), Slow()
        world = World(clock)
        alerts: list[str] = []
        post = Post(FlakyBus(world), scribe, Outbox(), lambda name, text: alerts.append(text), lambda: 10**6)
        system = ActorSystem(clock, random.Random(0), threads=InlineThreads())
        observation = Observation("run", "v1", 1)
        world.reports = system.spawn("reports", lambda: Reports(observation, clock, post))
        async with system:
            many = CLOSED_MAX + 10
            for epoch in range(1, many + 2):
                await world.reports.tell(decided(epoch))
                await asyncio.sleep(0.001)
            memory = await world.reports.ask(RememberWindows(), deadline_s=0.1)
            assert len(memory.closed) == CLOSED_MAX
            assert await world.reports.ask(RecallWindows(memory), deadline_s=0.1)
            assert world.published == []
            scribe.answers.set()
            await asyncio.sleep(20 * ANNOUNCE_EVERY_S)
            assert world.read_ids[0] == "run-c1-r", "it was on its way before it was given up"
            assert world.read_ids[1:] == [f"run-c{number}-r" for number in range(11, many + 1)]
            await world.reports.ask(CloseWindows(state(999), view(999)), deadline_s=1.0)
            first = "run-c1-r could not be kept: the disk is too slow for them"
            assert alerts == [first, "10 reports in all could not be kept, and were not announced"]

    run_simulated(main, seed=0)


def test_that_reports_are_told_before_their_time_is_said_once_for_each_checkpoint_that_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observation_module, "UNSETTLED_MAX", 3)
    told = "no checkpoint has come to the disk for too long: reports are told that a resume may undo"
    settled = [-1.0]

    async def main() -> None:
        world = World(JumpingClock(asyncio.get_running_loop()), window=1)
        world.settles = lambda: settled[0]
        await world.live()
        await world.train(4)
        assert (world.published, world.alerts) == ([], [])
        await world.train(2)
        assert world.published == ["run-c1-r", "run-c2-r"]
        assert world.alerts == [("field_reports_unsettled", told)]
        await world.train(2)
        assert len(world.alerts) == 1
        settled[0] = 8.0  # a checkpoint has come
        await world.train(2)
        assert len(world.alerts) == 1
        await world.train(2)
        assert len(world.alerts) == 2
        await world.die()

    run_simulated(main, seed=0)


def test_what_a_full_bus_refused_is_tried_once_more_when_the_run_ends() -> None:
    async def main(world: World) -> None:
        world.refuses = True
        await world.train(3)
        await asyncio.sleep(WAIT_MAX_S)
        world.refuses = False
        assert world.published == [], "the next try is far off"
        await world.end(resumable=False)
        assert world.published == ["run-c1-r", "run-c2-r", "run-c3-r"]

    in_world(main)


def test_the_reports_of_the_last_windows_are_on_the_disk_before_the_answer_comes() -> None:
    async def main(world: World) -> None:
        world.refuses = True
        await world.train(1)
        (last,) = await world.end(resumable=False)
        assert [one.report_id for one in world.book.reports.pending(9).reports] == [last.report_id]
        assert world.published == []

    in_world(main)


def test_what_an_interrupt_cut_off_is_told_to_nobody_but_who_asks() -> None:
    async def main(world: World) -> None:
        await world.train(2)
        (cut,) = await world.end(resumable=True)
        assert (cut.report_id, cut.observation_window_epochs) == ("run-c2-r", 0)
        assert world.read_ids == ["run-c1-r"]
        assert world.book.reports.pending(9).reports == ()

    in_world(main)


def test_a_run_that_is_made_longer_leaves_the_reports_of_its_first_end_as_they_are() -> None:
    async def main() -> None:
        world = World(JumpingClock(asyncio.get_running_loop()))
        await world.live()
        await world.train(3)
        world.save()
        await world.end(resumable=False)
        await asyncio.sleep(1)
        await world.die()
        await world.live()
        await world.train(3)
        await world.end(resumable=False)
        await asyncio.sleep(1)
        assert world.alerts == []
        assert world.read_ids == [f"run-c{number}-r" for number in range(1, 7)]
        assert [one.observation_window_epochs for one in world.effects] == [2, 1, 0, 2, 1, 0]
        await world.die()

    run_simulated(main, seed=0)


def test_a_report_that_was_taken_and_says_something_else_now_is_told() -> None:
    async def main(world: World) -> None:
        await world.train(3)
        await world.die()
        await world.live()  # without a checkpoint: at epoch 0 again, with other numbers
        await world.reports.tell(decided(1, loss=9.0))
        await world.reports.tell(decided(2))
        await asyncio.sleep(1)
        told = "run-c1-r was taken before and says something else now; it stays as it was"
        assert world.alerts == [("field_report_refused", told)]
        assert world.read_ids == ["run-c1-r", "run-c2-r"]

    in_world(main)


def test_damaged_reports_are_told_once_and_the_others_go_out() -> None:
    async def main(world: World) -> None:
        world.refuses = True
        await world.train(4)
        await world.die()
        world.book.run("UPDATE reports SET payload = ? WHERE report_id = 'run-c1-r'", b"x")
        world.refuses = False
        await world.live()
        await asyncio.sleep(3 * TIDY_EVERY_S)
        assert world.alerts == [("field_reports_damaged", "they can't be announced: run-c1-r")]
        assert world.read_ids == ["run-c2-r", "run-c3-r"]

    in_world(main)
