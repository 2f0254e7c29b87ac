"""The fuzzer that `make fuzz` starts runs, and ends with 0 where nothing is found."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNS = 2_000


def test_make_starts_the_fuzzer_with_as_many_inputs_as_are_asked_for() -> None:
    told = subprocess.run(
        ["make", "-n", "fuzz", f"RUNS={RUNS}", "ARGS=--seed 3"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},  # without what a make around this one says
        capture_output=True,
        text=True,
        check=True,
    )
    last = told.stdout.splitlines()[-1].split()
    assert last[-6:] == ["-m", "tests.fuzz.wire", "--runs", str(RUNS), "--seed", "3"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="the fuzzer needs atheris: make fuzz installs it")
def test_the_fuzzer_tries_its_inputs_and_finds_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.wire", "--runs", str(RUNS)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    tried = re.search(r"Done (\d+) runs", done.stderr)
    assert tried is not None
    assert int(tried[1]) >= RUNS
    assert list(tmp_path.glob("crash-*")) == []
