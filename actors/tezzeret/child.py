"""A confined process as its parent sees it: started, watched from outside, killed whole.

The kernel ends the process when the *thread* that started it ends. So all are started by one thread that
lives as long as this process; a worker thread of the caller's may come and go.
"""

import os
import queue
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from actors.lane import JobFailed, ThreadLane
from actors.tezzeret.confinement import HeadStart, Terms

T = TypeVar("T")

ENDS_S: Final = 30.0
"""Seconds for a killed process to be gone; one that the kernel holds longer is left to it."""
KEPT: Final = frozenset(
    (
        *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "CXX"),
        *("LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"),
    )
)
"""What the process keeps of the environment: no secret is among it, whatever it is called."""
DATA_SLACK_BYTES: Final = 256 << 20
"""What may be allocated above the resident limit: not all that is allocated is ever touched."""
LOOKS_A_COUNT: Final = 5
"""Looks at the memory for which the list of those that it has started is kept: making one takes a while."""
_PAGE: Final = resource.getpagesize()
_launchers: dict[int, ThreadLane] = {}  # by process: a fork has none of its parent's threads


class Child:
    """One process running `python -m actors.tezzeret.worker_side`, with a session and a folder of its own.

    `jobs`, `answers` and `words` (its standard output and error) are file descriptors that never block.

    Raises:
        OSError: no process could be made.
    """

    def __init__(
        self,
        module: str,
        memory_bytes: int,
        *,
        fork: bool,
        background: bool,
        head_start: HeadStart | None,
        scratch: Path | None,
    ) -> None:
        self.fork = fork
        self._guard = threading.Lock()
        self._closed = False
        self._looks = 0
        self._counted: list[int] = []
        self._scratch = Path(tempfile.mkdtemp(prefix="sandbox-", dir=scratch))
        reads, self.jobs = os.pipe()
        self.answers, writes = os.pipe()
        self.words, speaks = os.pipe()
        terms = Terms(
            module=module,
            reads=reads,
            writes=writes,
            parent=os.getpid(),
            data_bytes=memory_bytes + DATA_SLACK_BYTES,
            fork=fork,
            background=background,
            head_start=head_start,
        )
        try:
            self._process = _on_launcher(lambda: _start(terms, speaks, self._scratch))
        except BaseException:
            self._give_back()
            raise
        finally:
            for end in (reads, writes, speaks):
                os.close(end)
        for mine in (self.jobs, self.answers, self.words):
            os.set_blocking(mine, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def allow(self, memory_bytes: int) -> None:
        """What it may allocate from now on."""
        with suppress(ProcessLookupError):
            _, hard = resource.prlimit(self.pid, resource.RLIMIT_DATA)
            soft = memory_bytes + DATA_SLACK_BYTES
            bound = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
            resource.prlimit(self.pid, resource.RLIMIT_DATA, (bound, hard))

    def memory_bytes(self) -> int:
        """Resident memory of the process and of those it has started; shared pages count for each."""
        if self._looks % LOOKS_A_COUNT == 0:
            self._counted = self._family()
        self._looks += 1
        return sum(_resident_bytes(pid) for pid in self._counted)

    def queued_s(self) -> float:
        """Seconds in all for which it was ready to run and the machine ran others."""
        with suppress(OSError, IndexError, ValueError):
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9
        return 0.0

    def ended(self, wait_s: float) -> int | None:
        """Its exit status, negative for a signal, if it ends within `wait_s`; None if it lives on.

        It is left to `close` to reap it, so that until then its number stays its own.
        """
        with suppress(ProcessLookupError, ChildProcessError):  # somebody reaps whatever this program starts
            handle = os.pidfd_open(self.pid)
            try:
                select.select([handle], [], [], wait_s)
            finally:
                os.close(handle)
            end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if end is None:
                return None
            return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        return self._process.returncode

    def kill(self) -> None:
        """Have the process and all that it has started end, without waiting; from any thread, and twice.

        One that gives way to everybody may take a while even to die.
        """
        with self._guard:
            if self._closed:
                return
            family = self._family()
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            for pid in (*family[1:], *(_session(self.pid) if self.fork else ())):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it, wait until it is gone, and give back pipes and folder; for the thread that uses them."""
        self.kill()
        self.ended(ENDS_S)
        with self._guard:
            self._closed = True
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.0)
        self._give_back()

    def _give_back(self) -> None:
        for mine in (self.jobs, self.answers, self.words):
            os.close(mine)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _family(self) -> list[int]:
        return [self.pid, *_descendants(self.pid)] if self.fork else [self.pid]


def _start(terms: Terms, speaks: int, scratch: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "actors.tezzeret.worker_side", msgspec.json.encode(terms).decode()],
        stdin=subprocess.DEVNULL,
        stdout=speaks,
        stderr=speaks,
        pass_fds=(terms.reads, terms.writes),
        env=environment(os.environ, scratch),
        start_new_session=True,
    )


def environment(given: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """What the process sees: a few harmless names of what is given, one thread, and its own folder."""
    own = {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return {name: value for name, value in given.items() if name in KEPT} | own


def _on_launcher(work: Callable[[], T]) -> T:
    launcher = _launchers.get(os.getpid())
    if launcher is None:
        launcher = _launchers.setdefault(os.getpid(), ThreadLane("sandbox launcher"))
    outcomes: queue.SimpleQueue[object] = queue.SimpleQueue()
    made: list[T] = []
    launcher.submit(lambda: made.append(work()), outcomes.put)
    outcome = outcomes.get()
    if isinstance(outcome, JobFailed):
        raise outcome.error
    return made[0]


def _resident_bytes(pid: int) -> int:
    with suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0


def _descendants(ancestor: int) -> list[int]:
    """Those whose line of parents leads to `ancestor`."""
    children: dict[int, list[int]] = {}
    for pid, parent, _ in _processes():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    ahead = [ancestor]
    while ahead:
        born = children.pop(ahead.pop(), [])
        found += born
        ahead += born
    return found


def _session(leader: int) -> list[int]:
    return [pid for pid, _, session in _processes() if session == leader]


def _processes() -> Iterator[tuple[int, int, int]]:
    """Process, parent and session of all there are."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError, IndexError, ValueError):
                # The name before the last bracket may hold anything.
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                yield int(entry), int(fields[1]), int(fields[3])
