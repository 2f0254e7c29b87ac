"""A snapshot goes to disk and comes back with nothing lost, and nothing else is taken for one."""

import json
import math
import random
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from contracts.lifecycle import Stage
from esper.karn.catalogue import UnknownBlueprint
from esper.kasmina.stream import RandomStream
from esper.tolaria.growth import Seed
from esper.tolaria.network import Planted
from esper.tolaria.plain import NotPlain
from esper.tolaria.rates import SeedRate
from esper.tolaria.record import DamagedRecord, from_record, to_record
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.typed import Reader, Writer
from tests.esper.tolaria.runs import Kept, Run, finished, same_snapshot, same_value, through_disk
from tests.hosts import HOSTS, Host

MLP = HOSTS[0]


def kind(kept: Kept) -> tuple[tuple[Stage, bool], ...]:
    """The stages of the seeds in a snapshot, and which can be undone."""
    return tuple((seed.record.stage, seed.undo is not None) for seed in kept.snapshot.seeds.values())


def check_each(run: Run, each: Iterable[Kept]) -> None:
    for kept in each:
        read = through_disk(run, kept.snapshot)
        assert same_snapshot(read, kept.snapshot)
        assert read.modules.keys() == kept.snapshot.modules.keys()
        assert to_record(read)[0] == to_record(kept.snapshot)[0]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_what_is_written_is_read_again_bit_for_bit_in_every_stage(host: Host) -> None:
    run = finished(host)
    kinds = {kind(kept): kept for kept in run.kept}
    check_each(run, kinds.values())
    assert any(undo for one in kinds for _, undo in one)


def test_every_stage_is_met_on_the_way() -> None:
    seeds = {seed for host in HOSTS for kept in finished(host).kept for seed in kind(kept)}
    assert {stage for stage, _ in seeds} >= set(Stage) - {Stage.UNKNOWN, Stage.TERMINATED}


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_every_snapshot_of_a_run_is_read_again_bit_for_bit(host: Host) -> None:
    run = finished(host)
    check_each(run, run.kept)


def test_a_snapshot_stays_what_it_is_while_the_run_goes_on() -> None:
    run = Run.new(MLP)
    written = []
    for _ in range(6):
        run.turn()
        written.append(to_record(run.kept[-1].snapshot))
    for kept, (record, tensors) in zip(run.kept, written, strict=True):
        later = to_record(kept.snapshot)
        assert (later[0], same_value(later[1], tensors)) == (record, True)


def some() -> tuple[bytes, dict[str, Tensor], Run]:
    run = finished(MLP)
    return *to_record(run.kept[8].snapshot), run


def test_a_tensor_that_is_missing_of_another_shape_or_too_many_is_named() -> None:
    record, tensors, run = some()
    name = "network.tensors/first.0.weight"
    less = {key: tensor for key, tensor in tensors.items() if key != name}
    for wrong, said in (
        (less, "its tensor is not there"),
        ({**tensors, name: tensors[name][:3]}, r"float32 of shape \(3, 12\)"),
        ({**tensors, name: tensors[name].double()}, "float64"),
        ({**tensors, "one/too/many": torch.ones(1)}, "nothing names one/too/many"),
    ):
        with pytest.raises(DamagedRecord, match=said):
            from_record(record, wrong, run.trainer.rebuild)
    assert same_snapshot(from_record(record, tensors, run.trainer.rebuild), run.kept[8].snapshot)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (b"", "can't be read"),
        (b"\xff\xfe", "can't be read"),
        (b'{"schema": 1, "schema": 1}', "twice"),
        (b'{"schema": NaN}', "no number"),
        (b"[" * 100_000, "can't be read"),
        (b"[]", "says no version"),
        (b'{"schema": 1, "snapshot": {}}', "version 1; this esper reads version 2"),
        (b'{"schema": 2, "snapshot": {}}', "damaged at snapshot: its fields"),
        (b'{"schema": true, "snapshot": {}}', "damaged at"),
    ],
)
def test_what_is_no_record_is_refused_with_one_error(record: bytes, said: str) -> None:
    with pytest.raises(DamagedRecord, match=said):
        from_record(record, {}, lambda record: torch.nn.Identity())


