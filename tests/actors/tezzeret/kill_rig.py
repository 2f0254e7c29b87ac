"""Runs smiths over cold stores and kills each after a random time, until the wanted number is killed.

    python -m tests.actors.tezzeret.kill_rig FOLDER KILLS DESIGNS SEED

The rig has torch imported and forks what it needs, as starting torch anew takes longer than most kills leave:

    rig ──fork──▶ smith's process (a real Smith, a real Library) ──fork, before its threads──▶ nursery
                        └── its sandboxes' processes are forked by the nursery, then confined as ever

All of them die with the smith's process: the nursery by its parent's death, theirs by the nursery's. After
each kill the rig looks at a copy of the catalogue and at the files, before the next smith mends anything.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import queue
import random
import select
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import torch

from actors.tezzeret import child, worker_side
from actors.tezzeret.confinement import Terms, confine
from actors.tezzeret.frames import Frame, Kind, encode
from actors.tezzeret.sandbox import Limits
from actors.tezzeret.shop import Announcement, Shop, Standing
from actors.tezzeret.smith import Smith
from actors.tezzeret.worker import forging
from contracts.growth import Layout, SiteInfo
from contracts.kernels import KernelArtifactError, KernelArtifactReady, KernelSpec, Strategy, design_of
from esper.karn.catalogue import CATALOGUE
from esper.tezzeret.agenda import Policy
from esper.tezzeret.forge import build, forge
from esper.urza.library import Library

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
STUCK_S = 300.0
MESSAGE_BYTES = 1 << 16


def wanted(count: int) -> tuple[KernelSpec, ...]:
    """Two draws each of some small designs, three at most."""
    vector = SiteInfo("", Layout.VECTOR, (4,), 4, 0)
    tokens = SiteInfo("", Layout.TOKENS, (3, 4), 4, 0)
    designs = (
        design_of(vector, "BP001", {}),
        design_of(tokens, "BP002", {"rank": 2}),
        design_of(vector, "BP003", {"width": 3}),
    )
    return tuple(KernelSpec(design, draw) for draw in (7, 8) for design in designs[-count:])


# The smith's process --------------------------------------------------------------------------------


class Forked:
    """A process that the nursery forked: as much of `subprocess.Popen` as a `Child` uses.

    The nursery never reaps, so that a number stays a process's own as long as the smith lives.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self, timeout: float) -> int:
        self.returncode = -signal.SIGKILL
        return self.returncode


def die_with_parent(parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), None, None, None)
    if os.getppid() != parent:
        os._exit(1)


def nursery(requests: socket.socket, journal: int) -> None:
    """Forks a confined process for each request: its terms and folder in, its number out."""
    while True:
        message, handles, _, _ = socket.recv_fds(requests, MESSAGE_BYTES, 3)
        if not message:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            requests.close()
            confined(message, handles, journal)
        for handle in handles:
            os.close(handle)
        requests.send(str(pid).encode())


def confined(message: bytes, handles: list[int], journal: int) -> None:
    """What `worker_side.main` does, in a process that was forked and not started."""
    os.setsid()
    reads, writes, speaks = handles
    os.dup2(speaks, 1)
    os.dup2(speaks, 2)
    asked, scratch = json.loads(message)
    terms = msgspec.structs.replace(
        msgspec.convert(asked, Terms), reads=reads, writes=writes, parent=os.getppid()
    )
    tempfile.tempdir = scratch
    sys.argv = ["forked", msgspec.json.encode(terms).decode()]
    os.write(writes, encode(Frame(Kind.HELLO, msgspec.json.encode(confine(terms)))))
    make = forging(CATALOGUE)

    def handle(header: bytes, body: bytes, tell: worker_side.Tell) -> tuple[bytes, bytes]:
        spec = msgspec.convert(json.loads(header)["spec"], KernelSpec)
        os.write(journal, f"begin {spec.design.key}\n".encode())
        return make(header, body, tell)

    try:
        worker_side.serve(handle)
    finally:
        os._exit(0)


def smith_process(folder: Path, journal: int, seed: int) -> None:
    """Go on with the store until nothing is wanted any more."""
    os.setsid()
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    if os.fork() == 0:
        mine.close()
        die_with_parent(parent)
        nursery(theirs, journal)
    theirs.close()

    def start(terms: Terms, speaks: int, scratch: Path) -> Forked:
        message = json.dumps([msgspec.to_builtins(terms), str(scratch)]).encode()
        socket.send_fds(mine, [message], [terms.reads, terms.writes, speaks])
        return Forked(int(mine.recv(MESSAGE_BYTES)))

    child._start = start  # type: ignore[assignment]
    left = len(Books(folder).wanted)
    told: queue.SimpleQueue[Announcement | Standing] = queue.SimpleQueue()
    shop = Shop(folder, Policy(second_from=2), Limits(background=False))
    smith = Smith(lambda: Library(folder), shop, random.Random(seed), told.put)
    smith.start()
    while left:
        one = told.get(timeout=STUCK_S)
        assert not isinstance(one, KernelArtifactError), one
        left -= isinstance(one, KernelArtifactReady)
    os._exit(0 if smith.stop(STUCK_S) else 1)


