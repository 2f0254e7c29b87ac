"""Claims about runs that are killed and taken up again: their numbers are those of runs left alone."""

import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.esper.resume_rig import STAGES, Counted
from tests.esper.troubles import MET

KILLS = int(os.environ.get("ESPER_KILLS", "100"))
"""Of the exhaustive test."""
TROUBLED_KILLS = 40
"""About one for each boundary of that run."""


def rig(folder: Path, kills: int, timeout_s: float, way: str = "everything") -> Counted:
    """What `resume_rig` counted; it fails at the first number that differs."""
    seed = random.SystemRandom().getrandbits(32)
    made = subprocess.run(
        [sys.executable, "-m", "tests.esper.resume_rig", str(folder), str(kills), str(seed), way],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert made.returncode == 0, f"seed {seed}:\n{made.stderr[-4000:]}"
    counted = msgspec.json.decode(made.stdout, type=Counted)
    assert counted.equal == counted.runs > 0
    return counted


@pytest.mark.real
def test_a_run_that_is_killed_twice_ends_with_the_same_numbers(tmp_path: Path) -> None:
    assert rig(tmp_path, 2, 250.0).kills == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_runs_of_every_host_and_policy_are_killed_in_every_stage(tmp_path: Path) -> None:
    counted = rig(tmp_path, KILLS, 1700.0, "stages")
    print(counted)
    assert counted.kills >= KILLS
    assert counted.met.keys() >= STAGES


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_in_trouble_is_killed_in_all_that_it_meets(tmp_path: Path) -> None:
    counted = rig(tmp_path, TROUBLED_KILLS, 1700.0, "troubled")
    print(counted)
    assert counted.met.keys() >= MET
