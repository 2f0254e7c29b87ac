"""Figures as people read them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.report import words

FIGURES = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.count(5210), "5,210"),
        (words.count(12_340_000), "12.3 M"),
        (words.count(7_000_000_000), "7.00 G"),
        (words.counted(1, "seed", "seeds"), "1 seed"),
        (words.counted(1200, "seed", "seeds"), "1,200 seeds"),
        (words.flops(999_680_000), "1.00 GFLOP"),
        (words.flops(999_400_000), "999 MFLOP"),
        (words.flops(12_345_000_000), "12.3 GFLOP"),
        (words.flops(999), "999 FLOP"),
        (words.flops(0), "0 FLOP"),
        (words.percent(0.8934), "89.3 %"),
        (words.percent(None), "—"),
        (words.points(0.143), "+14.3 points"),
        (words.points(-0.02), "−2.0 points"),
        (words.figure(0.33121), "0.3312"),
        (words.figure(0.00001), "1.00e−05"),
        (words.figure(0.0), "0.0000"),
        (words.figure(123456.0), "1.23e+05"),
        (words.signed(0.5), "+0.5000"),
        (words.signed(-0.5), "−0.5000"),
        (words.signed(None), "—"),
        (words.milliseconds(0.0312), "31 µs"),
        (words.milliseconds(4.561), "4.56 ms"),
        (words.milliseconds(1234.5), "1,234 ms"),
        (words.duration(3.21), "3.2 s"),
        (words.duration(75), "1 m 15 s"),
        (words.duration(3725), "1 h 02 m"),
        (words.settings({"width": 8.0, "rate": 0.5}), "width 8, rate 0.5"),
        (words.bar(0.5, 4), "━━╌╌"),
        (words.bar(7.0, 4), "━━━━"),
    ],
)
def test_figures_are_said_plainly(said: str, expected: str) -> None:
    assert said == expected


@given(st.lists(st.none() | FIGURES, max_size=200), st.integers(1, 60))
def test_a_sparkline_never_is_wider_than_asked(values: list[float | None], width: int) -> None:
    assert len(words.sparkline(values, width)) <= min(width, len(values))


def test_a_sparkline_shows_the_least_and_the_greatest() -> None:
    assert words.sparkline([0.0, 1.0, 2.0, 7.0], 8) == "▁▂▃█"


def test_a_sparkline_leaves_blank_what_was_not_measured() -> None:
    assert words.sparkline([1.0, None, 2.0], 3) == "▁ █"
    assert words.sparkline([None, None], 2) == ""


@given(st.integers(1, 10**24))
def test_gflop_for_an_option_are_no_less_and_hardly_more(flops: int) -> None:
    text = words.gflop_above(flops)
    assert "e" not in text
    rounded = Decimal(text).scaleb(9)
    assert flops <= rounded <= flops * Decimal("1.01")
    assert len(str(int(rounded)).rstrip("0")) <= 3


def test_gflop_for_an_option_are_plain() -> None:
    assert [words.gflop_above(n) for n in (1, 704_000, 704_001, 30_000_000_000, 123_456 * 10**9)] == [
        "0.000000001", "0.000704", "0.000705", "30", "124000",
    ]  # fmt: skip
