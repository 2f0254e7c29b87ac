"""Loads a run's configuration: defaults, then a TOML file, then the command line; and writes it back.

Every problem that is found is one line naming the setting and what it takes, section by section.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
import tomli_w

from contracts.address import masked
from contracts.config import Config
from esper import schema

Layer: TypeAlias = dict[tuple[str, ...], object]
"""Settings by path, from one source."""

_LENGTHS = (("run", "epochs"), ("run", "gflop"))
_BOTH_LENGTHS = "run.epochs and run.gflop exclude each other; give one of them"


class ConfigError(ValueError):
    """A configuration that was refused; `problems` has one line for each fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load(
    file: Path | None = None,
    assignments: Sequence[str] = (),
    values: Mapping[str, object] | None = None,
) -> Config:
    """The configuration that results from all layers.

    Args:
        file: a TOML file with some or all of the sections.
        assignments: `section.key=value`, as given to `--set`; the value is TOML or bare text.
        values: settings by dotted name, as other options gave them; None is "not given".

    Raises:
        ConfigError: with every problem found, those of the file first.
    """
    problems: list[str] = []
    base = _of_file(file, problems) if file is not None else {}
    above = _of_command_line(assignments, values or {}, problems)
    if problems:
        raise ConfigError(problems)
    if any(above.get(path) is not None for path in _LENGTHS):
        base = {path: value for path, value in base.items() if path not in _LENGTHS}
    return msgspec.convert(_nested(base | above), Config)


def to_toml(config: Config) -> str:
    """The whole configuration as TOML; `load` makes an equal one of it."""
    layer = dict(_flat(msgspec.to_builtins(config), ()))
    return tomli_w.dumps(_nested({path: value for path, value in layer.items() if value is not None}))


def _of_file(file: Path, problems: list[str]) -> Layer:
    """What the file says; what is wrong with it goes to `problems`."""
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.append(f"{file} does not exist; give the path of a TOML file")
        return {}
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{file} is not TOML: {error}")
        return {}
    except IsADirectoryError:
        problems.append(f"{file} is a folder; give the path of a TOML file in it (a run's is config.toml)")
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{file} can't be read as TOML in UTF-8: {error}")
        return {}
    layer = dict(_flat(given, ())) if given else {}
    problems.extend(f"{file}: {fault}" for fault in _in_order(layer))
    if all(path in layer for path in _LENGTHS):
        problems.append(f"{file}: {_BOTH_LENGTHS}")
    return layer


def _of_command_line(assignments: Sequence[str], values: Mapping[str, object], problems: list[str]) -> Layer:
    """What the command line says; what is wrong with it goes to `problems`."""
    layer: Layer = {}
    labels: dict[tuple[str, ...], str] = {}
    for label, path, value in _said(assignments, values, problems):
        fault = _fault(path, value)
        if fault:
            problems.append(f"{label}: {fault}")
        elif layer.get(path, value) != value:
            problems.append(f"{label}: {'.'.join(path)} was given before, by {labels[path]}; give it once")
        layer[path], labels[path] = value, label
    if all(layer.get(path) is not None for path in _LENGTHS):
        problems.append(_BOTH_LENGTHS)
    return layer


def _said(
    assignments: Sequence[str], values: Mapping[str, object], problems: list[str]
) -> Iterator[tuple[str, tuple[str, ...], object]]:
    """Each setting of the command line: how it was said, its path and its value."""
    for text in assignments:
        name, equals, value = (part.strip() for part in text.partition("="))
        if equals and name:
            path = tuple(name.split("."))
            for inner, reading in _flat(_reading(path, value), path):
                yield masked(f"--set {text}"), inner, reading
        else:
            problems.append(
                f"--set {masked(text)}: takes section.key=value, for example train.batch_size=100"
            )
    for name, given in values.items():
        if given is not None:
            yield masked(f"--{name.rpartition('.')[2]} {given}"), tuple(name.split(".")), given


def _reading(path: tuple[str, ...], text: str) -> object:
    """`text` as TOML if the setting takes that, else as it stands, as "none", or as a list of that one."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    readings = [parsed["value"]] if list(parsed) == ["value"] else []
    readings += [text, *([None] if text == "none" else [])]
    if not isinstance(parsed.get("value"), list):
        readings.append([text])
    return next((value for value in readings if not _fault(path, value)), readings[0])


def _in_order(layer: Layer) -> list[str]:
    """The faults of a layer, in the order of the configuration's sections."""
    order = [path[0] for path in schema.SECTIONS if len(path) == 1]
    paths = sorted(layer, key=lambda path: order.index(path[0]) if path[0] in order else len(order))
    return [fault for path in paths if (fault := _fault(path, layer[path]))]


def _fault(path: tuple[str, ...], value: object) -> str:
    """What is wrong with `value` at `path`; empty if nothing is."""
    name = ".".join(path)
    if path in schema.SECTIONS:
        return (
            "" if value == {} else f"{name} = {schema.shown(value)} is refused; it is a section of settings"
        )
    setting = schema.find(path)
    if setting is None:
        return f"{name} is not a setting; {schema.suggestion(path)}"
    return "" if setting.accepts(value) else setting.refusal(value)


def _flat(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """The settings in nested tables; a table that is empty stands for itself."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, (*path, key))
    else:
        setting = schema.find(path)
        yield setting.path if setting else path, value


def _nested(layer: Layer) -> dict[str, object]:
    """The tables that have these settings."""
    root: dict[str, object] = {}
    for path, value in layer.items():
        table = root
        for key in path[:-1]:
            below = table.setdefault(key, {})
            assert isinstance(below, dict), f"{path} runs through a value"
            table = below
        if value != {} or path[-1] not in table:
            table[path[-1]] = value
    return root