def test_a_wrong_value_is_named_by_where_it_is() -> None:
    record, tensors, run = some()
    for path, value in (
        (("position", "epoch"), "8"),
        (("position", "epoch"), True),
        (("seeds", "first#0", "record", "stage"), 99),
        (("seeds", "first#0", "record", "stage"), 8.0),
        (("seeds", "first#0", "figures", "finite"), 1),
        (("network", "seeds"), {}),
        (("accounts", "train"), None),
        (("optimizer", "kind"), ["Adam"]),
        (("global_streams", "python"), {"tuple": []}),
        (("loader", "order"), "loader.order"),
        (("rates", "seeds", "second#0", "steps"), 1.5),
    ):
        table = json.loads(record)
        place = table["snapshot"]
        for key in path[:-1]:
            place = place[key]
        assert path[-1] in place
        place[path[-1]] = value
        with pytest.raises(DamagedRecord) as raised:
            from_record(json.dumps(table).encode(), tensors, run.trainer.rebuild)
        assert all(key in str(raised.value) for key in path[-1:]), raised.value


def test_a_seed_that_cannot_be_built_is_named() -> None:
    record, tensors, _ = some()

    def refuse(of: object) -> torch.nn.Module:
        raise UnknownBlueprint("BP900", ())

    with pytest.raises(DamagedRecord, match="damaged at seeds/first#0: it can't be built"):
        from_record(record, tensors, refuse)


def test_damage_anywhere_is_one_error_or_changes_nothing_that_can_be_told_apart() -> None:
    record, tensors, run = some()
    rng = random.Random(7)
    refused = 0
    for _ in range(150):
        cut = rng.randrange(len(record))
        harm = rng.choice(
            [
                record[:cut],
                record[:cut] + bytes([rng.randrange(256)]) + record[cut + 1 :],
                record[:cut] + record[cut + 1 :],
                record[:cut] + record[cut:].replace(b"[", b"{", 1),
            ]
        )
        try:
            read = from_record(harm, tensors, run.trainer.rebuild)
        except DamagedRecord:
            refused += 1
        else:
            to_record(read)  # a digit of a number is another number: that is for the checksum to find
    assert refused > 75


class Word(msgspec.Struct, frozen=True):
    text: str


@dataclass(frozen=True)
class Pair:
    left: float
    right: tuple[int, ...] = ()


@dataclass(frozen=True)
class Anything:
    """Of each kind that can be declared."""

    free: Any
    number: float = 0.0
    one_of: Word | Pair | None = None
    scalar: bool | int | float | str | None = None
    table: dict[tuple[str, int], float] = field(default_factory=dict)
    stream: RandomStream | None = None
    rate: SeedRate | None = None
    tensor: Tensor | None = None


def there_and_back(value: Anything) -> Anything:
    writer = Writer()
    text = json.dumps(writer.write(value, Anything, "it"), allow_nan=False)
    reader = Reader(writer.tensors)
    back = reader.read(json.loads(text), Anything, "it")
    assert reader.left == {}
    assert isinstance(back, Anything)
    return back


FLOATS = st.floats() | st.integers(0, 2**64 - 1).map(
    lambda bits: struct.unpack(">d", bits.to_bytes(8, "big"))[0]
)
KEYS = st.text(max_size=4) | st.integers() | st.tuples(st.text(max_size=2), st.booleans())
FREE = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text() | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(KEYS, st.integers(), max_size=3).map(Counter)
    ),
    max_leaves=12,
)


