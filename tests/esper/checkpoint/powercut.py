"""Cuts the power after every operation of the real store, and judges every disk that can be found then.

The store opens each disk, must find what it acknowledged, saves again, and loses power again during that.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from esper.checkpoint.files import Files
from esper.checkpoint.store import FOLDER, Checkpoint, CheckpointStore, Found
from tests.esper.checkpoint.crashing import RUN, Died, DiskFiles, Folder, Image, a_disk, disk_of, images
from tests.esper.checkpoint.world import a_checkpoint, same

Wrap = Callable[[DiskFiles], Files]
"""Puts something between the store and the disk."""
Open = Callable[[int, Files], CheckpointStore]
"""Opens the run's store, given how many to keep."""


STEPS_MAX = 1_000
"""Of one save; more is a save that never ends."""


class BadDisk(AssertionError):
    """A disk that can be found does not hold what it must."""


def the_real(keep: int, files: Files) -> CheckpointStore:
    return CheckpointStore(RUN, keep, files)


def untouched(files: DiskFiles) -> Files:
    return files


@dataclass
class Counts:
    """What was tried."""

    kill_points: int = 0
    """Operations after which the power was cut."""
    disks: int = 0
    """Disks found then; of one kill point no two are alike."""
    kills: int = 0
    """Operations before which the process was killed, with the power on."""
    second_kill_points: int = 0
    """Operations of a save on what was found, after which the power was cut once more."""
    second_disks: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kill_points:,} kill points, {self.disks:,} disks; {self.kills:,} kills; then "
            f"{self.second_kill_points:,} second kill points, {self.second_disks:,} disks"
        )


@dataclass
class History:
    """What was promised, the oldest first, and what may be found besides."""

    acknowledged: list[Checkpoint] = field(default_factory=list)
    possible: list[Checkpoint] = field(default_factory=list)
    """Newer ones that were begun."""

    def acknowledge(self, new: Checkpoint) -> None:
        """It is saved."""
        self.acknowledged.append(new)
        self.possible.clear()

    def check(self, found: Found, step: str) -> None:
        """Nothing seems damaged, and the newest promised one is there, or one of the possible."""
        _check(found.passed_over == (), f"something looks damaged: {found.passed_over}", step)
        last = self.acknowledged[-1] if self.acknowledged else None
        there = any(same(found.checkpoint, one) for one in (last, *self.possible))
        _check(there, f"found {_told(found.checkpoint)}, not {_told(last)}", step)

    def after(self, found: Checkpoint | None) -> "History":
        """If what was found is there for good."""
        durable = found is not None and any(same(found, one) for one in self.possible)
        return History([*self.acknowledged, found] if durable and found else list(self.acknowledged))


