"""The checkpoints of a run: saves the newest, keeps so many, and finds the newest that is good."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from torch import Tensor

from esper.checkpoint.errors import CheckpointError, Damaged
from esper.checkpoint.files import REAL_FILES, Files
from esper.checkpoint.listing import FOLDER as FOLDER
from esper.checkpoint.listing import manifest_name, superseded
from esper.checkpoint.manifest import EPOCH_MAX, RECORD_BYTES_MAX, TENSOR_BYTES_MAX
from esper.checkpoint.reader import Reader
from esper.checkpoint.saying import told
from esper.checkpoint.tensors import Layout, lay_out
from esper.checkpoint.writer import Writer


@dataclass(frozen=True)
class Checkpoint:
    """A run at the end of an epoch.

    What is loaded has the bits, dtypes and shapes of what was saved, not its strides, devices or sharing:
    every tensor is contiguous, on the CPU, and has memory of its own.
    """

    epoch: int
    record: bytes
    """Everything but the tensors; opaque here."""
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Saved:
    """What lies on the disk for good."""

    number: int
    path: Path
    """Of the manifest."""
    bytes: int
    """Of both files."""


@dataclass(frozen=True)
class Found:
    """The newest good checkpoint, if there is one."""

    checkpoint: Checkpoint | None
    passed_over: tuple[str, ...]
    """A sentence for each newer one that is not good, the newest first."""


class CheckpointStore:
    """The checkpoints in a run's folder, which is there and held by `esper.checkpoint.lock.holding`.

    Threads may share it: a save waits for a save, and loading and removing wait for each other. Nothing is
    read or written before the first call.
    """

    def __init__(self, folder: Path, keep: int, files: Files = REAL_FILES) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}; at least 1 checkpoint must be kept")
        self._folder = folder.absolute() / FOLDER
        self._keep = keep
        self._writer = Writer(self._folder, files)
        self._reader = Reader(self._folder, files)
        self._bad: set[int] = set()
        """Numbers that were found to be damaged."""
        self._saving = Lock()
        self._removing = Lock()

    def save(self, checkpoint: Checkpoint) -> Saved:
        """Write a checkpoint that is newer than all others, and remove those that are too many.

        When this returns, no power cut undoes it. The tensors must not change meanwhile.

        Raises:
            CheckpointError: it can't be written or made durable, or holds what can't be stored. The older
                ones are as they were, and the next save may succeed.
        """
        layout = _checked(checkpoint)
        with self._saving:
            where = f"the checkpoint of epoch {checkpoint.epoch} can't be saved in {self._folder}"
            with told(f"{where}, where the older ones are as they were"):
                before = self._writer.prepare()
                size = self._writer.write(
                    before.next, checkpoint.epoch, checkpoint.record, checkpoint.tensors, layout
                )
            saved = Saved(before.next, self._folder / manifest_name(before.next), size)
            with told(f"{saved.path} is saved, but older checkpoints can't be removed"):
                self._trim((*before.numbers, saved.number))
        return saved

    def newest(self) -> Found:
        """The newest checkpoint that is, bit for bit, what was saved.

        Raises:
            CheckpointError: the folder can't be listed.
        """
        passed_over: list[str] = []
        with self._removing:
            for number in reversed(self._reader.numbers()):
                try:
                    return Found(self._loaded(number), tuple(passed_over))
                except Damaged as error:
                    passed_over.append(f"checkpoint {number} is passed over: {error}")
        return Found(None, tuple(passed_over))

    def epochs(self) -> tuple[int, ...]:
        """Epochs of which there is a checkpoint, each once, ascending; digests of tensors are not checked.

        Raises:
            CheckpointError: the folder can't be listed.
        """
        with self._removing:
            epochs = {self._epoch(number) for number in self._reader.numbers()}
        return tuple(sorted(epoch for epoch in epochs if epoch is not None))

    def load(self, epoch: int) -> Checkpoint:
        """The newest good checkpoint of an epoch.

        Raises:
            CheckpointError: there is none; the message says what is wrong with those that there are.
        """
        wrong: list[str] = []
        with self._removing:
            for number in reversed(self._reader.numbers()):
                try:
                    if self._reader.head(number).epoch == epoch:
                        return self._loaded(number)
                except Damaged as error:
                    wrong.append(str(error))
        reasons = "; ".join(wrong) or "none is damaged"
        raise CheckpointError(f"there is no good checkpoint of epoch {epoch} in {self._folder}: {reasons}")

    def before(self, epoch: int, most: int, is_past: Callable[[Checkpoint], bool]) -> Iterator[Checkpoint]:
        """The good checkpoints of earlier and earlier epochs, the newest first, at most so many; each is read
        when it is asked for. What is damaged is passed over, and what is not `is_past`: a run that goes back
        leaves files of a future that did not happen, which the next ones need not cover.

        Raises:
            CheckpointError: the folder can't be listed.
        """
        left = most
        for number in reversed(self._reader.numbers()):
            if left <= 0:
                return
            found = self._earlier(number, epoch)
            if found is not None and is_past(found):
                epoch, left = found.epoch, left - 1
                yield found

    def _earlier(self, number: int, epoch: int) -> Checkpoint | None:
        """This one, if it is a good one of an earlier epoch."""
        with suppress(Damaged), self._removing:
            if self._reader.head(number).epoch < epoch:
                return self._loaded(number)
        return None

    def _trim(self, numbers: tuple[int, ...]) -> None:
        sound = [number for number in numbers if self._epoch(number) is not None]
        old = superseded(numbers, sound, self._keep)
        if old:
            with self._removing:
                self._writer.remove(old)

    def _epoch(self, number: int) -> int | None:
        """Of which epoch a checkpoint is, if it seems to be sound; tensors are not read for it."""
        if number in self._bad:
            return None
        try:
            return self._reader.head(number).epoch
        except Damaged:
            return None

    def _loaded(self, number: int) -> Checkpoint:
        try:
            head, record, tensors = self._reader.load(number)
        except Damaged:
            self._bad.add(number)
            raise
        return Checkpoint(head.epoch, record, tensors)


def _checked(checkpoint: Checkpoint) -> Layout:
    """How the tensors will lie in their file, if the checkpoint can be stored."""
    if not 0 <= checkpoint.epoch <= EPOCH_MAX:
        raise CheckpointError(f"epoch {checkpoint.epoch} can't be stored")
    if len(checkpoint.record) > RECORD_BYTES_MAX:
        raise CheckpointError(
            f"the record has {len(checkpoint.record):,} bytes; it may have {RECORD_BYTES_MAX:,}"
        )
    layout = lay_out(checkpoint.tensors)
    if layout.nbytes > TENSOR_BYTES_MAX:
        raise CheckpointError(f"the tensors have {layout.nbytes:,} bytes; they may have {TENSOR_BYTES_MAX:,}")
    return layout
