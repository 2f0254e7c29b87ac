"""Writes a checkpoint, and removes old ones, in the order that a power cut can't spoil.

    tensors beside ─ fsync ─ rename ─ folder fsync ─▶ manifest beside ─ fsync ─ rename ─ folder fsync ─▶ saved
    too old: manifests removed ─ folder fsync ─▶ tensors removed

A file's content is durable after its own fsync, a name after its folder's (Pillai et al. 2014, "All File
Systems Are Not Created Equal"). A failed fsync is never tried again: what it should have written may be gone,
and the second call succeeds all the same (Rebello et al. 2020, "Can Applications Recover from fsync
Failures?"). The next save begins with new files.
"""

import errno
import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from esper.checkpoint.errors import CheckpointError
from esper.checkpoint.files import Files
from esper.checkpoint.listing import NUMBER_MAX, Listing, beside, listing_of, manifest_name, tensors_name
from esper.checkpoint.manifest import SCHEMA, Head, TensorsFile, manifest_of
from esper.checkpoint.saying import at
from esper.checkpoint.tensors import Layout, pieces


class Writer:
    """Writes into one folder, which it makes; everything raises `OSError` with the step that failed."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._ready = False

    def prepare(self) -> Listing:
        """Have the folder there for good, and no leftovers in it; what it holds."""
        if not self._ready:
            with at(f"making {self._folder.name}"):
                self._files.make_folder(self._folder)
            run = self._folder.parent
            for parent in (run, run.parent):
                with at(f"making names in {parent} durable"):
                    self._files.sync_folder(parent)
            self._ready = True
        with at("listing it"):
            listing = listing_of(self._files.names(self._folder))
        if listing.leftovers:
            self._sync()  # a manifest that was removed must not come back to tensors that are removed now
        for name in listing.leftovers:
            self._remove(name)
        return listing

    def write(
        self, number: int, epoch: int, record: bytes, tensors: Mapping[str, Tensor], layout: Layout
    ) -> int:
        """Make both files durable under their names, the manifest last; bytes of both.

        Raises:
            CheckpointError: something can't be stored.
        """
        if number > NUMBER_MAX:
            raise CheckpointError(f"{number - 1} is the last number that there is; move its files away")
        values, manifest = tensors_name(number), manifest_name(number)
        try:
            digest = self._write(beside(values), pieces(layout, tensors))
            self._rename(values)
            self._sync()
            about = TensorsFile(values, layout.nbytes, digest, layout.pairs)
            content = manifest_of(Head(SCHEMA, number, epoch, about), record)
            self._write(beside(manifest), (memoryview(content),))
        except BaseException:
            self._discard(values, beside(values), beside(manifest))
            raise
        # From here on it may be complete whatever happens, so that nothing of it is removed.
        self._rename(manifest)
        self._sync()
        return layout.nbytes + len(content)

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove checkpoints; tensors go when no power cut can bring their manifest back."""
        numbers = tuple(numbers)
        for number in numbers:
            self._remove(manifest_name(number))
        self._sync()
        with at("listing it"):
            there = set(self._files.names(self._folder))
        for number in numbers:
            if tensors_name(number) in there:
                self._remove(tensors_name(number))

    def _write(self, name: str, parts: Iterable[memoryview]) -> str:
        """Write a new file and make its content durable; its SHA-256."""
        sha = hashlib.sha256()
        with at(f"writing {name}"), self._files.create(self._folder / name) as file:
            for part in parts:
                sha.update(part)
                while part:
                    count = file.write(part)
                    if count <= 0:
                        raise OSError(errno.EIO, "no more bytes are taken")
                    part = part[count:]
            file.sync()
        return sha.hexdigest()

    def _rename(self, name: str) -> None:
        with at(f"giving {name} its name"):
            self._files.rename(self._folder / beside(name), self._folder / name)

    def _sync(self) -> None:
        with at("making names durable"):
            self._files.sync_folder(self._folder)

    def _remove(self, name: str) -> None:
        with at(f"removing {name}"):
            self._files.remove(self._folder / name)

    def _discard(self, *names: str) -> None:
        """Give back the space of a save that failed; what stays is removed by the next."""
        for name in names:
            with suppress(OSError):
                self._files.remove(self._folder / name)
