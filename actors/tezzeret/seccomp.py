"""A system call filter for this process (seccomp-BPF): no network, no look at other processes, no fork.

It needs no privileges, and nothing can take it off again: what the process starts inherits it. Denied calls
fail with EPERM, so that Python sees a PermissionError. io_uring is denied because it opens sockets without
a socket call. `clone3` fails with ENOSYS, as its flags lie in memory that a filter can't read; the C library
then makes its threads with `clone`, whose flags can be seen.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst; numbers from its system call tables.
"""

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass
from typing import Final

_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000
_CLONE_THREAD: Final = 0x00010000
_X32_CALLS: Final = 0x40000000  # numbers of x86's third interface begin here
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little-endian


class NoFilter(OSError):
    """This machine or this kernel takes no filter."""


@dataclass(frozen=True)
class Calls:
    """The numbers of one architecture's system calls."""

    architecture: int
    denied: tuple[int, ...]
    """Network, tracing of other processes, other namespaces."""
    starts: tuple[int, ...]
    """Calls that always make a process or turn this one into another."""
    clone: int
    clone3: int
    signals: tuple[int, ...]
    """Calls whose first argument is the process that is signalled."""
    prlimit: int


MACHINES: Final = {
    "x86_64": Calls(
        architecture=0xC000003E,
        # socket, connect, accept, bind, listen, accept4, io_uring_setup, ptrace, process_vm_readv and
        # writev, pidfd_getfd, unshare, setns
        denied=(41, 42, 43, 49, 50, 288, 425, 101, 310, 311, 438, 272, 308),
        starts=(57, 58, 59, 322),  # fork, vfork, execve, execveat
        clone=56,
        clone3=435,
        signals=(62, 234, 129, 297),  # kill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo
        prlimit=302,
    ),
    "aarch64": Calls(
        architecture=0xC00000B7,
        denied=(198, 203, 202, 200, 201, 242, 425, 117, 270, 271, 438, 97, 268),
        starts=(221, 281),  # execve, execveat: there is no fork but clone
        clone=220,
        clone3=435,
        signals=(129, 131, 138, 240),
        prlimit=261,
    ),
}
_TKILL_AND_PIDFD: Final = {"x86_64": (200, 424), "aarch64": (130, 424)}
"""tkill and pidfd_send_signal, whose argument is no process id: denied where signals are."""


def program(machine: str, pid: int, fork: bool) -> bytes:
    """The filter's instructions, 8 bytes each.

    Without `fork` no process is made, none executed, and none but `pid` signalled.

    Raises:
        NoFilter: the machine's system calls are not known here.
    """
    calls = MACHINES.get(machine)
    if calls is None:
        raise NoFilter(f"no filter is written for {machine}; there is one for {' and '.join(MACHINES)}")
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, calls.architecture, 1, 0),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32_CALLS, 0, 1),
        _fail(errno.EPERM),
    ]
    denied = calls.denied if fork else (*calls.denied, *calls.starts, *_TKILL_AND_PIDFD[machine])
    for number in denied:
        code += [_step(_EQUAL, number, 0, 1), _fail(errno.EPERM)]
    code += _only_if(calls.prlimit, _EQUAL, 0)  # its own limits
    if not fork:
        code += [_step(_EQUAL, calls.clone3, 0, 1), _fail(errno.ENOSYS)]
        code += _only_if(calls.clone, _ANY_BIT, _CLONE_THREAD)
        for number in calls.signals:
            code += _only_if(number, _EQUAL, pid)
    code.append(_step(_RETURN, _ALLOW))
    return b"".join(code)


def install(fork: bool) -> None:
    """Filter this thread, and all that it makes, from now on for ever; call it before there are others.

    Raises:
        NoFilter: the kernel refused, and nothing has changed.
    """
    code = program(platform.machine(), os.getpid(), fork)
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl"):
        raise NoFilter(f"{platform.system()} has no prctl, and so no filter")
    body = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(body)))
    for step in (
        (_PR_SET_NO_NEW_PRIVS, 1, None),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(header)),
    ):
        option, value, pointer = step
        if libc.prctl(option, ctypes.c_ulong(value), pointer, None, None) != 0:
            number = ctypes.get_errno()
            raise NoFilter(number, f"the kernel takes no filter: {os.strerror(number)}")


def _step(operation: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter; the jumps count instructions that are passed over."""
    return struct.pack("HBBI", operation, if_true, if_false, operand)


def _fail(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _only_if(number: int, test: int, operand: int) -> list[bytes]:
    """Call `number` passes if its first argument passes the test, and else fails with EPERM."""
    return [
        _step(_EQUAL, number, 0, 4),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(test, operand, 0, 1),
        _step(_RETURN, _ALLOW),
        _fail(errno.EPERM),
    ]
