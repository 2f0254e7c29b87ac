"""What beats, and their absence, come to: on moments that hypothesis chooses."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.watchman import DUMPS_A_STALL, NEVER, Dump, End, Limits, Order, Over, Vigil

LIMITS = Limits(loop_s=1.0, step_s=10.0, end_s=100.0)
gaps = st.lists(st.one_of(st.floats(0.01, 0.99), st.floats(1.01, 5.0)), min_size=1, max_size=40)
"""Seconds from one beat to the next, some too long."""


def watch(vigil: Vigil, until_s: float) -> list[Order]:
    """Look whenever something is due, up to `until_s`."""
    orders: list[Order] = []
    while vigil.due_s <= until_s:
        new = vigil.look(vigil.due_s)
        orders += new
        if any(isinstance(order, End) for order in new):
            break
    return orders


def lived(gaps_s: list[float], progress: list[int], *, looks: bool = True) -> list[Order]:
    """All orders of a run whose loop beats after these gaps."""
    vigil, at_s, orders = Vigil(LIMITS, 0.0), 0.0, list[Order]()
    for gap_s, done in zip(gaps_s, progress, strict=True):
        orders += watch(vigil, at_s + gap_s) if looks else []
        at_s += gap_s
        orders += vigil.beat(at_s, done)
    return orders


@given(gaps)
def test_there_is_one_end_for_each_stall_and_no_other(gaps_s: list[float]) -> None:
    orders = lived(gaps_s, [-1] * len(gaps_s))
    stalls = [gap_s for gap_s in gaps_s if gap_s >= LIMITS.loop_s]
    overs = [order for order in orders if isinstance(order, Over)]
    assert [over.until_s - over.since_s for over in overs] == pytest.approx(stalls)
    firsts = [order for order in orders if isinstance(order, Dump) and order.first]
    assert len(firsts) == len(overs), "each was dumped while it lasted"


@given(gaps)
def test_a_stall_that_nobody_could_look_at_in_time_is_told_all_the_same(gaps_s: list[float]) -> None:
    seen = lived(gaps_s, [-1] * len(gaps_s))
    unseen = lived(gaps_s, [-1] * len(gaps_s), looks=False)
    assert [one for one in seen if isinstance(one, Over)] == unseen


@given(st.lists(st.floats(0.01, 0.9), min_size=1, max_size=60))
def test_a_loop_that_beats_in_time_and_a_thread_that_steps_are_left_alone(gaps_s: list[float]) -> None:
    assert lived(gaps_s, list(range(len(gaps_s)))) == []


@given(st.integers(1, 60))
def test_a_thread_without_anything_to_do_is_never_blamed(beats: int) -> None:
    assert lived([0.5] * beats, [-1] * beats) == []


def test_a_thread_that_does_not_move_is_dumped_again_and_again_at_twice_the_time() -> None:
    orders = lived([0.5] * 200, [7] * 200)
    dumps = [order for order in orders if isinstance(order, Dump)]
    assert [order.first for order in dumps] == [True, False, False, False]
    assert {order.what for order in dumps} == {"step"}
    assert not any(isinstance(order, Over) for order in orders)
    moved = lived([0.5] * 201, [7] * 200 + [8])
    assert isinstance(moved[-1], Over)


def test_what_the_loop_stood_still_is_not_the_training_threads_fault() -> None:
    orders = lived([0.5] * 15 + [9.0] + [0.5] * 4, [7] * 20)
    assert {order.what for order in orders if isinstance(order, Dump | Over)} == {"loop"}


def test_a_process_without_a_sign_of_life_is_ended_and_dumped_a_bounded_number_of_times() -> None:
    vigil = Vigil(LIMITS, 0.0)
    orders = watch(vigil, NEVER)
    assert isinstance(orders[-1], End)
    assert sum(isinstance(order, Dump) for order in orders) == DUMPS_A_STALL
    moments = [order.since_s for order in orders if isinstance(order, Dump | End)]
    assert all(later == earlier for earlier, later in pairwise(moments)), "it is one stall"


def test_without_a_limit_nothing_is_ended() -> None:
    vigil = Vigil(Limits(1.0, 10.0, 0.0), 0.0)
    orders = [order for second in range(2000) for order in vigil.look(float(second))]
    assert len(orders) == DUMPS_A_STALL
    assert vigil.due_s == NEVER


def test_a_process_that_somebody_stopped_does_not_stall() -> None:
    vigil = Vigil(LIMITS, 0.0)
    vigil.beat(0.5, 3)
    vigil.rest(500.0)
    assert vigil.look(500.5) == []
    assert vigil.beat(500.6, 3) == []
