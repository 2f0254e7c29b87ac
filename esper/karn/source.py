"""Blueprints of the user's own: found in a module, and found again there by another process.

Nothing but names travels: the other process imports the module from the file that this one had it from. So
a blueprint that is to be compiled is a class of a module, which is all that it is: what a certificate says
of it then rests on its source.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import msgspec

from esper.karn.blueprint import Blueprint, BlueprintError
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.guard import code_digest


class NotImportable(BlueprintError):
    """A module with blueprints can't be imported, or has none; or a blueprint is in no module."""


class Source(msgspec.Struct, frozen=True):
    """Where a blueprint is to be had."""

    module: str
    name: str
    """Of its class."""
    root: str
    """Folder in which the module's name begins."""
    file: str


def own_in(catalogue: Catalogue) -> tuple[Blueprint, ...]:
    """The blueprints that Esper does not have itself."""
    kinds = {type(one) for one in CATALOGUE}
    return tuple(one for one in catalogue if type(one) not in kinds)


def source_of(blueprint: Blueprint) -> Source:
    """Where another process finds a blueprint.

    Raises:
        NotImportable: nowhere; the message says why, and what would do.
    """
    kind = type(blueprint)
    module = sys.modules.get(kind.__module__)
    if kind.__module__ == "__main__":
        raise NotImportable("its class is defined in the script that is run; put it in a module of its own")
    if kind.__qualname__ != kind.__name__ or getattr(module, kind.__name__, None) is not kind:
        raise NotImportable("its class is not to be had by name from its module; define it at the top level")
    if vars(blueprint):
        held = ", ".join(sorted(vars(blueprint)))
        raise NotImportable(f"it holds values of its own ({held}), which its source does not say")
    file = _file_of(module)
    if module is None or file is None:
        raise NotImportable("its class was not read from a file; put it in one")
    try:
        code_digest(kind)
    except BlueprintError as error:
        raise NotImportable(str(error)) from None
    return Source(kind.__module__, kind.__name__, str(_root(file, kind.__module__)), str(file))


def blueprint_at(source: Source) -> Blueprint:
    """The blueprint, made anew.

    Raises:
        NotImportable: it is not there.
    """
    module = _imported(source.module, Path(source.root), Path(source.file))
    kind = getattr(module, source.name, None)
    if not (isinstance(kind, type) and issubclass(kind, Blueprint)):
        raise NotImportable(f"{source.file} has no blueprint called {source.name}")
    return _made(kind, source.file)


def gathered(places: Iterable[str]) -> tuple[Blueprint, ...]:
    """The blueprints of some modules, each given as a file (`….py`) or by name, in the order of their ids.

    Raises:
        NotImportable: there is no such module, importing it fails, it defines no blueprint, or one can't be
            made.
    """
    return tuple(blueprint for place in places for blueprint in _defined_at(place))


def with_own(catalogue: Catalogue, places: Iterable[str]) -> Catalogue:
    """The catalogue with the blueprints of some modules.

    Raises:
        ValueError: they can't be had (NotImportable), or two have the same id.
    """
    own = gathered(places)
    return Catalogue((*catalogue, *own)) if own else catalogue


def absolute(place: str) -> str:
    """A place that means the same from any folder; a home that nobody has is taken for a folder's name."""
    return str(Path(os.path.expanduser(place)).absolute()) if place.endswith(".py") else place


def _defined_at(place: str) -> list[Blueprint]:
    module = _module_at(place)
    named = dict.fromkeys(kind for kind in vars(module).values() if isinstance(kind, type))
    kinds = [
        kind
        for kind in named
        if issubclass(kind, Blueprint) and kind.__module__ == module.__name__ and _is_whole(kind)
    ]
    if not kinds:
        raise NotImportable(
            f"{place} defines no blueprint: no class derived from Blueprint with all its methods and a "
            "descriptor"
        )
    return sorted((_made(kind, place) for kind in kinds), key=lambda one: one.blueprint_id)


def _is_whole(kind: type[Blueprint]) -> bool:
    """Whether it is meant to be grown; others are what some are derived from."""
    return not inspect.isabstract(kind) and hasattr(kind, "descriptor")


def _module_at(place: str) -> ModuleType:
    if place.endswith(".py"):
        file = Path(absolute(place))
        if not file.is_file():
            raise NotImportable(f"there is no file {file}")
        name = _name_of(file)
        return _imported(name, _root(file, name), file)
    spec = _spec_of(place)
    if spec is None or spec.origin is None:
        raise NotImportable(f"there is no module {place!r}; a file is given with its path, ending in .py")
    if not spec.has_location:
        raise NotImportable(f"{place} is a part of Python that is read from no file; it has no blueprints")
    file = Path(spec.origin)
    return _imported(place, _root(file, place), file)


def _spec_of(place: str) -> ModuleSpec | None:
    """Where a module is; its packages are imported for that. None if there is none of that name."""
    try:
        return find_spec(place)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{place}.".startswith(f"{error.name}."):
            return None
        raise NotImportable(f"{place} can't be imported: {_told(error)}") from error


def _imported(name: str, root: Path, file: Path) -> ModuleType:
    if str(root) not in sys.path:
        sys.path.append(str(root))
        importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise NotImportable(f"{file} can't be imported: {_told(error)}") from error
    found = _file_of(module)
    if found is None or found.resolve() != file.resolve():
        raise NotImportable(
            f"{file} can't be imported: {name} is {found or 'another module'} here; call it something else"
        )
    return module


def _made(kind: type[Blueprint], place: str) -> Blueprint:
    try:
        made = kind()
        made.blueprint_id, made.layouts  # noqa: B018 - a class without them is no blueprint
    except (Exception, SystemExit) as error:
        raise NotImportable(f"{kind.__name__} of {place} can't be made: {_told(error)}") from error
    return made


def _told(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).absolute() if file else None


def _name_of(file: Path) -> str:
    """The dotted name of a file's module, with the packages that it lies in."""
    parts = [] if file.stem == "__init__" else [file.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


def _root(file: Path, name: str) -> Path:
    """The folder in which the import of a module of this name and file begins."""
    depth = len(name.split(".")) + (file.stem == "__init__")
    return file.parents[depth - 1]
