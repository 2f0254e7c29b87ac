"""A smith killed at any moment: nothing is lost, half-written or made twice once it was finished."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

RIG = "tests.actors.tezzeret.kill_rig"


def rig(folder: Path, kills: int, designs: int, timeout_s: float) -> dict[str, float]:
    """What `kill_rig` counted; its own checks, made after each kill, fail it."""
    seed = random.SystemRandom().getrandbits(32)
    made = subprocess.run(
        [sys.executable, "-m", RIG, str(folder), str(kills), str(designs), str(seed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert made.returncode == 0, f"seed {seed}:\n{made.stderr[-4000:]}"
    counted: dict[str, float] = json.loads(made.stdout)
    return counted


def check(counted: dict[str, float], kills: int, designs: int) -> None:
    least = designs * counted["rounds"]
    assert counted["kills"] == kills
    assert counted["begun"] >= least, "each store was filled by compiling"
    assert counted["begun"] <= least + 2 * kills, "a kill costs what was being made, no more"


def test_a_kill_is_recovered_from(tmp_path: Path) -> None:
    check(rig(tmp_path, 1, 1, 300.0), 1, 1)


@pytest.mark.slow
def test_two_hundred_kills_are_recovered_from(tmp_path: Path) -> None:
    counted = rig(tmp_path, 200, 3, 1500.0)
    check(counted, 200, 3)
    assert counted["begun"] > 3 * counted["rounds"], "some were killed in the middle of a compilation"
