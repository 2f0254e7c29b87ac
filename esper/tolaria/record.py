"""A snapshot as it goes to disk: a record of plain data, and the tensors that it names.

The modules of the seeds are not in it. They are built anew from their blueprints, and the restore then loads
their weights: nothing that is read is ever run.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeAlias

from torch import Tensor, nn

from contracts.growth import SeedRecord
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.trial import WRONG
from esper.tolaria.typed import DamagedRecord as DamagedRecord
from esper.tolaria.typed import Reader, Writer, damaged, fields_of

SCHEMA = 2
Rebuild: TypeAlias = Callable[[SeedRecord], nn.Module]
"""A seed's record → its module, as it was when it was germinated."""


def to_record(snapshot: Snapshot) -> tuple[bytes, dict[str, Tensor]]:
    """The record in UTF-8, and the tensors by name: contiguous, sharing memory with the snapshot.

    Raises:
        NotPlain: the optimizer, or a module's extra state, holds something that can't be written; the message
            is where and what.
    """
    writer = Writer()
    body = {
        name: writer.write(getattr(snapshot, name), kind, name) for name, kind in _written_fields().items()
    }
    text = json.dumps({"schema": SCHEMA, "snapshot": body}, allow_nan=False, separators=(",", ":"))
    return text.encode(), writer.tensors


def from_record(record: bytes, tensors: Mapping[str, Tensor], build: Rebuild) -> Snapshot:
    """The snapshot that `to_record` was given, with new modules; it shares memory with `tensors`.

    Raises:
        DamagedRecord: it is no record of a snapshot, of another version, or its tensors are not those that
            it names; or a seed of it can't be built.
    """
    match _parsed(record):
        case {"schema": int(schema), "snapshot": body, **rest} if not rest and schema == SCHEMA:
            reader = Reader(tensors)
            values = reader.struct(body, _written_fields(), "snapshot")
        case {"schema": schema}:
            raise damaged("schema", f"it is of version {schema}; this esper reads version {SCHEMA}")
        case _:
            raise damaged("schema", "it says no version")
    if reader.left:
        raise damaged("tensors", f"nothing names {', '.join(sorted(reader.left)[:3])}")
    seeds = values["seeds"]
    modules = {}
    for planted in values["network"].seeds:
        path = f"seeds/{planted.seed_id}"
        if planted.seed_id not in seeds:
            raise damaged(path, "it is in place and has no record")
        modules[planted.seed_id] = _built(seeds[planted.seed_id].record, build, path)
    return Snapshot(modules=modules, **values)


@cache
def _written_fields() -> Mapping[str, Any]:
    fields = fields_of(Snapshot)
    assert fields is not None
    return {name: kind for name, kind in fields.items() if name != "modules"}


def _built(record: SeedRecord, build: Rebuild, path: str) -> nn.Module:
    try:
        return build(record)
    except WRONG as error:
        raise damaged(path, f"it can't be built: {error}") from error


def _parsed(record: bytes) -> Any:
    try:
        return json.loads(record, parse_constant=_no_number, object_pairs_hook=_table)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(f"the record can't be read: {error}") from error


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key is there twice")
    return table
