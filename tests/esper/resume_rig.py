"""Kills real runs at random moments, resumes them, and compares them with runs that nobody broke off.

    python -m tests.esper.resume_rig FOLDER KILLS SEED [everything|stages|troubled]

Every run is a process of its own, forked from this one, which has loaded torch and run nothing. A run may be
killed again while it is resumed, also while it starts. Each has one field report on each command. Prints one
JSON object of what was counted; among it is what the runs were in when they were taken up again.

    everything    hosts and policies in turn, killed after any time
    stages        the same, and more often than KILLS if need be, until it was in every stage
    troubled      the run of `tests.esper.troubles`, killed soon after each of its checkpoints in turn, more
                  often than KILLS until it was in all that it meets; the disk keeps up with it, so that what
                  is in memory is there as well
"""

import gc
import hashlib
import os
import random
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch

from contracts import topics
from contracts.lifecycle import Stage
from esper.checkpoint.store import FOLDER, CheckpointStore
from esper.ending import is_complete
from esper.moment import Memories
from esper.report.build import REPORT, read
from esper.tamiyo.observation import UNDONE
from tests.esper import troubles
from tests.esper.journal.workload import events_of
from tests.esper.resume_cases import Case, Troubled, cases

STUCK_S = 120.0
"""A run that takes longer hangs."""
MODEL = "model.safetensors"
STAGES = frozenset(stage.name for stage in Stage if stage not in (Stage.UNKNOWN, Stage.TERMINATED))
"""Those that a run comes to without an operator."""
MOST = 5
"""Times as many kills as were asked for, until something is given up that no run was taken up in."""
LOOKS_EVERY_S = 0.002
SOON_S = 0.03
"""About half of what an epoch of the troubled run takes."""


@dataclass(frozen=True)
class Death:
    """A process is killed so long after there is a checkpoint of this number; 0 is at its start."""

    after_s: float = STUCK_S
    checkpoint: int = 0


def in_a_process(case: Case, out: Path, resume: Path | None, death: Death) -> bool:
    """One process of a run; True if it was killed, False if it came to its end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            log = os.open(out / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            case.play(out, resume)
            code = 0
        except BaseException:  # noqa: BLE001 - a forked process may not go on as this one
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    handle = os.pidfd_open(pid)
    ended, began = False, time.monotonic()
    while not ended and newest_in(out) < death.checkpoint and time.monotonic() - began < STUCK_S:
        ended = bool(select.select([handle], [], [], LOOKS_EVERY_S)[0])
    killed = not ended and not select.select([handle], [], [], death.after_s)[0]
    if killed:
        os.kill(pid, signal.SIGKILL)
    os.close(handle)
    status = os.waitpid(pid, 0)[1]
    if status and not killed:
        raise AssertionError(f"{case.name} ended with {status}:\n{(out / 'said.txt').read_text()[-3000:]}")
    return killed


def folder_in(out: Path) -> Path | None:
    """The folder of the run there, once its configuration is written: before that it has not begun."""
    return next((one.parent for one in out.glob("*/config.toml")), None)


def newest_in(out: Path) -> int:
    """The number of the newest checkpoint there; 0 if there is none."""
    return max((int(one.stem) for one in out.glob(f"*/{FOLDER}/[0-9]*.json")), default=0)


def numbers(folder: Path) -> dict[str, object]:
    """All of a finished run that must not depend on whether it was broken off."""
    report = read(folder / REPORT)
    epochs = [
        (
            one.epoch,
            one.train_loss,
            one.val_loss,
            one.val_accuracy,
            one.learning_rate,
            one.params,
            one.train_flops,
        )
        for one in report.epochs
    ]
    grafts = [
        (one.site, one.blueprint_id, one.outcome, one.stages, one.gain, one.params) for one in report.grafts
    ]
    final = report.final
    weights = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    verdicts = (report.verdicts, report.commands, report.flops)
    probes = [(one.probe_id, one.epoch, one.flops, one.candidates) for one in report.probes]
    rollbacks = [(one.epoch, one.to_epoch, one.kind, one.reason) for one in report.rollbacks]
    alerts = [(one.name, one.epoch, one.text, one.severity) for one in report.alerts]
    return {
        "epochs": epochs, "grafts": grafts, "final": final, "weights": weights, "verdicts": verdicts,
        "probes": probes, "rollbacks": rollbacks, "alerts": alerts,
    }  # fmt: skip


class Told(msgspec.Struct, frozen=True):
    """A field report, as far as it counts here."""

    command_id: str
    notes: str


def check_reports(folder: Path) -> None:
    """There is one field report on each command: one a boundary, and those that a rollback has undone."""
    events, damaged = events_of(folder)
    assert damaged == []
    told = [msgspec.convert(one["message"], Told) for one in events if one["topic"] == topics.FIELD_REPORT]
    ids = [one.command_id for one in told]
    assert len(set(ids)) == len(ids), f"reported more than once: {Counter(ids).most_common(3)} in {folder}"
    happened = [one for one in told if one.notes != UNDONE]
    boundaries = len(read(folder / REPORT).epochs) - 1
    assert len(happened) == boundaries, f"{len(happened)} reports on {boundaries} boundaries in {folder}"


class Kept(msgspec.Struct, frozen=True):
    """A checkpoint's record, as far as it counts here."""

    epoch: int
    memories: Memories


