"""Real runs that go back from the disk, because nothing that is kept in memory can be gone back to."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace
from torch import Tensor

from actors.keeping import Keeper, Wrote
from actors.minds import Remembered
from actors.returning import WayBack
from contracts.report import Report, RollbackFacts
from esper.checkpoint.store import FOLDER, CheckpointStore
from esper.moment import Moment, from_checkpoint
from esper.options import BAD_USAGE
from esper.report.build import read
from esper.run import DONE, HALTED, main
from esper.tolaria.results import EpochResult
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.task import Task, Tensors, class_accuracy
from esper.tolaria.trainer import Trainer
from esper.workloads.registry import WORKLOADS
from esper.workloads.workload import Workload
from tests.esper.tolaria.runs import same_value
from tests.hosts import HOSTS, loss_fn

HOST = HOSTS[0]
NAME = "mnist1d"
"""The workload whose place the small host takes."""
EPOCHS, STEPS, KEEP = 12, 4, 3
BREAKS_IN = 7
WRITTEN_S = 60.0
"""Longest wait for a checkpoint to be written."""
HALVES = ("network", "optimizer", "rates", "seeds", "isolation", "stream", "global_streams", "position")
"""All of a snapshot but the seeds' modules, which are built anew, the accounts, which never fall, and the
loader, which goes on behind the batch that broke."""
ARGUMENTS = (
    "--epochs", str(EPOCHS), "--quiet", "--policy", "random",
    "--set", f"train.epoch_steps={STEPS}", "--set", "train.batch_size=20", "--set", f"checkpoint.keep={KEEP}",
    "--set", "checkpoint.every_s=0", "--set", "kernels.prefetch=false",
    "--set", "growth.path.probation_epochs=9",
    "--set", "budgets.epoch_boundary_ms=60000", "--set", "budgets.tamiyo_inference_ms=60000",
)  # fmt: skip


@dataclass
class Fragile:
    """A run whose training breaks in one epoch, and whose moments are lost just before that."""

    out: Path
    harm: Callable[[Path], list[int]] = lambda folder: []
    """Damages checkpoints, and says which."""
    harmed: list[int] = field(default_factory=list)
    keeper: Keeper | None = None
    written: threading.Condition = field(default_factory=threading.Condition)
    epoch: int = 0
    on_disk: int = -1
    """Epoch of the newest checkpoint when training broke."""
    mended: bool = False
    after: Snapshot | None = None
    """The trainer right after it went back."""
    there: Moment | None = None
    """What the disk has of that epoch, read anew."""
    minds: tuple[Remembered, Moment] | None = None
    """What everyone else remembers right after, and what they went back to."""

    @property
    def folder(self) -> Path:
        (folder,) = self.out.iterdir()
        return folder

    def task(self, seed: int) -> Task:
        parts = [Tensors(*HOST.batch(size, seed)) for seed, size in enumerate((240, 80, 40))]
        return Task(HOST.model(), *parts, self.loss, class_accuracy)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Breaks from one epoch on, until the run has gone back."""
        loss = loss_fn(outputs, targets)
        return loss * float("nan") if self.on_disk >= 0 and not self.mended else loss

    def lose(self) -> None:
        """In the training thread: all is written; then what is kept in memory is damaged."""
        keeper = self.keeper
        assert keeper is not None
        newest = keeper.moments[-1].epoch
        with self.written:
            assert self.written.wait_for(lambda: keeper.written >= newest, WRITTEN_S)
        for moment in keeper.moments:
            network = moment.snapshot.network
            left = {name: network.tensors[name] for name in sorted(network.tensors)[1:]}
            object.__setattr__(network, "tensors", left)
        self.on_disk = newest
        self.harmed = self.harm(self.folder)


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fragile:
    """Everything in its place for `main`."""
    it = Fragile(tmp_path / "runs")
    wrote, run_epoch, restore, facts = Keeper.wrote, Trainer.run_epoch, Trainer.restore, WayBack.facts

    def noted(self: Keeper, outcome: Wrote) -> None:
        with it.written:
            wrote(self, outcome)
            it.keeper = self
            it.written.notify_all()

    def trained(self: Trainer) -> EpochResult:
        if self._at.epoch + 1 == BREAKS_IN and it.on_disk < 0:
            it.lose()
        return run_epoch(self)

    def restored(self: Trainer, snapshot: Snapshot, *, behind_break: bool = False) -> EpochResult | None:
        result = restore(self, snapshot, behind_break=behind_break)
        if it.on_disk >= 0 and not it.mended:
            it.mended, it.after = True, self.keep()
            kept = CheckpointStore(it.folder, KEEP).load(snapshot.position.epoch)
            it.there = from_checkpoint(kept, self.rebuild)[1]
        return result

    def stated(self: WayBack, now_s: float) -> RollbackFacts:
        if it.minds is None:
            assert self.remembered is not None
            assert self.moment is not None
            it.minds = self.remembered, self.moment
        return facts(self, now_s)

    monkeypatch.setattr(Keeper, "wrote", noted)
    monkeypatch.setattr(Trainer, "run_epoch", trained)
    monkeypatch.setattr(Trainer, "restore", restored)
    monkeypatch.setattr(WayBack, "facts", stated)
    workload = Workload(NAME, "a small host", tuple(HOST.sites), 3000, 1.0, it.task)
    monkeypatch.setitem(WORKLOADS, NAME, workload)
    return it


