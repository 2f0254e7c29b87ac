"""A run's folder: whether it can be made, making it under a free name, and writing whole files into it."""

import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from esper.checkpoint.errors import CheckpointError
from esper.checkpoint.listing import FOLDER, listing_of
from esper.checkpoint.lock import holding
from esper.errors import BadSetup

CONFIG = "config.toml"
NAMES_MAX = 1_000
"""Folders of one name, numbered from the second on."""


def name_of(workload: str, policy: str, seed: int, now: datetime) -> str:
    """What a run's folder is called: what is trained, who decides, from which seed, and when (UTC)."""
    plain = re.sub(r"[^\w.-]+", "-", f"{workload}-{policy}-s{seed}")
    return f"{plain}-{now:%Y%m%dT%H%M%S%f}"[:-3]


def with_name(folder: Path) -> Path:
    """The same folder by a path that ends with its name: `.` and `..` in full."""
    return folder if folder.name not in ("", "..") else folder.resolve()


def has_checkpoint(folder: Path) -> bool:
    """Whether something to go on from lies in a run's folder, sound or not."""
    try:
        return bool(listing_of(os.listdir(folder / FOLDER)).numbers)
    except OSError:
        return False


def going_on(folder: Path) -> str:
    """What to type to go on with the run in `folder`."""
    return f"python -m esper.run --resume {shlex.quote(str(folder))}"


def check_folder(out: Path) -> None:
    """See that a run's folder can be made under `out`; nothing is left there.

    Raises:
        BadSetup: it can't.
    """
    try:
        nearest = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
        if nearest.is_dir():
            with tempfile.TemporaryDirectory(dir=nearest, prefix=".esper-"):
                return
    except OSError as error:
        raise BadSetup(f"run.out {out}: can't write there ({error.strerror}); give another folder") from None
    raise BadSetup(f"run.out {out}: {nearest} is a file; give a folder")


def check_left(folder: Path) -> None:
    """See that `folder` is one that a run has left, that it can be written to, and nobody works on it.

    Raises:
        BadSetup: it isn't, or can't, or somebody does.
    """
    if not (folder / CONFIG).is_file():
        raise BadSetup(
            f"--resume {folder}: it holds no run (there is no {CONFIG}); give a folder that a run left"
        )
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".esper-"), holding(folder):
            return
    except OSError as error:
        raise BadSetup(f"--resume {folder}: can't write there ({error.strerror})") from None
    except CheckpointError as error:
        raise BadSetup(str(error)) from None


@contextmanager
def new_folder(out: Path, name: str) -> Iterator[Path]:
    """A new folder `name` under `out`, or `name-2`, `name-3`, … where that is taken.

    If the block fails before it has written anything, the folder is gone again.

    Raises:
        BadSetup: it can't be made.
    """
    absent = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        folder = _made(out, name)
    except OSError as error:
        raise BadSetup(f"run.out {out}: {error.strerror}; give another folder") from None
    try:
        yield folder
    except BaseException:
        for made in (folder, *absent):
            with suppress(OSError):
                made.rmdir()
        raise


def write_whole(file: Path, content: bytes | Iterable[bytes]) -> None:
    """Write beside `file`, then rename: whatever happens leaves the old file or the new one, and no third."""
    beside = file.with_name(f".{file.name}.new")
    try:
        with beside.open("wb") as stream:
            stream.writelines((content,) if isinstance(content, bytes) else content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _made(out: Path, name: str) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for number in range(1, NAMES_MAX):
        folder = out / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    folder = out / f"{name}-{NAMES_MAX}"
    folder.mkdir()
    return folder
