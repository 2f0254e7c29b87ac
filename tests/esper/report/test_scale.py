"""Axes: round ticks within the range, and coordinates that never leave the drawing."""

import math

from hypothesis import assume, given
from hypothesis import strategies as st

from esper.report.scale import Scale, around, log_ticks, tick_text, ticks

VALUES = st.floats(-1e9, 1e9)
ABOVE_ZERO = st.floats(1e-6, 1e9)


@given(VALUES, VALUES, st.integers(3, 10))
def test_ticks_are_few_ascending_and_within_the_range(a: float, b: float, most: int) -> None:
    low, high = sorted((a, b))
    assume(high - low > 1e-6 * max(1.0, abs(low), abs(high)))
    found = ticks(low, high, most)
    air = 1e-6 * (high - low)
    assert 1 <= len(found) <= most + 1
    assert found == sorted(set(found))
    assert all(low - air <= value <= high + air for value in found)


@given(VALUES, st.floats(1e-3, 1e9), st.integers(2, 10))
def test_steps_between_ticks_are_1_2_or_5_times_a_power_of_ten(low: float, span: float, most: int) -> None:
    assume(span > 1e-6 * abs(low))
    found = ticks(low, low + span, most)
    assume(len(found) > 1)
    step = found[1] - found[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 5, 10)) < 1e-3


@given(ABOVE_ZERO, st.floats(1.5, 1e9), st.integers(2, 10))
def test_logarithmic_ticks_are_few_and_within_the_range(low: float, ratio: float, most: int) -> None:
    found = log_ticks(low, low * ratio, most)
    assert 1 <= len(found) <= most + 1
    assert all(low * (1 - 1e-6) <= value <= low * ratio * (1 + 1e-6) for value in found)


def test_a_narrow_range_without_a_round_value_has_its_lower_end() -> None:
    assert log_ticks(500_000_001.0, 937_500_000.0, 2) == [500_000_001.0]


def test_a_range_without_width_has_one_tick() -> None:
    assert ticks(3.0, 3.0) == [3.0]
    assert log_ticks(3.0, 3.0) == [3.0]


@given(st.lists(VALUES, max_size=20))
def test_the_range_around_values_holds_them_all(values: list[float]) -> None:
    low, high = around(values)
    assert low < high
    assert all(low <= value <= high for value in values)


@given(VALUES, VALUES, VALUES)
def test_a_coordinate_never_leaves_the_drawing(a: float, b: float, value: float) -> None:
    low, high = sorted((a, b))
    assert 10.0 <= Scale(low, high, 10.0, 90.0)(value) <= 90.0 + 1e-9


def test_a_scale_may_run_upwards() -> None:
    scale = Scale(0.0, 10.0, 200.0, 0.0)
    assert (scale(0), scale(5), scale(10)) == (200.0, 100.0, 0.0)


def test_a_logarithmic_scale_gives_each_decade_the_same_room() -> None:
    scale = Scale(1.0, 100.0, 0.0, 2.0, log=True)
    assert math.isclose(scale(10.0), 1.0)


def test_a_tick_has_the_digits_that_its_step_needs() -> None:
    assert [tick_text(value, 0.05) for value in (0.0, 0.05, 0.1)] == ["0", "0.05", "0.10"]
    assert tick_text(1500, 500) == "1,500"
    assert tick_text(2e6, 1e6) == "2e6"
    assert tick_text(0.2, 0.0) == "0.2"
