"""What goes to the script and what comes back, packed and unpacked.

The server packs every string as msgpack text: topics, ids and reasons are UTF-8, and what may be any bytes
(frames) travels outside of msgpack, named by its index.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, Union, overload

import hiredis
import msgspec

from actors.oona.ledger import GroupLedger, TopicLedger
from actors.oona.policy import BusConfig, TopicPolicy
from actors.oona.redis.options import RedisOptions

T = TypeVar("T")
U = TypeVar("U")
Plain: TypeAlias = "str | int | float | bool | Sequence[Plain] | Mapping[str, Plain] | None"
Op: TypeAlias = tuple[Plain, ...]
Settings: TypeAlias = tuple[int, int, float, int, int, int, float]


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What stands before every answer."""

    status: str
    generation: str
    batch: int
    """The number of the batch that this answers."""
    conservative: bool
    cause: str
    entered: int
    depth: int
    depth_max: int


class Fullness(msgspec.Struct, array_like=True, frozen=True):
    """A lane of a group that has no room."""

    group: str
    lane: str
    pending: int
    waiting: int
    capacity: int


_WITH_KEYS: Final = ("accepted", "rerouted", "duplicate")


class Published(msgspec.Struct, array_like=True, frozen=True):
    """What became of a message: `what`, and the keys of its entries, the groups that are full, or why."""

    what: str
    detail: str | list[Fullness] = ""

    @property
    def keys(self) -> str:
        return self.detail if isinstance(self.detail, str) and self.what in _WITH_KEYS else ""

    @property
    def full(self) -> list[Fullness]:
        return [] if isinstance(self.detail, str) else self.detail


class Refusal(msgspec.Struct, array_like=True, frozen=True):
    """Why somebody can't join, or a letter can't be replayed."""

    what: str
    detail: int | str | list[Fullness] = 0


class Taken(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An entry that a consumer has been given."""

    topic: str
    key: str
    event_id: str
    priority: int
    lane: str
    attempt: int
    published_s: float
    due_s: float
    envelope_ix: int
    signature_ix: int
    taken_ms: int = 0
    """The server's clock when it first took the message."""


class Misshapen(msgspec.Struct, array_like=True, frozen=True):
    """So much of a `Taken` that can't be read; the rest may be anything."""

    topic: str
    key: str
    event_id: msgspec.Raw
    priority: msgspec.Raw
    lane: msgspec.Raw
    attempt: int


class Given(msgspec.Struct, array_like=True):
    """What a consumer is given."""

    entries: list[Taken]
    strange: int = 0
    """Entries that came in past the bus, and were turned out."""
    misshapen: list[Misshapen] = []


class _RawGiven(msgspec.Struct, array_like=True):
    entries: list[msgspec.Raw]
    strange: int


class PastEntry(msgspec.Struct, array_like=True, frozen=True):
    event_id: str
    priority: int
    published_s: float
    envelope_ix: int
    signature_ix: int


class LetterEntry(msgspec.Struct, array_like=True, frozen=True):
    letter_id: str
    topic: str
    group: str
    event_id: str
    priority: int
    attempts: int
    last_error: str
    died_s: float
    envelope_ix: int
    signature_ix: int


class ServerLedger(GroupLedger, gc=False):
    """A group's ledger as the server keeps it."""

    waiting: int = 0


class GroupStats(msgspec.Struct, array_like=True, frozen=True):
    group: str
    urgent: ServerLedger
    normal: ServerLedger
    consumers: list[str]


class TopicStats(msgspec.Struct, array_like=True, frozen=True):
    topic: str
    urgent: TopicLedger
    normal: TopicLedger
    letters: int
    let_go: int
    groups: list[GroupStats]


class Reply(NamedTuple):
    """An answer, unpacked so far: each result is unpacked by who asked for it."""

    head: Head
    results: list[msgspec.Raw]
    blobs: list[bytes]


_ENCODER: Final = msgspec.msgpack.Encoder()
_HEADS: Final = msgspec.msgpack.Decoder(Head)
_RESULTS: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])


