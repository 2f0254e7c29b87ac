"""Claims about the command line of the benchmarks."""

import json
from pathlib import Path

import pytest

import bench.__main__ as command
from bench.measure import Budget, Size


def test_every_named_benchmark_is_a_module_with_budgets() -> None:
    import importlib

    for name in command.NAMES:
        module = importlib.import_module(f"bench.{name}")
        assert callable(module.run)
        assert all(isinstance(budget, Budget) for budget in module.BUDGETS)


def test_an_unknown_name_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["mailbx"]) == 2
    assert "there are mailbox" in capsys.readouterr().err


def test_a_broken_or_missing_figure_breaks_its_budget() -> None:
    result = {"tell": {"ratio": 2.0}}
    kept, broken, missing = Budget("tell.ratio", 3.0), Budget("tell.ratio", 1.5), Budget("ask.ratio", 1.0)
    assert command.broken_budgets(result, [kept]) == []
    assert len(command.broken_budgets(result, [broken, missing])) == 2


@pytest.mark.parametrize(("limit", "code"), [(1e9, 0), (0.0, 1)])
def test_check_exits_with_one_exactly_when_a_budget_is_broken(
    limit: float, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import bench.bus

    monkeypatch.setattr(bench.bus, "run", lambda size: {"publish": {"p50_us": 1.5}})
    monkeypatch.setattr(bench.bus, "BUDGETS", (Budget("publish.p50_us", limit),))
    file = tmp_path / "out.json"
    assert command.main(["bus", "--check", "--json", str(file)]) == code
    written = json.loads(file.read_text())
    assert written["bus"] == {"publish": {"p50_us": 1.5}}
    assert {"versions", "machine"} <= written.keys()


def test_a_small_run_checks_no_budget_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench.bus

    monkeypatch.setattr(bench.bus, "run", lambda size: {"publish": {"p50_us": 1.5}})
    monkeypatch.setattr(bench.bus, "BUDGETS", (Budget("publish.p50_us", 0.0),))
    assert command.main(["bus", "--check", "--size", "small"]) == 0
    said = capsys.readouterr().out
    assert "budgets are for the full size" in said
    assert "all budgets hold" not in said
    assert command.main(["bus", "--check"]) == 1


def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench.bus

    ran: list[Size] = []
    monkeypatch.setattr(bench.bus, "run", ran.append)
    assert command.main(["bus", "--json", str(tmp_path / "missing" / "out.json")]) == 2
    assert "missing" in capsys.readouterr().err
    assert ran == []


def test_a_benchmark_that_raises_counts_as_broken_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench.bus
    import bench.governor

    file = tmp_path / "out.json"
    written: list[dict[str, object]] = []

    def fail(size: Size) -> dict[str, object]:
        raise RuntimeError("no such luck")

    def give(size: Size) -> dict[str, object]:
        written.append(json.loads(file.read_text()))
        return {"kept": 1.0}

    monkeypatch.setattr(bench.bus, "run", fail)
    monkeypatch.setattr(bench.governor, "run", give)
    monkeypatch.setattr(bench.governor, "BUDGETS", ())
    assert command.main(["bus", "governor", "--json", str(file)]) == 1
    assert written[0]["bus"] == {"error": "RuntimeError: no such luck"}, "written after each benchmark"
    assert json.loads(file.read_text())["governor"] == {"kept": 1.0}
    assert command.main(["bus", "governor", "--check"]) == 1
    told = capsys.readouterr()
    assert "raised: bus" in told.out
    assert "1 broken" in told.out
    assert "no such luck" in told.err
