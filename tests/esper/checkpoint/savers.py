"""Savers that are wrong in one way each, made of the real store and file operations that are not as asked."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from esper.checkpoint.files import NewFile
from tests.esper.checkpoint.crashing import DiskFile, DiskFiles


class Passing:
    """Passes everything on to the disk."""

    def __init__(self, files: DiskFiles) -> None:
        self.files = files

    def make_folder(self, folder: Path) -> None:
        self.files.make_folder(folder)

    def names(self, folder: Path) -> list[str]:
        return self.files.names(folder)

    def size(self, file: Path) -> int:
        return self.files.size(file)

    def read(self, file: Path, bytes_max: int, begin: int = 0) -> bytearray:
        return self.files.read(file, bytes_max, begin)

    def create(self, file: Path) -> NewFile:
        return self.files.create(file)

    def rename(self, source: Path, target: Path) -> None:
        self.files.rename(source, target)

    def remove(self, file: Path) -> None:
        self.files.remove(file)

    def sync_folder(self, folder: Path) -> None:
        self.files.sync_folder(folder)


class PassingFile:
    """Passes everything on to the file."""

    def __init__(self, file: NewFile) -> None:
        self.file = file

    def write(self, content: memoryview) -> int:
        return self.file.write(content)

    def sync(self) -> None:
        self.file.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Unsynced(PassingFile):
    """Its content is never made durable."""

    def sync(self) -> None:
        return None


class Insistent(PassingFile):
    """A failed `sync` is tried again."""

    def sync(self) -> None:
        with suppress(OSError):
            return self.file.sync()
        return self.file.sync()


class NoTensorsSync(Passing):
    def create(self, file: Path) -> NewFile:
        made = super().create(file)
        return Unsynced(made) if "safetensors" in file.name else made


class NoManifestSync(Passing):
    def create(self, file: Path) -> NewFile:
        made = super().create(file)
        return Unsynced(made) if "json" in file.name else made


class NoFolderSync(Passing):
    def sync_folder(self, folder: Path) -> None:
        return None


class NoParentSync(Passing):
    """Only what is in the folder of checkpoints is made durable, and not the folder itself."""

    def sync_folder(self, folder: Path) -> None:
        if folder.name == "checkpoints":
            super().sync_folder(folder)


class ManifestFirst(Passing):
    """The manifest gets its name, and then the tensors theirs."""

    def __init__(self, files: DiskFiles) -> None:
        super().__init__(files)
        self._later: list[tuple[Path, Path]] = []

    def rename(self, source: Path, target: Path) -> None:
        if target.suffix == ".safetensors":
            self._later.append((source, target))
            return
        super().rename(source, target)
        for one in self._later:
            super().rename(*one)
        self._later.clear()


class OneFsyncForBoth(Passing):
    """The folder is synced once, after both renames."""

    def __init__(self, files: DiskFiles) -> None:
        super().__init__(files)
        self._renamed = ""

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._renamed = target.suffix

    def sync_folder(self, folder: Path) -> None:
        if self._renamed != ".safetensors":
            super().sync_folder(folder)


class RemovesFirst(Passing):
    """Makes room before the new one is there."""

    def create(self, file: Path) -> NewFile:
        for name in sorted(self.files.names(file.parent)):
            self.files.remove(file.parent / name)
        return super().create(file)


class TensorsGoFirst(Passing):
    """Of what is too old, the tensors are removed before the manifest."""

    def remove(self, file: Path) -> None:
        if file.suffix == ".json":
            super().remove(file.with_suffix(".safetensors"))
        super().remove(file)


class SweepsUnsynced(Passing):
    """Leftovers are removed before it is sure that no manifest comes back to them."""

    def __init__(self, files: DiskFiles) -> None:
        super().__init__(files)
        self._listed = False

    def names(self, folder: Path) -> list[str]:
        self._listed = True
        return super().names(folder)

    def sync_folder(self, folder: Path) -> None:
        if not self._listed:
            super().sync_folder(folder)
        self._listed = False

    def create(self, file: Path) -> NewFile:
        self._listed = False
        return super().create(file)


class InPlace(Passing):
    """Every checkpoint is written over the last one's bytes, if the store asks for the same names."""

    def create(self, file: Path) -> NewFile:
        if file.name not in self.files.names(file.parent):
            return super().create(file)
        return DiskFile(self.files, self.files._content(file))

    def rename(self, source: Path, target: Path) -> None:
        assert source == target


class Retries(Passing):
    def create(self, file: Path) -> NewFile:
        return Insistent(super().create(file))
