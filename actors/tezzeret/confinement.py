"""What a sandbox's process does to itself before any of the work's code is imported.

Order matters: the filter comes last, as it denies nothing that the steps before it need.
"""

import ctypes
import faulthandler
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from actors.tezzeret import seccomp

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
NICE: Final = 19
FILES_MAX: Final = 256
"""Open files of the process."""
FILE_BYTES_MAX: Final = 1 << 30
"""Of any one file that it writes."""
_NETWORK: Final = frozenset({"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname"})
_STARTS: Final = frozenset(
    {"os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}
)


refusals: Counter[str] = Counter()
"""What Python's code in this process tried and was refused so far, by the name of the audit event."""


class HeadStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a process in the background begins, before it gives way to everybody.

    Beside others who keep every processor busy, one that gives way has next to none; and all that it has done
    is lost when the run ends before its first kernel. What it takes is the same however nice it is; only how
    soon it is done with it differs.
    """

    nice: int
    """Beside one that is not, 10 is about a tenth of a processor."""
    processor_s: float = 12.0
    """Seconds of processor after which it is over: imports take three to four, and all kernels for the demo's
    sites as much again."""


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the parent lays down on the command line; none of it is secret."""

    module: str
    reads: int
    """File descriptor of the jobs."""
    writes: int
    """File descriptor of the answers."""
    parent: int
    """Process id; the process ends with this one."""
    data_bytes: int
    """RLIMIT_DATA: what the process may allocate."""
    fork: bool
    background: bool
    head_start: HeadStart | None = None


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the process is confined, in its own words."""

    filtered: bool
    """A system call filter is in place."""
    why_not: str = ""


def confine(terms: Terms) -> Hello:
    """Bind the process to `terms`; what can't be had but the filter is an error."""
    faulthandler.enable()  # a crash then names the Python lines
    _die_with(terms.parent)
    if terms.fork:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # orphans of its children stay in its family
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, FILES_MAX)
    _limit(resource.RLIMIT_FSIZE, FILE_BYTES_MAX)
    _limit_soft(resource.RLIMIT_DATA, terms.data_bytes)
    if terms.background and terms.head_start is not None:
        _begin(terms.head_start)
    elif terms.background:
        give_way()
    sys.addaudithook(_hook(_NETWORK if terms.fork else _NETWORK | _STARTS))
    try:
        seccomp.install(terms.fork)
    except seccomp.NoFilter as refused:
        return Hello(filtered=False, why_not=str(refused))
    return Hello(filtered=True)


def _begin(head_start: HeadStart) -> None:
    """Give way only later; nothing asks the process for that, as a job may take as long as it likes."""
    os.nice(head_start.nice)
    _nice_session(head_start.nice)
    signal.signal(signal.SIGPROF, lambda number, frame: give_way())
    signal.setitimer(signal.ITIMER_PROF, head_start.processor_s)


def give_way() -> None:
    """Run, with all threads that there are and will be, only while nobody else wants the processor."""
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(OSError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, thread, NICE)
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
    _nice_session(NICE)


def _nice_session(value: int) -> None:
    """The kernel may schedule whole sessions against each other (autogroup); a process's nice value then
    says nothing outside its own."""
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(value))


def _die_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the signal was set
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), None, None, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def _limit(which: int, most: int) -> None:
    hard = resource.getrlimit(which)[1]
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (bound, bound))


def _limit_soft(which: int, most: int) -> None:
    """The parent may set another later."""
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _hook(denied: frozenset[str]) -> Callable[[str, tuple[object, ...]], None]:
    """Second line behind the filter: refuses with the name of what was tried."""

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event in denied:
            refusals[event] += 1
            raise PermissionError(f"{event} is not allowed in a sandbox")

    return refuse