# The rig --------------------------------------------------------------------------------------------


class Books:
    """The catalogue as it lies on the disk, read from a copy: to open it would mend it."""

    def __init__(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as copy:
            for name in ("catalogue.sqlite", "catalogue.sqlite-wal"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(folder / name, copy)
            with contextlib.closing(sqlite3.connect(Path(copy) / "catalogue.sqlite")) as ledger:
                self.wanted = {key for (key,) in ledger.execute("SELECT spec_key FROM work")}
                self.rows = ledger.execute("SELECT ref, kind, spec_key, design_key FROM artifacts").fetchall()
                (self.sound,) = ledger.execute("PRAGMA quick_check").fetchone()
        self.made = {spec_key for _, kind, spec_key, _ in self.rows if kind == "kernel"}
        self.designs = {design_key for _, kind, _, design_key in self.rows if kind == "kernel"}


class Round:
    """One store from cold to complete."""

    def __init__(self, folder: Path, specs: tuple[KernelSpec, ...], random_: random.Random) -> None:
        self._folder = folder
        self._specs = specs
        self._random = random_
        self._journal = folder.with_suffix(".journal")
        self._read = 0
        self._finished: set[str] = set()
        with Library(folder) as library:
            assert all(library.want(spec) for spec in specs)

    def run(self, life_s: float) -> bool:
        """One smith's life; True if it was killed, False if it had done all there was."""
        journal = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        pid = os.fork()
        if pid == 0:
            smith_process(self._folder, journal, self._random.getrandbits(32))
        os.close(journal)
        handle = os.pidfd_open(pid)
        killed = not select.select([handle], [], [], life_s)[0]
        os.close(handle)
        if killed:
            end(pid)
        status = os.waitpid(pid, 0)[1]
        bury_all()
        assert killed or status == 0, f"the smith ended with {status}"
        self.check()
        return killed

    def check(self) -> None:
        """Nothing lost, nothing half-written, nothing made twice."""
        books = Books(self._folder)
        assert books.sound == "ok"
        assert books.wanted | books.made == {spec.key for spec in self._specs}, "a kernel was lost"
        for ref, *_ in books.rows:
            (file,) = self._folder.rglob(ref)
            assert hashlib.sha256(file.read_bytes()).hexdigest() == ref.partition(".")[0], ref
        lines = self._journal.read_text().split("\n")[:-1]
        again = {line.split()[1] for line in lines[self._read :]} & self._finished
        assert not again, f"compiled though it was finished: {again}"
        self._read, self._finished = len(lines), books.designs

    def verify(self) -> None:
        """All is there, and loads as what its specification says."""
        with Library(self._folder) as library:
            assert library.wanted() == ()
            assert library.stats().damaged == library.stats().quarantined == 0
            for spec in self._specs:
                kernel = library.fetch(spec)
                assert kernel.certificate.strategy is Strategy.STANDARD
                ours, theirs = build(spec, CATALOGUE).state_dict(), kernel.module.state_dict()
                assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    @property
    def begun(self) -> int:
        """Compilations begun in all."""
        return self._read


def end(pid: int) -> None:
    """Kill a smith's process and all below it; one killed in its first moments leads no group yet."""
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def bury_all() -> None:
    """Wait until every process below this one is gone."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def unharmed(one: Round, designs: int) -> float:
    """Seconds of a smith's whole life that nobody ends."""
    began = time.monotonic()
    assert not one.run(STUCK_S)
    one.verify()
    assert one.begun == designs, "the second draw of a design is not compiled"
    return time.monotonic() - began


def main(folder: Path, kills: int, designs: int, seed: int) -> dict[str, object]:
    torch.set_num_threads(1)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), None, None, None)
    specs = wanted(designs)
    forge(specs[0], Strategy.FAST, CATALOGUE)  # imports what it needs; gradients would start a thread
    assert len(os.listdir("/proc/self/task")) == 1, "only a process of one thread may be forked"
    random_ = random.Random(seed)
    life_s = unharmed(Round(folder / "unharmed", specs, random_), designs)
    killed = begun = rounds = 0
    while killed < kills:
        rounds += 1
        one = Round(folder / f"round-{rounds}", specs, random_)
        while one.run(random_.uniform(0.0, life_s) if killed < kills else STUCK_S):
            killed += 1
        one.verify()
        begun += one.begun
        shutil.rmtree(folder / f"round-{rounds}")
    return {"kills": killed, "rounds": rounds, "begun": begun, "life_s": life_s}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *map(int, sys.argv[2:]))))
