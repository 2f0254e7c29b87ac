"""The governor's account of work and rest, with a clock and a block that only pretend."""

import selectors
import threading

import pytest

from actors.runtime.governor import LOOK_EVERY_S, RESTS_MAX, GovernedSelector, Governor, governed_loop


class Pretend:
    """Time that passes when the selector blocks or the test says that the loop works."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rests: list[float] = []

    def block(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds


def make(governor: Governor) -> tuple[Pretend, GovernedSelector]:
    pretend = Pretend()
    return pretend, GovernedSelector(governor, now=lambda: pretend.now, block=pretend.block)


def work(pretend: Pretend, selector: GovernedSelector, seconds: float, turns: int) -> None:
    for _ in range(turns):
        pretend.now += seconds
        selector.select(0)


def test_a_busy_loop_rests_in_proportion_to_its_work() -> None:
    governor = Governor(work_s=0.002, rest_s=0.001)
    governor.active = True
    pretend, selector = make(governor)
    work(pretend, selector, 0.0001, 201)
    selector.close()
    assert 9 <= governor.rests <= 10
    assert sum(pretend.rests) == pytest.approx(0.0001 * 200 / 2, rel=0.1)


def test_a_long_burst_is_paid_back_at_once_up_to_a_bound() -> None:
    governor = Governor(work_s=0.002, rest_s=0.001)
    governor.active = True
    pretend, selector = make(governor)
    selector.select(0)
    work(pretend, selector, 0.005, 1)
    assert pretend.rests == [pytest.approx(0.0025)]
    work(pretend, selector, 0.0001, 1)
    work(pretend, selector, 60.0, 1)
    selector.close()
    assert pretend.rests[1:] == [pytest.approx(RESTS_MAX * 0.001)]


def test_nothing_rests_while_no_training_thread_runs() -> None:
    governor = Governor()
    pretend, selector = make(governor)
    work(pretend, selector, 0.01, 50)
    selector.close()
    assert pretend.rests == []


def test_nothing_rests_at_a_boundary_and_others_are_told_to_keep_quiet() -> None:
    governor = Governor()
    governor.active = True
    pretend, selector = make(governor)
    work(pretend, selector, 0.0001, 5)
    governor.boundary_active = True
    assert governor.boundary_quiet()
    work(pretend, selector, 0.01, 50)
    assert pretend.rests == []
    governor.boundary_active = False
    assert not governor.boundary_quiet()
    work(pretend, selector, 0.01, 2)
    selector.close()
    assert governor.rests == 1


def test_a_rest_ends_at_once_when_a_boundary_begins() -> None:
    governor = Governor(rest_s=600.0)
    governor.active = True
    resting = threading.Event()

    def rest(seconds: float) -> None:
        resting.set()
        governor.rest(seconds)

    def begin_a_boundary() -> None:
        resting.wait()
        governor.boundary_active = True

    pretend = Pretend()
    selector = GovernedSelector(governor, now=lambda: pretend.now, block=rest)
    selector.select(0)
    trainer = threading.Thread(target=begin_a_boundary)
    trainer.start()
    work(pretend, selector, 0.01, 1)  # 600 s are ordered, which no test may take
    trainer.join()
    work(pretend, selector, 0.01, 5)
    selector.close()
    assert governor.rests == 1, "it did rest, and no more once the boundary had begun"


def test_a_rest_that_is_ordered_as_a_boundary_begins_takes_no_time() -> None:
    governor = Governor()
    governor.boundary_active = True
    governor.rest(600.0)  # which no test may take
    assert governor.boundary_active


def test_a_loop_that_really_waits_owes_nothing() -> None:
    governor = Governor(work_s=0.002, rest_s=0.001)
    governor.active = True
    pretend = Pretend()

    def now() -> float:
        pretend.now += 0.0006  # every look finds the loop having waited as long as it worked
        return pretend.now

    selector = GovernedSelector(governor, now=now, block=pretend.block)
    for _ in range(100):
        selector.select(0)
    selector.close()
    assert pretend.rests == []


def test_a_select_that_returns_at_once_is_no_rest() -> None:
    governor = Governor(work_s=0.002, rest_s=0.001)
    governor.active = True
    pretend = Pretend()

    def now() -> float:
        pretend.now += 0.00001  # as long inside select as outside, far too short for another thread
        return pretend.now

    selector = GovernedSelector(governor, now=now, block=pretend.block)
    while pretend.now < 100.03:
        selector.select(0)
    selector.close()
    assert 8 <= governor.rests <= 10


def test_a_loop_with_work_at_hand_looks_for_more_only_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float | None] = []
    monkeypatch.setattr(
        selectors.DefaultSelector, "select", lambda _, timeout=None: looks.append(timeout) or []
    )
    governor = Governor()
    pretend, selector = make(governor)
    work(pretend, selector, LOOK_EVERY_S / 10, 101)
    assert 10 <= len(looks) <= 11
    selector.select(LOOK_EVERY_S)
    selector.select(None)
    selector.close()
    assert looks[-2:] == [LOOK_EVERY_S, None], "who has nothing at hand always looks"


def test_the_governed_loop_runs_what_any_loop_runs() -> None:
    async def main() -> int:
        return 5

    governor = Governor()
    governor.active = True
    loop = governed_loop(governor)
    try:
        assert loop.run_until_complete(main()) == 5
    finally:
        loop.close()