def numbers(folder: Path) -> list[int]:
    """Of the checkpoints on the disk, ascending."""
    return sorted(int(path.stem) for path in (folder / FOLDER).glob("*.json"))


def flip(folder: Path, number: int) -> None:
    """One bit of a checkpoint's tensors."""
    (path,) = (folder / FOLDER).glob(f"*{number}*.safetensors")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_newest(folder: Path) -> list[int]:
    newest = numbers(folder)[-1]
    flip(folder, newest)
    return [newest]


def flip_all(folder: Path) -> list[int]:
    every = numbers(folder)
    for number in every:
        flip(folder, number)
    return every


def run(fragile: Fragile, *more: str) -> tuple[int, Report]:
    code = main([*ARGUMENTS, "--out", str(fragile.out), *more])
    return code, read(fragile.folder / "report.json")


def is_as_on_disk(fragile: Fragile) -> None:
    """Bit for bit, trainer and minds."""
    after, there = fragile.after, fragile.there
    assert after is not None
    assert there is not None
    assert fragile.minds is not None
    differ = [name for name in HALVES if not same_value(getattr(after, name), getattr(there.snapshot, name))]
    assert differ == []
    assert there.snapshot.network.seeds, "something has grown by then"
    remembered, memories = fragile.minds[0], there.memories
    issued = memories.controller.issued
    assert remembered.controller.issued >= issued, "the ids of commands are not used again"
    assert replace(remembered.controller, issued=issued) == memories.controller
    assert remembered.engine.records == memories.engine.records
    assert remembered.windows.windows == memories.windows.windows


@pytest.mark.real
def test_a_run_that_has_lost_its_moments_in_memory_goes_on_from_the_disk_bit_for_bit(
    fragile: Fragile,
) -> None:
    code, report = run(fragile)
    assert code == DONE
    assert [(one.kind, one.epoch, one.to_epoch) for one in report.rollbacks] == [
        ("full", BREAKS_IN, fragile.on_disk)
    ]
    assert fragile.on_disk == BREAKS_IN - 1
    told = "\n".join(alert.text for alert in report.alerts)
    assert f"epoch {BREAKS_IN - 1}: the trainer can't go back: the network has other tensors" in told
    is_as_on_disk(fragile)
    assert not any("foreign" in one.reason for one in report.verdicts.failed), "what has grown goes on"
    assert [one.epoch for one in report.epochs] == list(range(1, EPOCHS + 1))


@pytest.mark.real
def test_a_damaged_checkpoint_is_passed_over_and_named_and_the_one_before_it_is_gone_back_to(
    fragile: Fragile,
) -> None:
    fragile.harm = flip_newest
    code, report = run(fragile)
    assert code == DONE
    assert [(one.kind, one.to_epoch) for one in report.rollbacks] == [("full", fragile.on_disk - 1)]
    is_as_on_disk(fragile)
    told = "\n".join(alert.text for alert in report.alerts)
    (newest,) = fragile.harmed
    assert f"checkpoint {newest} is passed over" in told
    assert [one.epoch for one in report.epochs] == list(range(1, EPOCHS + 1))


@pytest.mark.real
def test_a_run_without_any_way_back_halts_and_says_what_is_wrong_with_each(
    fragile: Fragile, capsys: pytest.CaptureFixture[str]
) -> None:
    fragile.harm = flip_all
    code, report = run(fragile)
    assert code == HALTED
    assert report.ended.kind == "halted"
    assert "there is no way back" in report.ended.reason
    lost = fragile.harmed
    assert len(lost) == KEEP
    for number in lost:
        assert f"checkpoint {number} is passed over" in report.ended.reason
    assert report.rollbacks == ()

    before = {path: path.read_bytes() for path in fragile.folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["--resume", str(fragile.folder), "--quiet"]) == BAD_USAGE
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "no checkpoint can be gone on with" in line
    assert all(f"checkpoint {number} is passed over" in line for number in lost)
    assert {path: path.read_bytes() for path in fragile.folder.rglob("*") if path.is_file()} == before
