"""The watchdog for real: processes that stand still, are killed, or are left alone."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.watchdog import BEAT_S
from tests.actors.watched_run import QUIET_LOOP_S, STACKS

WAIT_S = 60.0
"""For a process that does not do what is waited for; no test waits that long."""
WAYS = ("python", "lock", "for ever", "step", "quiet", "killed", "alone")


class Run:
    """One watched process; its folder holds the stacks."""

    def __init__(self, folder: Path, way: str) -> None:
        self.file = folder / STACKS
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.actors.watched_run", str(folder), way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._told = ""

    def told(self) -> str:
        """All that it printed, once it has ended."""
        if not self._told:
            out, err = self.process.communicate(timeout=WAIT_S)
            self._told = (out + err).decode()
        return self._told

    @property
    def stacks(self) -> str:
        return self.file.read_text(encoding="utf-8")

    def until_dumped(self) -> None:
        """Wait for the first stack on disk."""
        while not (self.file.exists() and "File " in self.stacks):
            assert self.process.poll() is None
            select.select([], [], [], 0.01)

    def watchman(self) -> int:
        """The watchdog's process id, from the first line that the run prints."""
        assert self.process.stdout is not None
        word, number = self.process.stdout.readline().split()
        assert word == b"watched"
        return int(number)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """One of each way, side by side: they mostly wait."""
    runs = {way: Run(tmp_path_factory.mktemp("run"), way) for way in WAYS}
    yield runs
    for run in runs.values():
        if run.process.poll() is None:
            run.process.kill()
        run.process.communicate()


def test_a_loop_that_python_holds_up_is_seen_and_its_stacks_are_on_disk(runs: dict[str, Run]) -> None:
    told = runs["python"].told()
    assert "loop over True True" in told, "the run is told once it can hear"
    assert "stand_in_python" in runs["python"].stacks
    assert "the event loop has stood still for" in runs["python"].stacks
    assert "the event loop moves again after" in runs["python"].stacks


def test_a_loop_is_seen_to_stand_still_while_c_code_holds_the_interpreter_lock(runs: dict[str, Run]) -> None:
    run = runs["lock"]
    run.until_dumped()
    assert "hold_the_lock" in run.stacks
    assert run.process.poll() is None, "it still stands when its stacks are on disk"
    assert run.process.stdin is not None
    run.process.stdin.write(b"x")
    run.process.stdin.flush()
    assert "loop over True True" in run.told()
    assert run.process.returncode == 0


def test_a_process_that_never_gives_a_sign_of_life_again_is_ended_and_says_how_to_go_on(
    runs: dict[str, Run],
) -> None:
    run = runs["for ever"]
    run.process.wait(WAIT_S)
    assert run.process.returncode == -signal.SIGABRT
    assert "is ended. Go on with --resume." in run.told()
    assert "hold_the_lock" in run.stacks
    assert "ended" not in run.told().split("esper:")[0]


def test_a_training_thread_that_makes_no_progress_is_told_at_once_and_again_when_it_moves(
    runs: dict[str, Run],
) -> None:
    told = runs["step"].told()
    assert "step lasts True True" in told
    assert told.index("step lasts") < told.index("step over")
    assert "the training thread has stood still for" in runs["step"].stacks


def test_beside_busy_threads_nothing_is_seen_that_was_not_so(runs: dict[str, Run]) -> None:
    told = runs["quiet"].told()
    still_s = float(told.split("still ")[1].split()[0])
    assert ("loop over" in told) <= (still_s >= QUIET_LOOP_S - BEAT_S), "only what stood still is told of"
    assert "unwatched" not in told
    assert told.endswith("ended \n"), "the watchdog has ended with the run"


def test_the_watchdog_of_a_killed_run_ends(runs: dict[str, Run]) -> None:
    run = runs["killed"]
    with_it = os.pidfd_open(run.watchman())
    run.process.kill()
    gone = select.poll()
    gone.register(with_it, select.POLLIN)
    assert gone.poll(WAIT_S * 1e3), "it notices the closed pipe"
    os.close(with_it)


def test_a_run_whose_watchdog_dies_is_told_and_goes_on(runs: dict[str, Run]) -> None:
    told = runs["alone"].told()
    assert "unwatched the watchdog's process has ended" in told
    assert "ended" in told
    assert runs["alone"].process.returncode == 0
