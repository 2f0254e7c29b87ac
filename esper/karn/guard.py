"""What a certificate assumes, as one digest: the design, the code that builds it, and the versions below it.

Another digest means that what was found out may no longer hold: the blueprint's file was edited, or
another torch is installed.
"""

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from pkgutil import get_importer
from types import ModuleType

import torch

from contracts.kernels import Design
from esper.karn.blueprint import Blueprint, BlueprintError
from esper.karn.catalogue import CATALOGUE, Catalogue

_OWN = "esper.karn."
"""Modules of this package that a blueprint uses count with it."""
_OURS = ("esper", "contracts", "actors")
"""Other modules of these packages don't: they have a version."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of modules that somebody else looks after."""


def guard_digest(design: Design, catalogue: Catalogue = CATALOGUE) -> str:
    """SHA-256 of the design, its blueprint's code and the versions, 64 hexadecimal digits.

    The code is read once a process, when it is first asked for.

    Raises:
        UnknownBlueprint: the catalogue has none of that id.
        BlueprintError: the blueprint's class is in no file, or one of its files can't be read.
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

    With a blueprint of the user's own the modules count that it imports from its own package, or if it is in
    none, from its own folder. What is imported otherwise, or read, is not seen.

    Raises:
        BlueprintError: the class was not read from a file, or one that counts can't be read or is no Python.
    """
    sha = hashlib.sha256(blueprint.__qualname__.encode())
    for name, file in sorted(_files(blueprint).items()):
        content = _content(file)
        sha.update(f"\n{name} {len(content)}\n".encode())
        sha.update(content)
    return sha.hexdigest()


def _files(blueprint: type[Blueprint]) -> dict[str, Path]:
    """The files by module name, those that they import and that count included."""
    waiting = [one.__module__ for one in blueprint.__mro__ if issubclass(one, Blueprint)]
    homes = {
        _top(name): home for name in waiting if (home := _home(name, _file_of(name, blueprint))) is not None
    }
    files: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name not in files:
            files[name] = _file_of(name, blueprint)
            waiting += (one for one in _imports(name, files[name]) if _counts(one, homes))
    return files


def _home(name: str, file: Path) -> Path | None:
    """The folder whose modules count with a class of the user's own; None for one of ours."""
    top, _, inner = name.partition(".")
    if top in _OURS or (not inner and file.parent.name in _INSTALLED):
        return None
    depth = name.count(".") + (file.stem == "__init__") - 1
    return file.parents[max(depth, 0)]


def _counts(name: str, homes: Mapping[str, Path]) -> bool:
    """Whether the source of what is imported counts; nobody else's package is looked into for that."""
    if name.startswith(_OWN):
        return _origin(name) is not None
    top = _top(name)
    if top in _OURS or not (top in homes or _is_at_home(_origin(top), homes)):
        return False
    return _is_at_home(_origin(name), homes)


def _is_at_home(file: Path | None, homes: Mapping[str, Path]) -> bool:
    return file is not None and any(
        file.is_relative_to(home) and not _INSTALLED & set(file.relative_to(home).parts)
        for home in homes.values()
    )


def _top(name: str) -> str:
    return name.partition(".")[0]


def _file_of(name: str, blueprint: type[Blueprint]) -> Path:
    file = _origin(name)
    if file is None:
        raise BlueprintError(
            f"{blueprint.__qualname__} can't be certified: {name} was not read from a file; put it in one"
        )
    return file


def _origin(name: str) -> Path | None:
    """The file that a module of this name is read from; None if it is no module, or is in no file."""
    module = sys.modules.get(name)
    if module is not None:
        return _source(module)
    files = (Path(spec.origin) for spec in _specs(name) if spec.origin)
    return next((file for file in files if file.is_file()), None)


def _specs(name: str) -> list[ModuleSpec]:
    """Where a module may lie. Nothing is imported for that, not even the packages that it is in."""
    package = name.rpartition(".")[0]
    try:
        if not package:
            found = [find_spec(name)]
        else:
            finders = filter(None, map(get_importer, _folders(package)))
            found = [finder.find_spec(name) for finder in finders]
    except Exception:  # noqa: BLE001 - it is another's finder, or there is no such name
        return []
    return [spec for spec in found if spec is not None]


def _folders(package: str) -> list[str]:
    """Where a package's modules lie; nowhere if it is no package."""
    module = sys.modules.get(package)
    if module is not None:
        return [*getattr(module, "__path__", ())]
    return [folder for spec in _specs(package) for folder in spec.submodule_search_locations or ()]


def _source(module: ModuleType) -> Path | None:
    try:
        file = inspect.getsourcefile(module)
    except TypeError:
        return None
    return Path(file) if file and Path(file).is_file() else None


@cache
def _imports(name: str, file: Path) -> tuple[str, ...]:
    """The names that the module of this name and file imports, of modules and of what is in them."""
    if file.suffix != ".py":
        return ()
    package = name if file.stem == "__init__" else name.rpartition(".")[0]
    try:
        tree = ast.parse(_content(file))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise BlueprintError(f"{file} counts with a blueprint, but is no Python: {error}") from None
    return tuple(_imported(tree, package))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BlueprintError(f"{file} counts with a blueprint, but can't be read: {error.strerror}") from None


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            whole = _whole(node, package)
            yield from (whole, *(f"{whole}.{alias.name}" for alias in node.names))


def _whole(node: ast.ImportFrom, package: str) -> str:
    """The module that a `from … import` names, relative ones from their package on."""
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *filter(None, [node.module])])
