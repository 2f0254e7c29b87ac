"""The configuration as a table in markdown, from the structs and their docstrings, for the README."""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator

import msgspec

from esper import schema


def config_table() -> str:
    """All settings: name, default, what it takes, and what it means."""
    lines = ["| setting | default | takes | meaning |", "| --- | --- | --- | --- |"]
    meanings: dict[type, dict[str, str]] = {}
    for setting in schema.SETTINGS.values():
        if setting.owner not in meanings:
            meanings[setting.owner] = _attribute_docstrings(setting.owner)
        kind = msgspec.inspect.type_info(setting.annotation)
        meaning = meanings[setting.owner].get(setting.path[-1], "")
        cells = (f"`{setting.name}`", _default(setting.default), _cell(schema.takes(kind)), _cell(meaning))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _attribute_docstrings(struct: type) -> dict[str, str]:
    """The text below each attribute of a class, by attribute."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    assert isinstance(definition, ast.ClassDef)
    return dict(_documented(definition.body))


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, after in itertools.pairwise(body):
        match statement, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                yield name, inspect.cleandoc(words)


def _default(value: object) -> str:
    """The default as it stands in a file; nothing for "none" and what is empty."""
    if value is None or value == () or value == {}:
        return ""
    return f"`{schema.shown(value)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
