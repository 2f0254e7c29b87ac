"""One process at a time works on a run's folder; whoever dies lets go of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from esper.checkpoint import lock
from esper.checkpoint.errors import CheckpointError
from esper.checkpoint.lock import FILE, FolderTaken, holding

HOLD = """
import sys
from pathlib import Path
from esper.checkpoint.lock import holding
with holding(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read(1)
"""
FORK = r"""
import os, sys
from pathlib import Path
from esper.checkpoint.lock import holding
with holding(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        os.write(1, b"child %d\n" % os.getpid())
        sys.stdin.read(1)
        {leaves}
    os.write(1, b"held\n")
    os.write(1, b"child ended with %d\n" % os.waitpid(child, 0)[1])
    sys.stdin.read(1)
"""


@contextmanager
def running(script: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process; it goes on when it is sent a line, and is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", script, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_second_process_is_refused_and_told_by_whom_until_the_first_ends(tmp_path: Path) -> None:
    with running(HOLD, tmp_path) as first:
        assert said(first) == "held"
        with pytest.raises(FolderTaken, match=f"{tmp_path} is in use by process {first.pid}; one") as refused:
            holding(tmp_path).__enter__()
        assert refused.value.pid == first.pid
        assert (tmp_path / FILE).read_text() == f"{first.pid}\n", "who was refused leaves the line"
        go_on(first)
        assert first.wait() == 0
        with holding(tmp_path):
            assert (tmp_path / FILE).read_text() == f"{os.getpid()}\n"


def test_a_killed_holder_is_no_obstacle(tmp_path: Path) -> None:
    with running(HOLD, tmp_path) as first:
        assert said(first) == "held"
        first.send_signal(signal.SIGKILL)
        first.wait()
        with holding(tmp_path):
            pass


def test_a_forked_child_neither_keeps_the_lock_nor_lets_go_of_it(tmp_path: Path) -> None:
    with running(FORK.format(leaves="sys.exit()"), tmp_path) as parent:
        lines = {said(parent), said(parent)}
        assert "held" in lines
        go_on(parent)  # the child leaves through the end of the block
        assert said(parent) == "child ended with 0"
        with pytest.raises(FolderTaken, match=f"process {parent.pid};"):
            holding(tmp_path).__enter__()
        go_on(parent)
        parent.wait()
        with holding(tmp_path):
            pass


def test_a_forked_child_that_outlives_its_parent_does_not_hold_the_folder(tmp_path: Path) -> None:
    with running(FORK.format(leaves="os._exit(0)"), tmp_path) as parent:
        lines = {said(parent), said(parent)}
        child = next(int(line.split()[1]) for line in lines if line.startswith("child"))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        with holding(tmp_path):
            os.kill(child, 0)  # it is still there
        go_on(parent)


def test_the_same_process_can_t_hold_it_twice_and_can_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with holding(tmp_path), pytest.raises(FolderTaken, match="in use by this process"):
            holding(tmp_path).__enter__()
    assert lock._held == set()
    with pytest.raises(KeyError), holding(tmp_path):
        raise KeyError
    with holding(tmp_path):
        pass


@pytest.mark.parametrize(
    "left",
    ["1\n", f"{os.getpid()}\n", "4194304999\n", "", "what?\n", "9" * 500],
    ids=["another's", "our own", "nobody's", "nothing", "no number", "long"],
)
def test_what_an_earlier_process_left_means_nothing(tmp_path: Path, left: str) -> None:
    (tmp_path / FILE).write_text(left)
    with holding(tmp_path):
        assert (tmp_path / FILE).read_text() == f"{os.getpid()}\n"


def test_a_holder_whose_number_can_t_be_read_is_another_process(tmp_path: Path) -> None:
    with running(HOLD, tmp_path) as first:
        assert said(first) == "held"
        (tmp_path / FILE).write_text("?")
        with pytest.raises(FolderTaken, match="in use by another process;") as refused:
            holding(tmp_path).__enter__()
        assert refused.value.pid is None


def test_two_folders_are_two_locks(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with holding(one), holding(other):
        pass


def test_a_folder_that_is_not_there_or_leads_elsewhere_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing can't be worked on: run\.lock: No such file"):
        holding(tmp_path / "missing").__enter__()
    aim = tmp_path / "aim"
    aim.write_text("mine")
    (tmp_path / FILE).symlink_to(aim)
    with pytest.raises(CheckpointError, match=r"can't be worked on: run\.lock: Too many levels"):
        holding(tmp_path).__enter__()
    assert aim.read_text() == "mine"


def test_a_lock_on_a_file_that_was_taken_away_is_not_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    real = lock._lock

    def late(handle: int, folder: Path) -> None:
        if not taken:
            (tmp_path / FILE).unlink()  # between opening and locking
        taken.append(handle)
        real(handle, folder)

    monkeypatch.setattr(lock, "_lock", late)
    with holding(tmp_path):
        assert len(taken) == 2
        with pytest.raises(FolderTaken):
            holding(tmp_path).__enter__()
