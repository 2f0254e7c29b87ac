"""Whatever a job does, its sandbox ends it in time, says why, and the next job runs."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from actors.tezzeret.confinement import HeadStart
from actors.tezzeret.failures import (
    Closed,
    Died,
    Garbled,
    JobRaised,
    NotStarted,
    OutOfMemory,
    SandboxFailed,
    TimedOut,
    Unconfined,
)
from actors.tezzeret.frames import BODY_BYTES_MAX, MAGIC, BadFrame
from actors.tezzeret.sandbox import Limits, Sandbox

MODULE = "tests.actors.tezzeret.odd_worker"
ROOMY = Limits(job_s=60.0, memory_bytes=1 << 30, background=False)
SHORT = Limits(job_s=0.2, memory_bytes=1 << 30, background=False)
TIGHT = Limits(job_s=60.0, memory_bytes=128 << 20, background=False)


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """For tests that may leave it without a process."""
    with Sandbox(MODULE, ROOMY) as sandbox:
        yield sandbox


def is_gone(pid: int) -> bool:
    """No process has the number, or what has it is dead and only waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def goes(pid: int) -> bool:
    """Whether the process ends; it is given a minute."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            select.select([handle], [], [], 60.0)
        finally:
            os.close(handle)
    return is_gone(pid)


def recovers(sandbox: Sandbox, dead: int | None) -> bool:
    answer = sandbox.call(b"echo", b"still here")
    return answer.body == b"still here" and sandbox.pid != dead


# What works -------------------------------------------------------------------------------------------


def test_the_process_starts_with_the_first_job_and_stays_for_the_next() -> None:
    with Sandbox(MODULE, ROOMY) as sandbox:
        assert sandbox.pid is None
        assert sandbox.call(b"echo", b"1").body == b"1"
        first = sandbox.pid
        assert first is not None
        assert sandbox.call(b"echo", b"2").body == b"2"
        assert sandbox.pid == first
    assert is_gone(first)


def test_a_body_larger_than_a_pipe_goes_both_ways(shared: Sandbox) -> None:
    body = os.urandom(1 << 20) * 5
    answer = shared.call(b"echo", body)
    assert (answer.header, answer.body) == (b"echo", body)


def test_progress_comes_before_the_answer_in_order(shared: Sandbox) -> None:
    told: list[bytes] = []
    assert shared.call(b"progress", on_progress=told.append).header == b"done"
    assert told == [b"a third", b"two thirds"]


def test_a_handlers_error_is_an_answer_and_the_process_lives_on(shared: Sandbox) -> None:
    shared.call(b"echo")
    pid = shared.pid
    with pytest.raises(JobRaised, match="ValueError: the third layer is odd"):
        shared.call(b"raise_error", b"the third layer is odd")
    assert shared.call(b"echo", b"next").body == b"next"
    assert shared.pid == pid


def test_it_may_start_threads(shared: Sandbox) -> None:
    assert shared.call(b"start_thread").header == b"hello"


def test_what_it_prints_holds_up_nothing(shared: Sandbox) -> None:
    assert shared.call(b"chatter", b"1000000").header == b"said"


def test_it_gives_way_to_everybody_has_no_secrets_and_a_folder_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ESPER_LEYLINE_SECRET", "hunter2")
    monkeypatch.setenv("SOME_TOKEN", "hunter3")
    with Sandbox(MODULE, Limits(background=True), scratch=tmp_path) as sandbox:
        about = json.loads(sandbox.call(b"describe").body)
        (folder,) = tmp_path.iterdir()
    seen = about["environment"]
    assert about["nice"] == 19
    assert about["idle"]
    assert about["leads a session"]
    assert about["folder is there"]
    assert seen["TMPDIR"] == seen["HOME"] == str(folder)
    assert seen["OMP_NUM_THREADS"] == "1"
    assert "hunter" not in json.dumps(seen)
    assert not folder.exists(), "the folder goes with the process"


def test_with_a_head_start_it_is_only_nice_from_job_to_job() -> None:
    with Sandbox(MODULE, Limits(head_start=HeadStart(nice=3, processor_s=600.0))) as sandbox:
        first, later = (json.loads(sandbox.call(b"describe").body) for _ in range(2))
    assert (first["nice"], first["idle"]) == (later["nice"], later["idle"]) == (3, False)
    assert later["threads idle"] == 0


def test_a_head_start_is_over_after_some_time_of_processor_in_the_middle_of_a_job_too() -> None:
    with Sandbox(MODULE, Limits(head_start=HeadStart(nice=3, processor_s=0.01))) as sandbox:
        sandbox.call(b"describe")
        assert sandbox.call(b"spin_until_it_gives_way").header == b"gave way"
        later = json.loads(sandbox.call(b"describe").body)
    assert (later["nice"], later["idle"]) == (19, True)
    assert (later["threads idle"], later["threads"]) == (2, 2), "a thread that was there before it too"


# What is refused --------------------------------------------------------------------------------------


def test_network_other_processes_and_their_signals_are_refused_by_the_kernel(shared: Sandbox) -> None:
    refused = "Operation not permitted"
    became = json.loads(shared.call(b"tries").body)
    assert became.pop("signal to itself") == "worked"
    assert became == {
        "inet": refused,
        "unix": refused,
        "fork": refused,
        "signal to the parent": refused,
        "the parent's limits": refused,
        "python socket": "PermissionError",
        "python connect": "PermissionError",
        "python fork": "PermissionError",
        "python subprocess": "PermissionError",
        "python exec": "PermissionError",
    }


def test_a_job_that_is_too_large_is_not_sent(shared: Sandbox) -> None:
    shared.call(b"echo")
    pid = shared.pid
    with pytest.raises(BadFrame, match="too large"):
        shared.call(b"echo", bytes(BODY_BYTES_MAX + 1))
    assert shared.call(b"echo", b"next").body == b"next"
    assert shared.pid == pid


def test_where_there_is_no_filter_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    odd = 'import platform\nplatform.machine = lambda: "riscv64"\n'
    (tmp_path / "sitecustomize.py").write_text(odd)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Sandbox(MODULE, ROOMY) as sandbox:
        with pytest.raises(Unconfined, match="no filter is written for riscv64"):
            sandbox.call(b"echo")
        assert sandbox.pid is None


# What is killed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [b"sleep_for_ever", b"spin_for_ever"])
def test_a_hang_is_killed_and_the_next_job_runs(shared: Sandbox, act: bytes) -> None:
    shared.call(b"echo")
    pid = shared.pid
    assert pid is not None
    with pytest.raises(TimedOut, match=r"may take 0\.2 s"):
        shared.call(act, limits=SHORT)
    assert shared.pid is None
    assert is_gone(pid)
    assert recovers(shared, pid)


def test_a_leak_is_killed_and_the_next_job_runs(shared: Sandbox) -> None:
    shared.call(b"echo")
    pid = shared.pid
    assert pid is not None
    with pytest.raises(OutOfMemory, match="memory"):
        shared.call(b"leak", limits=TIGHT)
    assert is_gone(pid)
    assert recovers(shared, pid)


def test_memory_far_above_the_limit_is_refused_from_inside_by_the_job_and_not_the_process(
    shared: Sandbox,
) -> None:
    with pytest.raises(OutOfMemory, match="refused to it: MemoryError"):
        shared.call(b"allocate", b"%d" % (4 << 30))
    assert shared.call(b"allocate", b"%d" % (64 << 20)).header == b"allocated"
    with pytest.raises(OutOfMemory, match="refused to it: MemoryError"):
        shared.call(b"allocate", b"%d" % (512 << 20), limits=TIGHT)


def test_the_first_job_of_a_process_is_refused_memory_far_above_the_limit_too() -> None:
    with Sandbox(MODULE, TIGHT) as sandbox:
        with pytest.raises(OutOfMemory, match="refused to it: MemoryError"):
            sandbox.call(b"allocate", b"%d" % (512 << 20))
        assert sandbox.call(b"allocate", b"%d" % (16 << 20)).header == b"allocated"


def test_a_crash_is_reported_with_its_signal_and_last_words(shared: Sandbox) -> None:
    with pytest.raises(Died, match="SIGSEGV") as caught:
        shared.call(b"crash")
    assert caught.value.status == -signal.SIGSEGV
    assert "about to read address 0" in caught.value.last_words
    assert "odd_worker.py" in caught.value.last_words, "the Python line is named"
    assert recovers(shared, None)


def test_a_process_that_leaves_is_reported_with_its_status(shared: Sandbox) -> None:
    with pytest.raises(Died, match="ended with status 1; it said: enough of this"):
        shared.call(b"leave")
    assert recovers(shared, None)


def test_a_process_that_closes_its_pipe_and_lives_on_is_killed(shared: Sandbox) -> None:
    shared.call(b"echo")
    pid = shared.pid
    assert pid is not None
    with pytest.raises(Died, match="closed its pipes and lived on"):
        shared.call(b"close_pipe")
    assert is_gone(pid)


@pytest.mark.parametrize(
    ("bytes_", "why"),
    [
        (b"Traceback (most recent call last)", "no frame"),
        (MAGIC + b"\xff" + bytes(8), "no frame"),
        (MAGIC + b"\x05" + b"\xff\xff\xff\xff" + bytes(4), "too large"),
        (MAGIC + b"\x05" + bytes(4) + b"\xff\xff\xff\xff", "too large"),
        (MAGIC + b"\x04" + bytes(4) + b"\x00\x00\x00\x01", "too large"),
        (MAGIC + b"\x01" + bytes(8), "HELLO where an answer was due"),
        (MAGIC + b"\x03" + bytes(8), "JOB where an answer was due"),
    ],
)  # fmt: skip
def test_garbage_on_the_pipe_is_reported_and_the_process_killed(
    shared: Sandbox, bytes_: bytes, why: str
) -> None:
    with pytest.raises(Garbled, match=why):
        shared.call(b"garbage", bytes_)
    assert shared.pid is None


def test_a_second_answer_is_not_taken_for_the_next_jobs(shared: Sandbox) -> None:
    with pytest.raises(Garbled, match="went on after its answer"):
        shared.call(b"answer_twice")
    assert recovers(shared, None)


class Enough(Exception):
    """The test has seen what it wanted."""


def test_with_leave_to_fork_the_whole_family_is_killed_a_session_apart_too() -> None:
    family: list[int] = []

    def born(progress: bytes) -> None:
        family.extend(json.loads(progress))
        raise Enough

    limits = Limits(memory_bytes=1 << 30, fork=True, background=False)
    with Sandbox(MODULE, limits) as sandbox, pytest.raises(Enough):
        sandbox.call(b"start_family", on_progress=born)
    assert len(family) == 2
    assert all(goes(pid) for pid in family)


def test_with_leave_to_fork_what_the_children_hold_counts(shared: Sandbox) -> None:
    limits = Limits(memory_bytes=200 << 20, fork=True, background=False)
    with pytest.raises(OutOfMemory, match="it may hold 200"):
        shared.call(b"leak_in_a_child", limits=limits)
    assert recovers(shared, None)


def test_a_job_that_may_not_fork_gets_another_process_than_one_that_may(shared: Sandbox) -> None:
    shared.call(b"echo")
    before = shared.pid
    shared.call(b"echo", limits=Limits(fork=True, background=False))
    between = shared.pid
    became = json.loads(shared.call(b"tries").body)
    assert len({before, between, shared.pid}) == 3
    assert became["fork"] == "Operation not permitted"


# How it ends ------------------------------------------------------------------------------------------


def test_closing_kills_a_job_under_way_and_no_other_follows() -> None:
    sandbox = Sandbox(MODULE, ROOMY)
    asleep = threading.Event()
    failures: list[SandboxFailed] = []

    def call() -> None:
        try:
            sandbox.call(b"sleep_for_ever", on_progress=lambda _: asleep.set())
        except SandboxFailed as failure:
            failures.append(failure)

    caller = threading.Thread(target=call)
    caller.start()
    assert asleep.wait(60.0)
    pid = sandbox.pid
    assert pid is not None
    sandbox.close()
    assert is_gone(pid)
    caller.join()
    assert [type(failure) for failure in failures] == [Closed]
    with pytest.raises(Closed, match="make another"):
        sandbox.call(b"echo")
    sandbox.close()


def test_the_end_of_the_thread_that_called_does_not_end_the_process() -> None:
    with Sandbox(MODULE, ROOMY) as sandbox:
        caller = threading.Thread(target=sandbox.call, args=(b"echo",))
        caller.start()
        caller.join()
        pid = sandbox.pid
        assert sandbox.call(b"echo", b"the same").body == b"the same"
        assert sandbox.pid == pid


def test_an_error_of_the_callers_own_ends_the_process(shared: Sandbox) -> None:
    def stumble(progress: bytes) -> None:
        raise KeyError(progress)

    shared.call(b"echo")
    pid = shared.pid
    assert pid is not None
    with pytest.raises(KeyError):
        shared.call(b"progress", on_progress=stumble)
    assert is_gone(pid)
    assert recovers(shared, pid)


PARENT = f"""
from actors.tezzeret.sandbox import Limits, Sandbox
sandbox = Sandbox({MODULE!r}, Limits(background=False))
sandbox.call(b"sleep_for_ever", on_progress=lambda _: print(sandbox.pid, flush=True))
"""


def test_the_process_dies_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
    assert goes(pid)


def test_a_module_that_can_not_be_imported_is_reported() -> None:
    with (
        Sandbox("tests.actors.tezzeret.there_is_no_such_module", ROOMY) as sandbox,
        pytest.raises(NotStarted, match="No module named"),
    ):
        sandbox.call(b"echo")


def test_where_no_process_can_be_made_the_job_was_not_begun(tmp_path: Path) -> None:
    with Sandbox(MODULE, ROOMY, scratch=tmp_path / "is not there") as sandbox:
        with pytest.raises(NotStarted, match="No such file or directory"):
            sandbox.call(b"crash")
        assert sandbox.pid is None
        (tmp_path / "is not there").mkdir()
        assert recovers(sandbox, None)
