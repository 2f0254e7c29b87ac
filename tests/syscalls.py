"""Stands between a child process and the kernel: sees each call that changes a disk before it is carried out.

It lets the call pass, makes it fail, or kills the child there. A system call filter (seccomp-BPF) in the
child hands these calls to the parent (user notification). It needs no privileges and works on every thread
of the child.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst, "Userspace Notification".
"""

import ctypes
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import pytest

_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_PR_SET_NO_NEW_PRIVS = 38
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _THIRD_ARGUMENT = 0, 32  # offsets in struct seccomp_data, little-endian
_NOTIFICATION: Final = struct.Struct("QII iIQ6Q")
_ANSWER: Final = struct.Struct("QqiI")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_PATH_MAX = 4096

CALLS: Final = {
    "x86_64": {
        "write": 1, "pwrite64": 18, "writev": 20, "pwritev": 296, "pwritev2": 328, "sendfile": 40,
        "fsync": 74, "fdatasync": 75, "sync_file_range": 277, "truncate": 76, "ftruncate": 77,
        "fallocate": 285, "rename": 82, "renameat": 264, "renameat2": 316, "unlink": 87, "unlinkat": 263,
        "rmdir": 84, "mkdir": 83, "mkdirat": 258, "link": 86, "linkat": 265, "openat": 257, "open": 2,
        "creat": 85, "copy_file_range": 326, "seccomp": 317,
    },
    "aarch64": {
        "write": 64, "pwrite64": 68, "writev": 66, "pwritev": 70, "pwritev2": 287, "sendfile": 71,
        "fsync": 82, "fdatasync": 83, "sync_file_range": 84, "truncate": 45, "ftruncate": 46,
        "fallocate": 47, "renameat": 38, "renameat2": 276, "unlinkat": 35, "mkdirat": 34, "linkat": 37,
        "openat": 56, "copy_file_range": 285, "seccomp": 277,
    },
}  # fmt: skip
"""Numbers of the calls by which a file changes; the opening calls where they may make one."""
_OPENS = {"openat": 2, "open": 1}
"""Which argument holds the flags."""
_BY_PATH = {
    "openat": (1,), "open": (0,), "creat": (0,), "truncate": (0,), "rename": (0, 1), "renameat": (1, 3),
    "renameat2": (1, 3), "unlink": (0,), "unlinkat": (1,), "rmdir": (0,), "mkdir": (0,), "mkdirat": (1,),
    "link": (0, 1), "linkat": (1, 3),
}  # fmt: skip
"""Which arguments are paths; the others' first is a file."""


class Call(NamedTuple):
    """A call that is about to be carried out."""

    name: str
    paths: tuple[Path, ...]
    """What it changes; a rename's second is the new name."""
    arguments: tuple[int, ...]
    content: bytes
    """What `write` and `pwrite64` write."""
    offset: int
    """Where they write it."""


class Kill:
    """The child dies here, and the call is not carried out."""


class Fail(NamedTuple):
    """The call is not carried out, and fails with `errno`."""

    errno: int


Decision: TypeAlias = Kill | Fail | None
"""None lets it pass."""
Decide: TypeAlias = Callable[[Call, Sequence[str]], Decision]
"""Is given the call, and what the child has said before it."""
Say: TypeAlias = Callable[[str], None]


class Ended(NamedTuple):
    """How the child ended, and what it had said until then, a line each."""

    status: int
    said: tuple[str, ...]


def supervised(child: Callable[[Say], None], folder: Path, decide: Decide) -> Ended:
    """Run `child` in a process of its own; `decide` is asked about each call that changes `folder`.

    What the child is given says a line to the parent; a line that was said is heard, even if the child is
    killed right behind it. A `child` that raises ends with status 1. The test is skipped where the kernel has
    no such thing.
    """
    ours, theirs = socket.socketpair()
    hear, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        _live(child, theirs, say)
    os.close(say)
    theirs.close()
    try:
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if not fds:
            os.waitpid(pid, 0)
            pytest.skip("this kernel hands no system calls to a parent (seccomp user notification)")
        os.set_blocking(hear, False)
        ear = _Ear(hear)
        _stand_between(pid, fds[0], folder.resolve(), lambda call: decide(call, ear.said()))
        _, status = os.waitpid(pid, 0)
        return Ended(os.waitstatus_to_exitcode(status), tuple(ear.said()))
    finally:
        ours.close()
        os.close(hear)