def met_in(folder: Path) -> set[str]:
    """What the run is in by the newest checkpoint, before it is resumed from."""
    found = CheckpointStore(folder, 3).newest().checkpoint
    if found is None:
        return {"nothing kept yet"}
    kept = msgspec.msgpack.decode(found.record, type=Kept)
    return troubles.met_at(kept.epoch, kept.memories)


@dataclass
class Counted:
    """What the rig has seen."""

    kills: int = 0
    runs: int = 0
    equal: int = 0
    resumes: int = 0
    met: dict[str, int] = field(default_factory=dict)
    """How often a run was in something when it was taken up again."""

    def resumed(self, folder: Path) -> None:
        """A run is about to be taken up again."""
        self.resumes += 1
        for what in met_in(folder):
            self.met[what] = self.met.get(what, 0) + 1


def broken_off(case: Case, out: Path, deaths: Iterable[Death], counted: Counted) -> Path:
    """A run that is killed so often, unless it comes to its end before; its folder."""
    out.mkdir()
    for death in (*deaths, Death()):
        folder = folder_in(out)
        if folder is not None and is_complete(folder):  # killed when all was done
            break
        if folder is not None:
            counted.resumed(folder)
        if not in_a_process(case, out, folder, death):
            break
        counted.kills += 1
    folder = folder_in(out)
    assert folder is not None
    return folder


@dataclass
class Rig:
    """Kills runs in `work`, and compares each with the one of its kind that nothing interrupted."""

    work: Path
    random: random.Random
    counted: Counted = field(default_factory=Counted)
    _sound: dict[str, tuple[dict[str, object], float, int]] = field(default_factory=dict)

    def took_s(self, case: Case) -> float:
        """What the run takes when nothing interrupts it."""
        return self._whole(case)[1]

    def checkpoints(self, case: Case) -> int:
        """How many it writes then."""
        return self._whole(case)[2]

    def break_off(self, case: Case, deaths: Sequence[Death]) -> None:
        """One run that is killed so often."""
        counted = self.counted
        expected, *_ = self._whole(case)
        folder = broken_off(case, self.work / f"run-{counted.runs}", deaths, counted)
        found = numbers(folder)
        check_reports(folder)
        odd = [name for name in expected if found[name] != expected[name]]
        assert not odd, f"{case.name}, killed {deaths}: {odd} differ in {folder}"
        counted.runs, counted.equal = counted.runs + 1, counted.equal + 1

    def _whole(self, case: Case) -> tuple[dict[str, object], float, int]:
        if case.name not in self._sound:
            out = self.work / f"sound-{len(self._sound)}"
            out.mkdir()
            began = time.monotonic()
            assert not in_a_process(case, out, None, Death())
            folder = folder_in(out)
            assert folder is not None
            took_s = time.monotonic() - began
            self._sound[case.name] = numbers(folder), took_s, newest_in(out)
        return self._sound[case.name]


def break_everything(rig: Rig, kills: int) -> None:
    """Every kind of run in turn, each killed up to three times after any time."""
    counted, every = rig.counted, list(cases())
    while counted.kills < kills:
        case = every[counted.runs % len(every)]
        most = min(3, kills - counted.kills)
        rig.break_off(case, [Death(rig.random.uniform(0.0, rig.took_s(case))) for _ in range(most)])


def break_every_stage(rig: Rig, kills: int) -> None:
    """The same, and more if need be, until runs were taken up again in every stage."""
    counted = rig.counted
    break_everything(rig, kills)
    while not counted.met.keys() >= STAGES and counted.kills < MOST * kills:
        break_everything(rig, counted.kills + 3)


def break_troubled(rig: Rig, kills: int) -> None:
    """The troubled run, killed up to three times, soon after one checkpoint and after later ones.

    Then, if need be, killed once and at once after each in turn, which leaves nothing out that it meets.
    """
    case, counted, due = Troubled(), rig.counted, list[int]()
    while counted.kills < kills or (not counted.met.keys() >= troubles.MET and counted.kills < MOST * kills):
        if not due:
            due = list(range(1, rig.checkpoints(case)))
            rig.random.shuffle(due)
        most, late_s = (3, SOON_S) if counted.kills < kills else (1, 0.0)
        at, due = sorted(due[:most]), due[most:]
        rig.break_off(case, [Death(rig.random.uniform(0.0, late_s), number) for number in at])


WAYS = {"everything": break_everything, "stages": break_every_stage, "troubled": break_troubled}


def main(work: Path, kills: int, seed: int, way: str = "everything") -> Counted:
    torch.set_num_threads(1)
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])  # loads torch's compiler
    gc.freeze()  # no child need walk through what is loaded
    assert len(os.listdir("/proc/self/task")) == 1, "only a process of one thread may be forked"
    rig = Rig(work, random.Random(seed))
    WAYS[way](rig, kills)
    return rig.counted


if __name__ == "__main__":
    folder, kills, seed, *way = sys.argv[1:]
    print(msgspec.json.encode(main(Path(folder), int(kills), int(seed), *way)).decode())
