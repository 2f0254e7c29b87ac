"""Reads checkpoints: sizes and digests of everything are checked before a byte is interpreted."""

import hashlib
from pathlib import Path
from typing import Final

from torch import Tensor

from esper.checkpoint.errors import Damaged
from esper.checkpoint.files import Files
from esper.checkpoint.listing import listing_of, manifest_name, tensors_name
from esper.checkpoint.manifest import MANIFEST_BYTES_MAX, Head, read_manifest
from esper.checkpoint.saying import read, told
from esper.checkpoint.tensors import tensors_of

UNCHECKED_BYTES_MAX: Final = 256 << 20
"""As much is read into memory before its digest is known; of a larger file the digest is made first."""
PIECE_BYTES: Final = 16 << 20
"""What of such a file is in memory at a time."""


class Reader:
    """Reads from one folder, and changes nothing there.

    Whatever the files claim, no more than `UNCHECKED_BYTES_MAX` is allocated for what is not sound.
    """

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder = folder
        self._files = files

    def numbers(self) -> tuple[int, ...]:
        """Of all manifests, the oldest first; none if there is no folder.

        Raises:
            CheckpointError: the folder can't be listed.
        """
        with told(f"the checkpoints in {self._folder} can't be listed"):
            try:
                return listing_of(self._files.names(self._folder)).numbers
            except FileNotFoundError:
                return ()

    def head(self, number: int) -> Head:
        """What the manifest says; the tensors beside it have the right size, and are not looked at further.

        Raises:
            Damaged: one of the two is missing, or not as it was written.
        """
        head, _ = self._manifest(number)
        self._check_size(head)
        return head

    def load(self, number: int) -> tuple[Head, bytes, dict[str, Tensor]]:
        """The head, the record and the tensors, each bit as it was saved.

        Raises:
            Damaged: one of the files is missing, or not as it was written.
        """
        head, record = self._manifest(number)
        self._check_size(head)
        file, size = self._folder / head.tensors.name, head.tensors.bytes
        with read(file.name):
            if size > UNCHECKED_BYTES_MAX:
                sha = hashlib.sha256()
                for begin in range(0, size, PIECE_BYTES):
                    sha.update(self._files.read(file, min(PIECE_BYTES, size - begin), begin))
                _check_digest(sha.hexdigest(), head)
            content = self._files.read(file, size)
            _check_digest(hashlib.sha256(content).hexdigest(), head)
            return head, record, tensors_of(content, head.tensors.pairs)

    def _manifest(self, number: int) -> tuple[Head, bytes]:
        name = manifest_name(number)
        with read(name):
            size = self._files.size(self._folder / name)
            if size > MANIFEST_BYTES_MAX:
                raise Damaged(f"has {size:,} bytes; a manifest has at most {MANIFEST_BYTES_MAX:,}")
            head, record = read_manifest(self._files.read(self._folder / name, size))
            if head.number != number:
                raise Damaged(f"is the manifest of checkpoint {head.number}")
            if head.tensors.name != tensors_name(number):
                raise Damaged(f"names {head.tensors.name[:80]!r}; its tensors are {tensors_name(number)}")
        return head, record

    def _check_size(self, head: Head) -> None:
        with read(head.tensors.name):
            size = self._files.size(self._folder / head.tensors.name)
            if size != head.tensors.bytes:
                raise Damaged(f"has {size:,} bytes; it was written with {head.tensors.bytes:,}")


def _check_digest(sha256: str, head: Head) -> None:
    if sha256 != head.tensors.sha256:
        raise Damaged("is not what was written: its digest is another")
