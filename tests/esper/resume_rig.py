"""Kills real runs at random moments, resumes them, and compares them with runs that nobody broke off.

    python -m tests.esper.resume_rig FOLDER KILLS SEED

Every run is a process of its own, forked from this one, which has loaded torch and run nothing. A run may be
killed again while it is resumed, also while it starts. Each has one field report on each command. Prints one
JSON object of what was counted.
"""

import gc
import hashlib
import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from contracts import topics
from contracts.lifecycle import Stage
from esper.checkpoint.store import CheckpointStore
from esper.ending import is_complete
from esper.errors import BadSetup
from esper.report.build import REPORT, read
from esper.session import grow
from esper.tamiyo.observation import UNDONE
from esper.tolaria.task import Task, Tensors, class_accuracy
from esper.workloads.registry import find_workload
from tests.esper.journal.workload import events_of
from tests.hosts import HOSTS, loss_fn

STUCK_S = 120.0
"""A run that takes longer hangs."""
MODEL = "model.safetensors"
WAITS = ("budgets.tamiyo_inference_ms=60000", "budgets.epoch_boundary_ms=60000")
"""A busy machine may not decide anything: a decision that comes late would be another decision."""
SETTINGS = (
    *WAITS,
    "kernels.prefetch=false",
    "checkpoint.every_s=0",
    "growth.embargo_epochs=2",
    "growth.max_stage=2",
    "growth.gates.interface_loss_ratio_max=2.0",
    "growth.guard.graft_ms=0",
    "growth.guard.change_ms=0",
)
LONG_WAY = (
    "growth.path.training_epochs=2",
    "growth.path.blending_epochs=2",
    "growth.path.shadowing_epochs=2",
    "growth.path.probation_epochs=3",
)
SHORT_WAY = ("growth.path.probation_epochs=3",)


@dataclass(frozen=True)
class Case:
    """One run: what is trained, who decides, by which way seeds come in."""

    name: str
    host: int
    """Number of the host in `HOSTS`; -1 is the workload MNIST-1D."""
    policy: str
    settings: tuple[str, ...]
    epochs: int

    def task(self) -> Task:
        if self.host < 0:
            return find_workload("mnist1d").task(0)
        host = HOSTS[self.host]
        splits = [Tensors(*host.batch(size, seed)) for seed, size in enumerate((240, 80, 40))]
        return Task(host.model(), *splits, loss_fn, class_accuracy)

    def sites(self) -> list[str]:
        if self.host < 0:
            return list(find_workload("mnist1d").sites)
        return list(HOSTS[self.host].sites)

    def play(self, out: Path, resume: Path | None) -> None:
        """The whole run, or the rest of it, in this process."""
        settings = (*SETTINGS, *self.settings, f"run.policy={self.policy}", f"run.out={out}")
        grow(self.task(), sites=self.sites(), epochs=self.epochs, settings=settings, resume=resume)


def cases() -> Iterator[Case]:
    """Every host with the policies that grow, seeds taking the long way and the short one."""
    small = ("train.epoch_steps=6", "train.batch_size=20")
    for number, host in enumerate(HOSTS):
        yield Case(f"{host.name}, random, long way", number, "random", (*small, *LONG_WAY), 26)
    yield Case("mnist1d, heuristic, short way", -1, "heuristic", (*SHORT_WAY, "train.epoch_steps=20"), 40)
    yield Case("mnist1d, heuristic, long way", -1, "heuristic", (*LONG_WAY, "train.epoch_steps=20"), 40)
    yield Case("mnist1d, none", -1, "none", ("train.epoch_steps=10",), 20)


def in_a_process(case: Case, out: Path, resume: Path | None, life_s: float) -> bool:
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
        except BadSetup as error:
            os.write(2, f"{error}\n".encode())
        finally:
            os._exit(code)
    handle = os.pidfd_open(pid)
    killed = not select.select([handle], [], [], life_s)[0]
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
    return {
        "epochs": epochs, "grafts": grafts, "final": final, "weights": weights, "verdicts": verdicts,
        "probes": probes,
    }  # fmt: skip


def check_reports(folder: Path) -> None:
    """There is one field report on each command: one a boundary, and those that a rollback has undone."""
    events, damaged = events_of(folder)
    assert damaged == []
    told = [one["message"] for one in events if one["topic"] == topics.FIELD_REPORT]
    ids = [one["command_id"] for one in told]  # type: ignore[index]
    assert len(set(ids)) == len(ids), f"reported more than once: {Counter(ids).most_common(3)} in {folder}"
    happened = [one for one in told if one["notes"] != UNDONE]  # type: ignore[index]
    boundaries = len(read(folder / REPORT).epochs) - 1
    assert len(happened) == boundaries, f"{len(happened)} reports on {boundaries} boundaries in {folder}"


def stages_at(folder: Path) -> set[str]:
    """The stages of the seeds in the newest checkpoint, before it is resumed from."""
    found = CheckpointStore(folder, 3).newest().checkpoint
    if found is None:
        return {"nothing kept yet"}
    records = msgspec.msgpack.decode(found.record)["memories"]["engine"]["records"]
    return {Stage(one["stage"]).name for one in records}


@dataclass
class Counted:
    """What the rig has seen."""

    kills: int = 0
    runs: int = 0
    equal: int = 0
    resumes: int = 0
    stages: Counter[str] = None  # type: ignore[assignment]


def broken_off(
    case: Case, out: Path, took_s: float, random_: random.Random, most: int, counted: Counted
) -> Path:
    """A run that is killed at least once and at most `most` times; its folder."""
    out.mkdir()
    kills = 0
    while True:
        folder = folder_in(out)
        if folder is not None and is_complete(folder):  # killed when all was done
            break
        if folder is not None:
            counted.resumes += 1
            counted.stages.update(stages_at(folder))
        life_s = random_.uniform(0.0, took_s) if kills < most else STUCK_S
        if not in_a_process(case, out, folder, life_s):
            break
        kills += 1
    counted.kills += kills
    folder = folder_in(out)
    assert folder is not None
    return folder


def main(work: Path, kills: int, seed: int) -> dict[str, object]:
    torch.set_num_threads(1)
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])  # loads torch's compiler
    gc.freeze()  # no child need walk through what is loaded
    assert len(os.listdir("/proc/self/task")) == 1, "only a process of one thread may be forked"
    random_ = random.Random(seed)
    counted, every = Counted(stages=Counter()), list(cases())
    sound: dict[str, tuple[dict[str, object], float]] = {}
    while counted.kills < kills:
        case = every[counted.runs % len(every)]
        if case.name not in sound:
            out = work / f"sound-{len(sound)}"
            out.mkdir()
            began = time.monotonic()
            assert not in_a_process(case, out, None, STUCK_S)
            folder = folder_in(out)
            assert folder is not None
            sound[case.name] = numbers(folder), time.monotonic() - began
        expected, took_s = sound[case.name]
        out = work / f"run-{counted.runs}"
        before = counted.kills
        folder = broken_off(case, out, took_s, random_, min(3, kills - counted.kills), counted)
        found = numbers(folder)
        check_reports(folder)
        odd = [name for name in expected if found[name] != expected[name]]
        assert not odd, f"{case.name}, {counted.kills - before} kills, seed {seed}: {odd} differ in {folder}"
        counted.runs, counted.equal = counted.runs + 1, counted.equal + 1
    return {**vars(counted), "stages": dict(counted.stages)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *map(int, sys.argv[2:]))))
