"""What a certificate assumes, as one digest: the design, the code that builds it, and the versions below it.

Another digest means that what was found out may no longer hold: the blueprint's file was edited, or
another torch is installed.
"""

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

from contracts.kernels import Design
from esper.karn.blueprint import Blueprint, BlueprintError
from esper.karn.catalogue import CATALOGUE, Catalogue

_OWN = "esper.karn."
"""Modules of this package that a blueprint uses count with it."""


def guard_digest(design: Design, catalogue: Catalogue = CATALOGUE) -> str:
    """SHA-256 of the design, its blueprint's code and the versions, 64 hexadecimal digits.

    The code is read once a process, when it is first asked for.

    Raises:
        UnknownBlueprint: the catalogue has none of that id.
        BlueprintError: the blueprint's class is in no file.
    """
    sha = hashlib.sha256(design.key.encode())
    sha.update(code_digest(type(catalogue.get(design.blueprint_id))).encode())
    for name, number in guarded_versions().items():
        sha.update(f" {name}={number}".encode())
    return sha.hexdigest()


@cache
def guarded_versions() -> dict[str, str]:
    """The versions that a certificate rests on, by name."""
    try:
        own = version("esper-grow")
    except PackageNotFoundError:
        own = "not installed"
    return {"esper-grow": own, "torch": str(torch.__version__)}


@cache
def code_digest(blueprint: type[Blueprint]) -> str:
    """SHA-256 over the source files of a blueprint's classes and of what they use of Karn.

    Raises:
        BlueprintError: the class was not read from a file.
    """
    sha = hashlib.sha256(blueprint.__qualname__.encode())
    for name, file in sorted(_files(blueprint).items()):
        content = file.read_bytes()
        sha.update(f"\n{name} {len(content)}\n".encode())
        sha.update(content)
    return sha.hexdigest()


def _files(blueprint: type[Blueprint]) -> dict[str, Path]:
    """The files by module name, those that they import from Karn included."""
    waiting = [one.__module__ for one in blueprint.__mro__ if issubclass(one, Blueprint)]
    files: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name not in files:
            files[name] = _file_of(name, blueprint)
            waiting += _imports(files[name])
    return files


def _file_of(name: str, blueprint: type[Blueprint]) -> Path:
    module = sys.modules.get(name)
    file = _source(module) if module is not None else None
    if file is None:
        raise BlueprintError(
            f"{blueprint.__qualname__} can't be certified: {name} was not read from a file; put it in one"
        )
    return file


def _source(module: ModuleType) -> Path | None:
    try:
        file = inspect.getsourcefile(module)
    except TypeError:
        return None
    return Path(file) if file and Path(file).is_file() else None


@cache
def _imports(file: Path) -> tuple[str, ...]:
    """The modules of Karn that a file imports by name."""
    return tuple(_imported(file))


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(_OWN))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_OWN.rstrip(".")):
            assert node.module is not None
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in (node.module, *inner) if name.startswith(_OWN) and _is_module(name))


def _is_module(name: str) -> bool:
    """Whether a dotted name is a module, not something inside one."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
