"""Runs of `python -m esper.run`, each in a process of its own that is forked from one which has loaded torch.

    python -m tests.esper.forked < jobs.json

Loading torch takes several times as long as the small runs of a test. Reads a list of `Job` and prints one of
`Ended`, both as JSON.
"""

import gc
import os
import resource
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

import msgspec

PATIENCE_S = 250.0


class Job(msgspec.Struct, frozen=True):
    """What one process is to do, and what it is to miss."""

    words: tuple[str, ...]
    stdout: Literal["null", "closed", "full"] = "null"
    file_bytes_max: int | None = None
    """No file may become larger."""


class Ended(msgspec.Struct, frozen=True):
    """How one process ended, and what it said on stderr."""

    code: int
    err: str


def in_processes(jobs: Sequence[Job]) -> list[Ended]:
    """Each job in its turn."""
    made = subprocess.run(
        [sys.executable, "-B", "-m", "tests.esper.forked"],
        input=msgspec.json.encode(jobs),
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=PATIENCE_S,
        check=True,
    )
    return msgspec.json.decode(made.stdout, type=list[Ended])


def become(job: Job, err: int) -> None:
    """Take the forked process's place as `python -m esper.run` would have it; it ends by `SystemExit`."""
    os.dup2(err, 2)
    if job.stdout == "closed":
        os.close(1)
        sys.stdout = sys.__stdout__ = None  # type: ignore[misc]
    else:
        os.dup2(os.open(f"/dev/{job.stdout}", os.O_WRONLY), 1)
    if job.file_bytes_max is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.file_bytes_max, job.file_bytes_max))
    sys.argv = ["esper.run", *job.words]
    runpy.run_module("esper.run", run_name="__main__", alter_sys=True)


def ended(job: Job) -> Ended | None:
    """The job done in a forked process; None is for the process that did it."""
    err = os.memfd_create("err")
    pid = os.fork()
    if pid == 0:
        become(job, err)
        return None
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with os.fdopen(err, "r+b") as said:
        said.seek(0)
        return Ended(code, said.read().decode())


def load_torch() -> None:
    """All that a run loads, without starting a thread."""
    import torch

    import esper.session  # noqa: F401

    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])  # loads torch's compiler
    gc.freeze()  # no child need walk through it
    assert len(os.listdir("/proc/self/task")) == 1, "only a process of one thread may be forked"


if __name__ == "__main__":
    jobs = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Job])
    load_torch()
    found = [ended(job) for job in jobs]
    sys.stdout.buffer.write(msgspec.json.encode(found))
