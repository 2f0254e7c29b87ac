"""What settings the configuration has, what each of them takes, and which one was meant."""

import difflib
import math
import typing
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import inspect

from contracts.address import masked
from contracts.config import Config


class Setting(msgspec.Struct, frozen=True):
    """One setting: its path of keys, the struct that has it, its type, and its default."""

    path: tuple[str, ...]
    owner: type
    annotation: object
    default: object

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def is_table(self) -> bool:
        """Whether the keys below it are free (a layout for each site, say)."""
        return isinstance(inspect.type_info(self.annotation), inspect.DictType)

    def accepts(self, value: object) -> bool:
        """Whether `value` has the right type, keeps the bounds and is finite."""
        try:
            msgspec.convert(value, self.annotation)
        except msgspec.ValidationError:
            return False
        return _finite(value)

    def refusal(self, value: object) -> str:
        """Why `value` is refused, what the setting takes and, of words, the nearest one."""
        kind = inspect.type_info(self.annotation)
        text = f"{self.name} = {shown(value)} is refused; it takes {takes(kind)}"
        choices = _choices(kind) if isinstance(kind, inspect.LiteralType | inspect.EnumType) else []
        near = difflib.get_close_matches(str(value), choices, 1)
        return f"{text}; did you mean {near[0]}?" if near else text


def sections(root: type[msgspec.Struct] = Config) -> Iterator[tuple[tuple[str, ...], type[msgspec.Struct]]]:
    """Every table of the configuration, its path and its struct, outer ones first."""
    for name, annotation in typing.get_type_hints(root).items():
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            yield (name,), annotation
            yield from (((name, *path), struct) for path, struct in sections(annotation))


def _settings() -> Iterator[Setting]:
    tables = {struct for _, struct in sections()}
    for path, struct in sections():
        hints = typing.get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            if hints[field.name] not in tables:
                default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
                yield Setting((*path, field.name), struct, hints[field.name], default)


SETTINGS: Mapping[tuple[str, ...], Setting] = {setting.path: setting for setting in _settings()}
"""Every setting by its path, section by section."""
SECTIONS = dict(sections())


def find(path: tuple[str, ...]) -> Setting | None:
    """The setting at `path`; below a table of free names, the entry that `path` names there."""
    for length in range(len(path), 0, -1):
        setting = SETTINGS.get(path[:length])
        if setting is not None:
            return setting if length == len(path) else _entry(setting, path[length:])
    return None


def _entry(table: Setting, keys: tuple[str, ...]) -> Setting | None:
    """One entry of a table of free names, which may have dots in them."""
    if not table.is_table:
        return None
    _, annotation = typing.get_args(table.annotation)
    return Setting((*table.path, ".".join(keys)), table.owner, annotation, None)


def suggestion(path: tuple[str, ...]) -> str:
    """What was probably meant by `path`, which is no setting."""
    for prefix in (path[:length] for length in range(len(path) - 1, 0, -1)):
        if prefix in SETTINGS:
            return f"{'.'.join(prefix)} is a value and has no keys"
        if prefix in SECTIONS:
            return _suggestion_within(prefix, path[-1])
    same_key = [setting.name for setting in SETTINGS.values() if setting.path[-1] == path[-1]]
    known = [setting.name for setting in SETTINGS.values()] + [".".join(path) for path in SECTIONS]
    near = same_key or difflib.get_close_matches(".".join(path), known, 1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are the sections {', '.join(path[0] for path in SECTIONS if len(path) == 1)}"


def _suggestion_within(prefix: tuple[str, ...], key: str) -> str:
    """The nearest key of this section, else the same key of another, else all that the section has."""
    keys = [path[-1] for path in (*SETTINGS, *SECTIONS) if path[:-1] == prefix]
    near = [".".join((*prefix, match)) for match in difflib.get_close_matches(key, keys, 1)]
    near += [setting.name for setting in SETTINGS.values() if setting.path[-1] == key]
    if near:
        return f"did you mean {near[0]}?"
    return f"{'.'.join(prefix)} has {', '.join(keys)}"


def takes(kind: inspect.Type) -> str:
    """What a setting of type `kind` accepts, in words."""
    match kind:
        case inspect.Metadata(extra_json_schema={"description": str(words)}):
            return words
        case inspect.IntType():
            return "a whole number" + _bounds(kind)
        case inspect.FloatType():
            return "a number" + _bounds(kind)
        case inspect.StrType():
            return "text"
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "none"
        case inspect.LiteralType() | inspect.EnumType():
            return _either([f'"{choice}"' for choice in _choices(kind)])
        case inspect.UnionType():
            return _either([takes(part) for part in kind.types])
        case inspect.VarTupleType():
            least = f", at least {kind.min_length}" if kind.min_length else ""
            return f"a list of {takes(kind.item_type)}{least}"
        case inspect.TupleType():
            return f"a list of {len(kind.item_types)}: {', '.join(takes(part) for part in kind.item_types)}"
        case inspect.DictType():
            return f"names, each with {takes(kind.value_type)}"
    raise NotImplementedError(f"takes() has no words for {type(kind).__name__}; give it some")


def shown(value: object) -> str:
    """A value as it stands in a configuration file, passwords left out."""
    if isinstance(value, bool):
        return str(value).lower()
    return masked(f'"{value}"' if isinstance(value, str) else str(value))


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {_number(kind.ge)} to {_number(kind.le)}"
    if kind.ge is not None:
        return f" of at least {kind.ge:g}"
    if kind.gt is not None:
        return f" above {kind.gt:g}"
    return ""


def _number(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def _choices(kind: inspect.LiteralType | inspect.EnumType) -> list[str]:
    if isinstance(kind, inspect.LiteralType):
        return [str(value) for value in kind.values]
    return [str(member.value) for member in kind.cls]


def _either(options: list[str]) -> str:
    return options[0] if len(options) == 1 else ", ".join(options[:-1]) + " or " + options[-1]


def _finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
