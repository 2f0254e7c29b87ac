"""A sandboxed module that does what it is told, above all what it should not."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from actors.tezzeret.frames import Frame, Kind, encode
from actors.tezzeret.worker_side import Tell, serve

Outcome = tuple[bytes, bytes]
MIB = 1 << 20
held: list[bytearray] = []


def echo(body: bytes, tell: Tell) -> Outcome:
    return b"echo", body


def raise_error(body: bytes, tell: Tell) -> Outcome:
    raise ValueError(body.decode())


def progress(body: bytes, tell: Tell) -> Outcome:
    for share in (b"a third", b"two thirds"):
        tell(share)
    return b"done", b""


def sleep_for_ever(body: bytes, tell: Tell) -> Outcome:
    tell(b"asleep")
    while True:
        time.sleep(60.0)


def spin_for_ever(body: bytes, tell: Tell) -> Outcome:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pass


def spin_until_it_gives_way(body: bytes, tell: Tell) -> Outcome:
    while os.sched_getscheduler(0) != os.SCHED_IDLE:
        pass
    return b"gave way", b""


def leak(body: bytes, tell: Tell) -> Outcome:
    while True:
        held.append(bytearray(os.urandom(1) * (4 * MIB)))


def allocate(body: bytes, tell: Tell) -> Outcome:
    held.append(bytearray(int(body)))
    held.clear()
    return b"allocated", b""


def crash(body: bytes, tell: Tell) -> Outcome:
    print("about to read address 0")
    ctypes.string_at(0)
    return b"", b""


def leave(body: bytes, tell: Tell) -> Outcome:
    sys.exit("enough of this")


def garbage(body: bytes, tell: Tell) -> Outcome:
    _write(body)
    return b"", b""


def answer_twice(body: bytes, tell: Tell) -> Outcome:
    answer = encode(Frame(Kind.ANSWER, b"one"))
    _write(answer + answer)
    time.sleep(60.0)
    return b"", b""


def close_pipe(body: bytes, tell: Tell) -> Outcome:
    os.close(_writes())
    time.sleep(60.0)
    return b"", b""


def chatter(body: bytes, tell: Tell) -> Outcome:
    print("x" * int(body))
    return b"said", b""


def tries(body: bytes, tell: Tell) -> Outcome:
    """What became of each forbidden thing, tried past Python's own checks where there is a way."""
    libc = ctypes.CDLL(None, use_errno=True)

    def raw(name: str, *arguments: int) -> str:
        result = getattr(libc, name)(*arguments)
        return "worked" if result >= 0 else os.strerror(ctypes.get_errno())

    return b"tried", json.dumps(
        {
            "inet": raw("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
            "unix": raw("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
            "fork": raw("fork"),
            "signal to the parent": raw("kill", os.getppid(), 0),
            "signal to itself": raw("kill", os.getpid(), 0),
            "the parent's limits": raw("prlimit", os.getppid(), 7, 0, 0),
            "python socket": _python(socket.socket),
            "python connect": _python(lambda: socket.create_connection(("127.0.0.1", 9))),
            "python fork": _python(os.fork),
            "python subprocess": _python(lambda: subprocess.run(["true"], check=True)),
            "python exec": _python(lambda: os.execv("/bin/true", ["true"])),
        }
    ).encode()


def start_thread(body: bytes, tell: Tell) -> Outcome:
    said: list[str] = []
    thread = threading.Thread(target=said.append, args=("hello",))
    thread.start()
    thread.join()
    return said[0].encode(), b""


def start_family(body: bytes, tell: Tell) -> Outcome:
    """A child, a grandchild in a session of its own, and their numbers."""
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    apart = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    assert apart.stdout is not None
    tell(json.dumps([int(child.stdout.readline()), int(apart.stdout.readline())]).encode())
    time.sleep(600.0)
    return b"", b""


def leak_in_a_child(body: bytes, tell: Tell) -> Outcome:
    """A child and an orphan of it each hold a part of what is too much together."""
    hold = "held = bytearray(b'1') * (120 << 20); import time; time.sleep(600)"
    orphan = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {hold!r}], start_new_session=True)"
    )
    subprocess.Popen([sys.executable, "-c", hold])
    subprocess.run([sys.executable, "-c", orphan], check=True)
    time.sleep(600.0)
    return b"", b""


def describe(body: bytes, tell: Tell) -> Outcome:
    threading.Thread(target=time.sleep, args=(600.0,), daemon=True).start()
    if threading.active_count() > 2:  # the one of an earlier call is looked at
        threads = [thread.native_id for thread in threading.enumerate()[:2]]
    else:
        threads = []
    idle = [os.sched_getscheduler(thread) == os.SCHED_IDLE for thread in threads if thread is not None]
    about = {
        "threads": len(idle),
        "threads idle": sum(idle),
        "environment": dict(os.environ),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "idle": os.sched_getscheduler(0) == os.SCHED_IDLE,
        "leads a session": os.getsid(0) == os.getpid(),
        "folder is there": os.path.isdir(os.environ["TMPDIR"]),
    }
    return b"described", json.dumps(about).encode()


def _python(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "worked"


def _writes() -> int:
    return int(json.loads(sys.argv[1])["writes"])


def _write(data: bytes) -> None:
    os.write(_writes(), data)


ACTS = {
    act.__name__: act
    for act in (
        echo, raise_error, progress, sleep_for_ever, spin_for_ever, spin_until_it_gives_way, leak, allocate,
        crash, leave, garbage, answer_twice, close_pipe, chatter, tries, start_thread, start_family,
        leak_in_a_child, describe,
    )
}  # fmt: skip


def handle(header: bytes, body: bytes, tell: Tell) -> Outcome:
    return ACTS[header.decode()](body, tell)


if __name__ == "__main__":
    serve(handle)