def settings_of(config: BusConfig, options: RedisOptions) -> Settings:
    """What holds for the whole bus, as the script wants it."""
    marks = config.conservative
    return (
        marks.high_mark, marks.low_mark, marks.dwell_s, config.dedup_ids_max, config.groups_max,
        config.consumers_max, options.dead_after_s,
    )  # fmt: skip


def policy_of(policy: TopicPolicy) -> dict[str, Plain]:
    """A topic's policy as the script wants it: without what is None."""
    plain: dict[str, Plain] = msgspec.to_builtins(policy)
    return {name: value for name, value in plain.items() if value is not None}


def header(client: str, seq: int, after: int, generation: str, now_s: float, settings: Settings) -> bytes:
    """`after`: the client's last batch must have had that number, or nothing is executed; 0: any."""
    return _ENCODER.encode((client, seq, generation, now_s, settings, after))


def evalsha(sha: str, prefix: str, head: bytes, ops: Sequence[Op], blobs: Sequence[bytes]) -> bytes:
    """The whole command."""
    return pack(("EVALSHA", sha, 1, prefix, head, _ENCODER.encode(list(_gathered(ops))), *blobs))


_KIND_AND_TOPIC: Final = itemgetter(slice(2))


def _gathered(ops: Sequence[Op]) -> Iterator[Op]:
    """Publications to one topic that follow each other become one operation, a column for each field."""
    for kind_and_topic, run in groupby(ops, key=_KIND_AND_TOPIC):
        if kind_and_topic[0] == "publish":
            columns = tuple(zip(*run, strict=True))
            yield (*kind_and_topic, *columns[2:])
        else:
            yield from run


def pack(command: tuple[str | bytes | int, ...]) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed


def reply(answer: object) -> Reply:
    """Raises ValueError if it is none of ours."""
    if not isinstance(answer, list) or not all(isinstance(each, bytes) for each in answer) or len(answer) < 2:
        raise ValueError("the server's answer is not one of the bus's script")
    try:
        return Reply(_HEADS.decode(answer[0]), _RESULTS.decode(answer[1]), answer[2:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the server's answer is not one of the bus's script: {error}") from None


@overload
def decoder(type_: type[T]) -> msgspec.msgpack.Decoder[T]: ...
@overload
def decoder(type_: type[T], other: type[U]) -> msgspec.msgpack.Decoder[T | U]: ...
def decoder(type_: type[T], other: type[U] | None = None) -> msgspec.msgpack.Decoder[Any]:
    """Of one type, or of one of two."""
    return msgspec.msgpack.Decoder(type_ if other is None else Union[type_, other])  # noqa: UP007


_GIVEN: Final = decoder(bool, Given)
_RAW_GIVEN: Final = decoder(_RawGiven)
_TAKEN: Final = decoder(Taken)
_MISSHAPEN: Final = decoder(Misshapen)


def given(result: msgspec.Raw) -> Given | bool:
    """What a consumer is given; False: it is none. One entry without sense does not spoil the others. Raises
    ValueError if the whole has none."""
    try:
        return _GIVEN.decode(result)
    except ValueError:  # also what is no text where there should be one
        raw = _RAW_GIVEN.decode(result)
    told = Given([], raw.strange, [])
    for entry in raw.entries:
        try:
            told.entries.append(_TAKEN.decode(entry))
        except ValueError:
            told.misshapen.append(_MISSHAPEN.decode(entry))
    return told


_PUBLISHED: Final = decoder(str, Published)


def published(result: msgspec.Raw) -> Published:
    """What became of a message; the keys alone mean that it was accepted. Raises msgspec.DecodeError."""
    told = _PUBLISHED.decode(result)
    return Published("accepted", told) if isinstance(told, str) else told