class _Ear:
    """Puts together what comes out of a pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._rest = b""
        self._lines: list[str] = []

    def said(self) -> Sequence[str]:
        """All lines up to now."""
        with suppress(BlockingIOError):
            while piece := os.read(self._pipe, 1 << 16):
                *lines, self._rest = (self._rest + piece).split(b"\n")
                self._lines.extend(line.decode() for line in lines)
        return self._lines


def _live(child: Callable[[Say], None], parent: socket.socket, say: int) -> None:
    """The child's whole life."""
    status = 1
    try:
        with suppress(OSError):
            listener = _listen()
            socket.send_fds(parent, [b"f"], [listener])
            os.close(listener)
            parent.close()
            child(lambda line: _ignore(os.write(say, f"{line}\n".encode())))
            status = 0
    except BaseException:  # noqa: BLE001 - the parent must not go on in two processes
        traceback.print_exc()
    finally:
        os._exit(status)


def _listen() -> int:
    """Hand the calls of this thread, and of all that it makes, to whoever holds what is returned.

    Raises OSError where the kernel has no such thing.
    """
    calls = CALLS.get(platform.machine())
    if calls is None:
        raise OSError(f"no call numbers are written down for {platform.machine()}")
    code = [_step(_LOAD, _NUMBER)]
    for name, number in calls.items():
        if name == "openat":
            code += [
                _step(_EQUAL, number, 0, 4),
                _step(_LOAD, _THIRD_ARGUMENT),
                _step(_ANY_BIT, os.O_CREAT | os.O_TRUNC, 0, 1),
                _step(_RETURN, _NOTIFY),
                _step(_RETURN, _ALLOW),
            ]
        elif name != "seccomp":
            code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _NOTIFY)]
    program = b"".join([*code, _step(_RETURN, _ALLOW)])
    body = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(body)))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero)
    listener = int(libc.syscall(calls["seccomp"], _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(header)))
    if listener < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return listener


def _stand_between(pid: int, listener: int, folder: Path, decide: Callable[[Call], Decision]) -> None:
    """Until the child has ended."""
    end = os.pidfd_open(pid)
    names = {number: name for name, number in CALLS[platform.machine()].items()}
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(end, select.POLLIN)
    try:
        while True:
            ready = dict(poll.poll())
            if end in ready:
                return
            if not ready.get(listener, 0) & select.POLLIN:
                poll.unregister(listener)  # only its end is left
                continue
            asked = bytearray(_NOTIFICATION.size)
            try:
                fcntl.ioctl(listener, _RECEIVE, asked)
            except FileNotFoundError:
                continue  # it was killed meanwhile
            ident, tid, _, number, _, _, *arguments = _NOTIFICATION.unpack(asked)
            call = _call(names[number], tid, arguments)
            here = any(path == folder or folder in path.parents for path in call.paths)
            decision = decide(call) if here else None
            if isinstance(decision, Kill):
                os.kill(pid, signal.SIGKILL)
                continue
            failure = decision.errno if decision is not None else 0
            with suppress(FileNotFoundError):
                flags = 0 if failure else _CONTINUE
                fcntl.ioctl(listener, _SEND, _ANSWER.pack(ident, 0, -failure, flags))
    finally:
        os.close(end)
        os.close(listener)


def _call(name: str, tid: int, arguments: list[int]) -> Call:
    places = _BY_PATH.get(name)
    try:
        if places is None:
            paths = [os.readlink(f"/proc/{tid}/fd/{arguments[0]}")]
        else:
            paths = [_text(tid, arguments[place]) for place in places]
        writes = name in ("write", "pwrite64")
        content = _memory(tid, arguments[1], arguments[2]) if writes else b""
        offset = _position(tid, arguments[0]) if name == "write" else arguments[3]
    except OSError:
        paths, content, offset = [], b"", 0  # it was killed meanwhile
    return Call(name, tuple(map(Path, paths)), tuple(arguments), content, offset)


def _position(tid: int, file: int) -> int:
    """Where the next write goes."""
    return int(Path(f"/proc/{tid}/fdinfo/{file}").read_text().split()[1])


def _text(tid: int, address: int) -> str:
    """A path in the child's memory; relative ones are not told apart by their folder."""
    content = _memory(tid, address, min(_PATH_MAX, 4096 - address % 4096))
    if b"\0" not in content:
        content += _memory(tid, address + len(content), _PATH_MAX)
    return os.fsdecode(content.split(b"\0", 1)[0])


def _memory(tid: int, address: int, size: int) -> bytes:
    with Path(f"/proc/{tid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)


def _step(operation: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter; the jumps count instructions that are passed over."""
    return struct.pack("HBBI", operation, if_true, if_false, operand)


def _ignore(_: object) -> None:
    pass
