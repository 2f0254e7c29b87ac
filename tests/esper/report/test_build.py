"""The report adds nothing to what was measured, and is on disk whole or not at all."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.report import BoundaryFacts, EpochFacts, FinalFacts
from esper.report.build import boundary, comparison, read, write
from tests.esper.report.made_up import a_report

TIMES = st.lists(st.floats(0.001, 1e3), min_size=1, max_size=300)


def epochs(totals_ms: list[float]) -> list[EpochFacts]:
    return [
        EpochFacts(epoch, 1.0, 1.0, 0.5, 0.01, BoundaryFacts(0.0, 0.0, total, total))
        for epoch, total in enumerate(totals_ms)
    ]


@given(TIMES)
def test_quantiles_are_times_that_were_measured(totals_ms: list[float]) -> None:
    found = boundary(epochs(totals_ms), 18.0)
    assert found.total is not None
    assert found.total.p99_ms in totals_ms
    assert found.total.max_ms == max(totals_ms)
    assert min(totals_ms) <= found.total.p50_ms <= found.total.p99_ms <= found.total.max_ms
    assert sum(total <= found.total.p99_ms for total in totals_ms) >= 0.99 * len(totals_ms)
    assert found.share_above_budget == sum(total > 18.0 for total in totals_ms) / len(totals_ms)


def test_without_a_boundary_there_are_no_quantiles() -> None:
    found = boundary([EpochFacts(0, 1.0, 1.0, 0.5, 0.01)], 18.0)
    assert (found.n, found.total, found.share_above_budget) == (0, None, None)


def test_what_growing_brought_is_the_difference() -> None:
    grown = FinalFacts(0.9, 0.8, None, math.nan, 1000, 50)
    ungrown = FinalFacts(0.7, 0.9, 0.5, 1.0, 300, 60)
    brought = comparison(grown, ungrown, ()).brought
    assert brought.val_accuracy == pytest.approx(0.2)
    assert brought.test_accuracy == pytest.approx(-0.1)
    assert (brought.fresh_accuracy, brought.test_loss) == (None, None)
    assert (brought.params, brought.train_flops) == (700, -10)


def test_a_written_report_reads_back_the_same(tmp_path: Path) -> None:
    report = a_report(30)
    write(report, tmp_path, "<!doctype html>")
    assert read(tmp_path / "report.json") == report
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "<!doctype html>"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_json_has_no_number_that_json_does_not_know(tmp_path: Path) -> None:
    write(a_report(30), tmp_path, "")
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text


def test_a_write_that_fails_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(a_report(3), tmp_path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(a_report(5), tmp_path, "new")
    assert read(tmp_path / "report.json") == a_report(3)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "old"