@given(FREE, FLOATS, st.dictionaries(st.tuples(st.text(max_size=3), st.integers()), FLOATS, max_size=3))
def test_plain_data_of_every_kind_come_back_with_their_types_and_bits(
    free: object, number: float, table: dict[tuple[str, int], float]
) -> None:
    value = Anything(free, number, table=table, scalar=number)
    assert same_value(there_and_back(value), value)


def test_structs_streams_arrays_and_tensors_come_back() -> None:
    payload = struct.unpack(">d", bytes.fromhex("7ff800000000beef"))[0]
    for value in (
        Anything(np.arange(4, dtype=np.uint32), one_of=Word("x")),
        Anything(
            [torch.arange(3), {"a": torch.ones(2, 2, dtype=torch.bfloat16)}], one_of=Pair(payload, (1,))
        ),
        Anything(2**200, number=payload, stream=RandomStream(3, "name", 7), rate=SeedRate(0.5, 3, 1)),
        Anything(None, tensor=torch.tensor([math.nan, -0.0, math.inf]), number=-0.0),
    ):
        assert same_value(there_and_back(value), value)


def test_what_the_loops_side_remembers_comes_back_with_its_infinities() -> None:
    run = finished(MLP, "random")
    for value in (run.kept[-1].engine, run.kept[-1].windows, run.kept[-1].controller):
        writer = Writer()
        text = json.dumps(writer.write(value, type(value), "it"), allow_nan=False)
        assert same_value(Reader(writer.tensors).read(json.loads(text), type(value), "it"), value)
    lost = Anything(frozenset((1,)))
    with pytest.raises(NotPlain):
        Writer().write(lost, Anything, "it")
    worst = finished(MLP).kept[-1].windows
    state = msgspec.structs.replace(worst.windows[0].decided.state, validation_loss=math.nan)
    decided = msgspec.structs.replace(worst.windows[0].decided, state=state)
    window = msgspec.structs.replace(worst.windows[0], decided=decided)
    worst = msgspec.structs.replace(worst, windows=(window,))
    data = Writer().write(worst, type(worst), "it")
    assert same_value(Reader({}).read(json.loads(json.dumps(data)), type(worst), "it"), worst)


def test_two_tensors_whose_paths_look_alike_are_two() -> None:
    value = Anything({"a/b": {"c": torch.zeros(1)}, "a": {"b/c": torch.ones(1)}})
    assert same_value(there_and_back(value), value)


@pytest.mark.parametrize("value", [print, {1, 2}, object(), torch.ones(2).to_sparse(), np.array(["a"])])
def test_what_cannot_be_written_is_refused_and_named(value: object) -> None:
    with pytest.raises(NotPlain, match=r"it\.free/inside\[1\]"):
        Writer().write(Anything({"inside": [1, value]}), Anything, "it")


def test_a_value_that_is_not_what_it_is_declared_to_be_is_not_written() -> None:
    snapshot = finished(MLP).kept[2].snapshot
    wrong = replace(snapshot, position=replace(snapshot.position, epoch="two"))
    with pytest.raises(NotPlain, match=r"position\.epoch \(str\)"):
        to_record(wrong)


def test_extra_state_that_is_no_plain_data_is_named_when_it_is_written() -> None:
    snapshot: Snapshot = finished(MLP).kept[2].snapshot
    network = replace(snapshot.network, extras={"first": {"hook": print}})
    with pytest.raises(NotPlain, match=r"network\.extras/first/hook"):
        to_record(replace(snapshot, network=network))


def test_a_seed_in_place_without_a_record_is_damage() -> None:
    run = finished(MLP)
    snapshot = run.kept[2].snapshot
    network = replace(snapshot.network, seeds=(Planted("first#7", "first", 0.0),))
    record, tensors = to_record(replace(snapshot, network=network))
    with pytest.raises(DamagedRecord, match="seeds/first#7: it is in place and has no record"):
        from_record(record, tensors, run.trainer.rebuild)
    assert isinstance(next(iter(snapshot.seeds.values())), Seed)
