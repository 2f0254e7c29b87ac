"""Real runs in which blind growth has several live seeds at once."""

from pathlib import Path

import pytest

from contracts.report import Report
from esper.report.build import read
from esper.run import DONE, main
from tests.esper.test_run import PLAIN, run_folder

SEVERAL = (
    *PLAIN,
    "--quiet", "--policy", "random", "--seed", "3", "--set", "train.epoch_steps=6",
    "--set", "growth.path.probation_epochs=12", "--set", "train.validation_examples=200",
    "--set", "growth.surgery.every=3",
    "--set", "budgets.epoch_boundary_ms=60000", "--set", "budgets.tamiyo_inference_ms=60000",
)  # fmt: skip
"""Three seeds on probation for longer than lies between them; never decides too late."""
PROJECT = ("--set", "growth.surgery.share=0.0", "--set", "growth.surgery.excess=-1.0")
"""Whatever the figures are."""


def a_run(out: Path, *arguments: str) -> Report:
    assert main([*SEVERAL, *arguments, "--out", str(out)]) == DONE
    report = read(run_folder(out) / "report.json")
    assert report.commands.late == 0
    return report


def weights(out: Path) -> bytes:
    return (run_folder(out) / "model.safetensors").read_bytes()


@pytest.mark.real
@pytest.mark.slow
def test_measuring_shows_in_the_report_what_it_saw_and_what_it_cost_and_changes_no_weight(
    tmp_path: Path,
) -> None:
    off = a_run(tmp_path / "off", "--epochs", "24", "--set", "growth.conflict=off")
    on = a_run(tmp_path / "on", "--epochs", "24", "--set", "growth.conflict=measure")
    assert weights(tmp_path / "off") == weights(tmp_path / "on")
    assert all(facts.conflict is None for facts in off.epochs)
    assert off.flops["conflict"] == 0
    seen = [facts.conflict for facts in on.epochs if facts.conflict is not None]
    assert len(seen) >= 4
    assert all((one.steps, one.projected) == (2, 0) for one in seen)
    assert on.flops["conflict"] == sum(one.flops for one in seen) > 0
    assert on.final.train_flops == off.final.train_flops + on.flops["conflict"]
    page = (run_folder(tmp_path / "on") / "report.html").read_text(encoding="utf-8")
    assert "Several seeds at once" in page
    assert "none was projected" in page


@pytest.mark.real
@pytest.mark.parametrize("mode", [pytest.param("measure", marks=pytest.mark.slow), "project"])
def test_a_flop_budget_is_kept_and_spent_while_seeds_are_compared(mode: str, tmp_path: Path) -> None:
    report = a_run(tmp_path, "--gflop", "0.4", "--set", f"growth.conflict={mode}", *PROJECT)
    assert 0.9 * 400_000_000 < report.final.train_flops <= 400_000_000
    assert report.flops["conflict"] > 0
    seen = [facts.conflict for facts in report.epochs if facts.conflict is not None]
    projected = sum(one.projected for one in seen)
    assert (projected > 0) == (mode == "project")
    assert any(len(one.pairs) >= 3 for one in seen)
    page = (run_folder(tmp_path) / "report.html").read_text(encoding="utf-8")
    assert (f"{projected} steps were projected" in page) == (mode == "project")
