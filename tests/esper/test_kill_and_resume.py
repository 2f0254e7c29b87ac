"""Claims about runs that are killed and taken up again: their numbers are those of runs left alone."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("ESPER_KILLS", "100"))
"""Of the exhaustive test."""


def rig(folder: Path, kills: int, timeout_s: float) -> dict[str, object]:
    """What `resume_rig` counted; it fails at the first number that differs."""
    seed = random.SystemRandom().getrandbits(32)
    made = subprocess.run(
        [sys.executable, "-m", "tests.esper.resume_rig", str(folder), str(kills), str(seed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert made.returncode == 0, f"seed {seed}:\n{made.stderr[-4000:]}"
    counted: dict[str, object] = json.loads(made.stdout)
    return counted


@pytest.mark.real
def test_a_run_that_is_killed_twice_ends_with_the_same_numbers(tmp_path: Path) -> None:
    counted = rig(tmp_path, 2, 250.0)
    assert counted["kills"] == 2
    assert counted["equal"] == counted["runs"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_runs_of_every_host_and_policy_are_killed_in_every_stage(tmp_path: Path) -> None:
    counted = rig(tmp_path, KILLS, 1700.0)
    assert counted["kills"] == KILLS
    assert counted["equal"] == counted["runs"]
    print(counted)
