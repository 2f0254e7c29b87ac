"""Whole drills: every actor, a real training run, a real quarantine."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actors.drill import Drills, Ground, Stopped
from actors.drilling import RIGHT, WRONG, hold_drills
from actors.tezzeret.quarantine import Quarantine
from esper.drill.programme import BENIGN, HAZARDS, Drill, Onset, programme
from esper.drill.stage import Control
from esper.options import BAD_USAGE
from esper.run import main
from tests.esper.drill.ground import config, task

GROUND = Ground(task, config())


@pytest.fixture(scope="module")
def quarantine() -> Iterator[Quarantine]:
    with Quarantine() as one:
        yield one


@pytest.fixture(scope="module")
def drills(quarantine: Quarantine) -> Drills:
    return Drills(GROUND, quarantine)


@pytest.fixture(scope="module")
def control(drills: Drills) -> Control:
    """What chance does is measured in the whole programme only: here it is taken to be a tenth."""
    return replace(drills.control(noise_seeds=0), noise=0.1)


@pytest.mark.real
def test_nan_in_the_live_network_is_set_aside_at_once_and_the_host_rolled_back(
    drills: Drills, control: Control
) -> None:
    result = drills.hold(Drill("BP045", Onset.LIVE), control)
    assert result.right, result.verdict
    assert (result.caught_by, result.host) == ("training step", "rolled back")
    assert result.steps is not None
    assert result.steps <= GROUND.config.train.epoch_steps
    assert result.trial is not None
    assert result.trial.passed


@pytest.mark.real
def test_nan_in_isolation_never_reaches_the_host(drills: Drills, control: Control) -> None:
    result = drills.hold(Drill("BP045", Onset.ISOLATED), control)
    assert result.right, result.verdict
    assert (result.caught_by, result.host) == ("G1", "bit for bit")
    assert result.accuracy == control.accuracy


@pytest.mark.real
def test_a_harmless_blueprint_is_let_through(drills: Drills, control: Control) -> None:
    result = drills.hold(Drill("BP008", Onset.NEVER), control)
    assert result.right, result.verdict
    assert result.verdict.startswith("let through")


def test_an_unknown_blueprint_or_file_is_refused_before_anything_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drill", "blueprints", "--only", "BP009"]) == BAD_USAGE
    assert "BP009: not drilled; there are BP043" in capsys.readouterr().err
    nowhere = tmp_path / "nowhere" / "report.json"
    assert main(["drill", "blueprints", "--json", str(nowhere)]) == BAD_USAGE
    assert "its folder does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_drills_that_were_stopped_hold_no_more() -> None:
    with Quarantine() as closed:
        stopped = Drills(GROUND, closed)
        stopped.stop()
        with pytest.raises(Stopped):
            stopped.control()
        with pytest.raises(Stopped):
            stopped.hold(Drill("BP045", Onset.LIVE), Control({}, None, 0.0))


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_eight_of_eight_are_contained_and_ten_of_ten_let_through(tmp_path: Path) -> None:
    file = tmp_path / "drill.json"
    command = [sys.executable, "-m", "esper.run", "drill", "blueprints", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200.0)
    assert done.returncode == RIGHT, done.stdout + done.stderr
    assert "8 of 8 dangerous blueprints contained, 10 of 10 harmless ones let through" in done.stdout
    report = json.loads(file.read_text())
    assert {result["blueprint_id"] for result in report["results"]} == {*HAZARDS, *BENIGN}
    assert all(result["right"] for result in report["results"])
    assert "watchdog" in report["limit"]


@pytest.mark.slow
def test_a_rollback_that_does_nothing_makes_the_drill_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esper.tolaria.safepoint.restore_undo", lambda model, optimizer, undo: ())
    said = io.StringIO()
    code = hold_drills(GROUND, [Drill("BP045", Onset.LIVE)], None, said)
    assert code == WRONG
    assert "the host is not as it was before the graft" in said.getvalue()
    assert "0 of 1 dangerous blueprints contained" in said.getvalue()


@pytest.mark.slow
def test_a_stop_signal_ends_the_drills_with_what_was_done() -> None:
    command = [sys.executable, "-m", "esper.run", "drill", "blueprints", "--only", "BP001", "BP046"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first = [child.stdout.readline(), child.stdout.readline()]
    os.kill(child.pid, signal.SIGINT)
    said, complained = child.communicate(timeout=120.0)
    assert child.returncode == 130
    assert "BP046" in first[1] + said
    assert "Traceback" not in said + complained
    assert len(programme(["BP001", "BP046"])) == 2
