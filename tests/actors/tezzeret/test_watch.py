"""A job's limits: time in which the machine ran others is not held against it, but not for ever."""

import pytest

from actors.tezzeret.failures import OutOfMemory, TimedOut
from actors.tezzeret.watch import STARVED_TIMES, WATCH_S, Watch


class Figures:
    """What a watch asks of a process, and the clock, set by the test."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.starved_s = 7.0
        self.held = 0
        self.asked = 0

    def now(self) -> float:
        return self.now_s

    def queued_s(self) -> float:
        return self.starved_s

    def memory_bytes(self) -> int:
        self.asked += 1
        return self.held


@pytest.fixture
def figures() -> Figures:
    return Figures()


@pytest.fixture
def watch(figures: Figures) -> Watch:
    return Watch(figures, 2.0, 1000, figures.now)


def test_a_job_may_take_its_time_and_no_more(figures: Figures, watch: Watch) -> None:
    figures.now_s += 2.0
    watch.look()
    figures.now_s += 0.1
    with pytest.raises(TimedOut, match=r"not done after 2\.1 s; it may take 2 s"):
        watch.look()


def test_time_for_which_it_was_ready_and_others_ran_is_not_held_against_it(
    figures: Figures, watch: Watch
) -> None:
    figures.now_s += 12.0
    figures.starved_s += 10.5
    watch.look()
    figures.now_s += 0.6
    with pytest.raises(TimedOut, match=r"10\.5 s of it starved"):
        watch.look()


def test_a_job_that_starves_ends_too(figures: Figures, watch: Watch) -> None:
    figures.now_s += 2.0 * STARVED_TIMES + 0.1
    figures.starved_s += 2.0 * STARVED_TIMES
    with pytest.raises(TimedOut):
        watch.look()


def test_memory_above_the_limit_is_too_much(figures: Figures, watch: Watch) -> None:
    figures.held = 1000
    figures.now_s += WATCH_S
    watch.look()
    figures.held = 1001
    figures.now_s += WATCH_S
    with pytest.raises(OutOfMemory):
        watch.look()


def test_it_looks_no_more_often_than_needed(figures: Figures, watch: Watch) -> None:
    for _ in range(10):
        figures.now_s += WATCH_S / 2
        watch.look()
    assert 4 <= figures.asked <= 6
