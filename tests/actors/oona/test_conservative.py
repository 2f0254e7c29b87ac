"""Conservative mode begins at a cause and ends when it has been calm for long enough."""

import hypothesis.strategies as st
from hypothesis import given

from actors.oona.conservative import Conservative
from actors.oona.policy import ConservativePolicy

POLICY = ConservativePolicy(high_mark=10, low_mark=4, dwell_s=60)


def test_only_a_depth_above_the_high_mark_is_too_deep() -> None:
    mode = Conservative(POLICY)
    assert not mode.too_deep(10)
    assert mode.too_deep(11)


def test_a_new_cause_begins_the_dwell_anew() -> None:
    mode = Conservative(POLICY)
    assert mode.enter(0, "first")
    assert not mode.enter(50, "second")
    assert (mode.cause, mode.entered) == ("first", 1)
    assert not mode.review(109, 0)
    assert mode.review(110, 0)
    assert (mode.active, mode.cause) == (False, "")


@given(st.lists(st.tuples(st.floats(0.1, 40), st.integers(0, 15)), max_size=30))
def test_it_never_ends_at_or_above_the_low_mark_nor_before_the_dwell(steps: list[tuple[float, int]]) -> None:
    mode, now_s, last_cause_s = Conservative(POLICY), 0.0, -1e9
    for seconds, depth in steps:
        now_s += seconds
        if mode.too_deep(depth):
            mode.enter(now_s, "deep")
            last_cause_s = now_s
        before = mode.active
        left = mode.review(now_s, depth)
        calm = depth < 4 and now_s - last_cause_s >= 60
        assert left == (before and calm)
        assert mode.active == (before and not calm)
