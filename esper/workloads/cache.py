"""Generated data, kept between runs: one safetensors file a draw, written atomically, checked on load.

A cache that can't be read or written costs time, never a run.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/esper-grow`, or `~/.cache/esper-grow`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "esper-grow"


def cached(key: str, package: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors that `make` makes, from the cache if a sound copy is there.

    `key` names the draw, seed included; the installed version of `package`, the generator, becomes part
    of the file's name, so that another version never answers for this one.
    """
    path = cache_folder() / f"{key}-{package}-{version(package)}.safetensors"
    note = {"draw": key, "generator": f"{package} {version(package)}"}
    tensors = _load(path, note)
    if tensors is None:
        tensors = make()
        _save(path, tensors, note)
    return tensors


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()


def _load(path: Path, note: dict[str, str]) -> dict[str, Tensor] | None:
    """What the file holds, copied out of it; None if it is missing, unreadable or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: torch.clone(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            claimed = file.metadata()
    except (OSError, SafetensorError):
        return None
    return tensors if claimed == {**note, "sha256": digest(tensors)} else None


def _save(path: Path, tensors: dict[str, Tensor], note: dict[str, str]) -> None:
    data = save(tensors, metadata={**note, "sha256": digest(tensors)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    except (OSError, RuntimeError):  # no place to write: the data are made again next time
        return
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