@dataclass
class Rig:
    """One run's saves with power cuts; `tensors` in each checkpoint, writes that take `write_max` bytes."""

    keep: int = 2
    tensors: int = 2
    size: int = 5
    write_max: int = 1 << 30
    wrap: Wrap = untouched
    open: Open = the_real
    limit: int = 200
    """Disks looked at of one kill point, if there are more."""
    second_limit: int = 12
    again: int = 1
    """One of so many disks is saved to once more."""
    seed: int = 0
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._judged: set[tuple[Image, tuple[int, ...]]] = set()

    def saves(self, epochs: Sequence[int]) -> Self:
        """Save in turn on one disk, with a power cut after every operation."""
        history = History()
        files = DiskFiles(a_disk(), write_max=self.write_max)
        files.after = lambda step: self._cut(files.disk, history, step)
        store = self.open(self.keep, self.wrap(files))
        for epoch in epochs:
            history.possible.append(self.checkpoint(epoch))
            store.save(history.possible[-1])
            history.acknowledge(history.possible[-1])
            self._cut(files.disk, history, "save")
        return self

    def killed(self, epochs: Sequence[int]) -> Self:
        """Kill the process before each operation of the last save in turn, and leave the power on.

        The next process finds the cache as it was, and loses power after each of its own operations.
        """
        for last in range(STEPS_MAX):
            history, disk, died = self._killed_after(last, epochs)
            if not died:
                return self
            self.counts.kills += 1
            self._again(disk, history)
        raise AssertionError("it never ends")

    def checkpoint(self, epoch: int) -> Checkpoint:
        return a_checkpoint(epoch, self.tensors, self.size)

    def _killed_after(self, last: int, epochs: Sequence[int]) -> tuple[History, Folder, bool]:
        history, steps = History(), 0

        def step(name: str) -> None:
            nonlocal steps
            steps += len(history.possible)
            if steps > last:
                raise Died

        files = DiskFiles(a_disk(), before=step, write_max=self.write_max)
        store = self.open(self.keep, self.wrap(files))
        for epoch in epochs[:-1]:
            store.save(self.checkpoint(epoch))
            history.acknowledged.append(self.checkpoint(epoch))
        history.possible.append(self.checkpoint(epochs[-1]))
        try:
            store.save(history.possible[-1])
        except Died:
            return history, files.disk, True
        return history, files.disk, False

    def _cut(self, disk: Folder, history: History, step: str) -> None:
        """Judge what can be found now, and go on from some of it."""
        self.counts.kill_points += 1
        for image in sorted(images(disk, self.limit, self._draw), key=repr):
            self.counts.disks += 1
            key = (image, tuple(one.epoch for one in (*history.acknowledged, *history.possible)))
            if key in self._judged:
                continue
            self._judged.add(key)
            found = self._judge(image, history, step)
            if len(self._judged) % self.again == 0:
                self._again(disk_of(image), history.after(found))

    def _again(self, disk: Folder, history: History) -> None:
        """Open what was found, save, and lose power after each operation."""
        DiskFiles(disk).make_folder(RUN)  # as every run does; before the first save it may be gone
        seen = self.open(self.keep, DiskFiles(disk)).newest()
        history.check(seen, "reopening")

        def cut(step: str) -> None:
            self.counts.second_kill_points += 1
            for image in sorted(images(disk, self.second_limit, self._draw), key=repr):
                self.counts.second_disks += 1
                self._judge(image, history, f"{step}, once more")

        history.possible.append(self.checkpoint(1_000 + len(history.acknowledged)))
        store = self.open(self.keep, self.wrap(DiskFiles(disk, after=cut, write_max=self.write_max)))
        store.save(history.possible[-1])
        new, history.acknowledged = history.possible[-1], history.after(seen.checkpoint).acknowledged
        history.acknowledge(new)
        cut("save")

    def _judge(self, image: Image, history: History, step: str) -> Checkpoint | None:
        """What the store finds there; `BadDisk` if it is not what was promised."""
        store = self.open(self.keep, DiskFiles(disk_of(image)))
        found = store.newest()
        history.check(found, step)
        epochs = store.epochs()
        _check(len(epochs) == _manifests(image), f"of {_manifests(image)} only {epochs} are sound", step)
        kept = max(0, self.keep - len(history.possible))
        for promised in history.acknowledged[-kept:] if kept else []:
            there = promised.epoch in epochs and same(store.load(promised.epoch), promised)
            _check(there, f"epoch {promised.epoch} is lost", step)
        least = min(self.keep, len(history.acknowledged))
        _check(len(epochs) >= least, f"of {least} there are left {epochs}", step)
        return found.checkpoint


def _manifests(image: Image) -> int:
    """How many checkpoints a disk claims to hold."""
    inside: bytes | Image = image
    for name in (*RUN.parts[1:], FOLDER):
        inside = dict(inside).get(name, ()) if isinstance(inside, tuple) else ()
    return sum(name.endswith(".json") for name, _ in inside) if isinstance(inside, tuple) else 0


def _told(checkpoint: Checkpoint | None) -> str:
    return "nothing" if checkpoint is None else f"epoch {checkpoint.epoch}"


def _check(holds: bool, text: str, step: str) -> None:
    if not holds:
        raise BadDisk(f"after {step}: {text}")
