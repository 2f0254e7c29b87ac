"""A delivery is acknowledged when its line is on the disk, and not much later whatever the disk does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from actors.nissa.journal import Journal
from actors.nissa.pledge import HELD_MAX, HELD_S, Pledge
from actors.oona.bus import Delivery
from actors.runtime.clock import Clock


@dataclass
class Disk:
    """A journal that lands when it is told to, and the clock beside it."""

    broken: str = ""
    full: bool = False
    now_s: float = 100.0
    marks: list[Callable[[], None]] = field(default_factory=list)

    def mark(self, landed: Callable[[], None]) -> bool:
        if not self.broken and not self.full:
            self.marks.append(landed)
        return not self.broken and not self.full

    def monotonic(self) -> float:
        return self.now_s


class World:
    def __init__(self) -> None:
        self.disk = Disk()
        self.pledge = Pledge(cast(Journal, self.disk), cast(Clock, self.disk))
        self.acknowledged: list[int] = []
        self.heard = 0

    def hear(self, count: int = 1) -> None:
        for _ in range(count):
            self.pledge.add(cast(Delivery, _Told(self.heard, self.acknowledged)))
            self.heard += 1


@dataclass
class _Told:
    number: int
    log: list[int]

    def ack(self) -> None:
        self.log.append(self.number)


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_not_on_the_disk_is_not_acknowledged(world: World) -> None:
    world.hear(2)
    world.pledge.redeem()
    world.hear()
    world.pledge.redeem()
    assert world.acknowledged == []
    world.disk.marks[0]()
    world.pledge.redeem()
    assert world.acknowledged == [0, 1]
    world.disk.marks[1]()
    world.pledge.redeem()
    assert world.acknowledged == [0, 1, 2]


def test_nothing_is_marked_where_nothing_was_heard(world: World) -> None:
    world.pledge.redeem()
    assert world.disk.marks == []


def test_a_slow_disk_keeps_the_bus_for_a_moment_only(world: World) -> None:
    world.hear()
    world.pledge.redeem()
    world.disk.now_s += HELD_S
    world.pledge.redeem()
    assert world.acknowledged == []
    world.disk.now_s += 0.001
    world.pledge.redeem()
    assert world.acknowledged == [0]


def test_too_much_is_acknowledged_at_once(world: World) -> None:
    world.hear(HELD_MAX)
    world.pledge.redeem()
    assert world.acknowledged == []
    world.hear()
    assert world.acknowledged == list(range(HELD_MAX + 1))
    world.hear()
    assert len(world.acknowledged) == HELD_MAX + 1, "and what comes then waits again"


@pytest.mark.parametrize("how", ["broken", "full"])
def test_a_journal_that_takes_nothing_holds_nothing_up(world: World, how: str) -> None:
    world.hear()
    world.pledge.redeem()
    setattr(world.disk, how, "the disk is gone" if how == "broken" else True)
    world.hear()
    world.pledge.redeem()
    assert world.acknowledged == ([0, 1] if how == "broken" else [1])


def test_at_the_end_nothing_is_left(world: World) -> None:
    world.hear()
    world.pledge.redeem()
    world.hear()
    world.pledge.redeem_all()
    assert world.acknowledged == [0, 1]
    world.pledge.redeem()
    assert world.acknowledged == [0, 1]
