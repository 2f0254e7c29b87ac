"""What all subscriptions share on Redis: frames are read here, and refused ones counted."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from actors.oona.histogram import Histogram
from actors.oona.policy import TopicPolicy
from actors.oona.priority import Priority
from actors.oona.redis.frames import Frame, FrameCodec
from actors.oona.redis.link import Link
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.settled import Settled
from actors.oona.redis.unfresh import Unfresh
from actors.oona.redis.wire import Taken
from actors.runtime.clock import Clock
from contracts.wire import WireError

UNKNOWN_ENTRY: Final = "unknown_entry"
"""Why an entry is refused that did not come in through the bus."""
Latencies: TypeAlias = defaultdict[tuple[str, str], Histogram]
"""By topic and lane."""
_PRIORITIES: Final = {int(each): each for each in Priority}


class Unreadable(msgspec.Struct, frozen=True):
    """Stands where a message was that can't be read."""

    error: str
    size: int
    """Bytes of its envelope."""
    waits: bool = False
    """Its sender may yet sign it anew; it is not counted as refused."""


class Inbox:
    """`policies` by topic. What is refused is counted; who lives with the bus tells the operator."""

    def __init__(
        self,
        policies: Mapping[str, TopicPolicy],
        link: Link,
        clock: Clock,
        frames: FrameCodec,
        options: RedisOptions,
    ) -> None:
        self.policies = policies
        self.link = link
        self.clock = clock
        self.refused: Counter[str] = Counter()
        self.options = options
        self._frames = frames
        self._unfresh = Unfresh(options.dead_after_s, options.settled_ids_max)
        self._settled: dict[str, Settled] = {}
        self._latencies: defaultdict[str, Latencies] = defaultdict(lambda: defaultdict(Histogram))

    def settled(self, group: str, records: bool = False) -> Settled:
        if group not in self._settled:
            admission = self._frames.recording if records else self._frames.admission
            self._settled[group] = Settled(self.options.settled_ids_max, group, admission)
        return self._settled[group]

    def new_server(self) -> None:
        for settled in self._settled.values():
            settled.new_server()

    def latencies(self, group: str) -> "Latencies":
        """From publication to first delivery, of what came to this process."""
        return self._latencies[group]

    def read(self, taken: Taken, frame: Frame, records: bool = False) -> msgspec.Struct | Unreadable:
        """The message of an entry; a refused one is counted. `records`: it is only taken down."""
        try:
            return self._frames.decode(
                taken.topic,
                taken.event_id,
                _PRIORITIES.get(taken.priority) or Priority(taken.priority),
                frame,
                taken.taken_ms * 1_000_000,
                records=records,
            )
        except ValueError as error:
            if self._unfresh.waits(taken.topic, taken.key, error, self.clock.monotonic()):
                return Unreadable(_told(error), len(frame.envelope), waits=True)
            return self._refuse(frame, error)

    def sign_anew(self, frame: Frame) -> bytes:
        """For a message that is given out once more; empty if it was not signed, or not rightly."""
        return self._frames.sign_anew(frame)

    def look_back(
        self, topic: str, event_id: str, priority: Priority, frame: Frame
    ) -> msgspec.Struct | Unreadable:
        """The message of an entry that is not handed out, but shown."""
        try:
            return self._frames.decode(topic, event_id, priority, frame, taken_ns=0, past=True)
        except ValueError as error:
            return self._refuse(frame, error)

    def turned_out(self, count: int) -> None:
        """So many entries came in past the bus; nobody was given them."""
        if count:
            self.refused[UNKNOWN_ENTRY] += count

    def refuse_misshapen(self) -> Unreadable:
        """An entry whose plain fields make no sense."""
        return self._refuse(Frame(b"", b""), WireError("what stands beside its frame makes no sense"))

    def _refuse(self, frame: Frame, error: ValueError) -> Unreadable:
        self.refused[reason_of(error)] += 1
        return Unreadable(_told(error), len(frame.envelope))


def _told(error: ValueError) -> str:
    return f"{type(error).__name__}: {error}"


def reason_of(error: ValueError) -> str:
    """One of a few words."""
    reason = getattr(error, "reason", None)
    return str(reason) if reason is not None else "bad_bytes"


def frame_at(envelope_ix: int, signature_ix: int, blobs: Sequence[bytes]) -> Frame:
    return Frame(
        blobs[envelope_ix] if envelope_ix >= 0 else b"",
        blobs[signature_ix] if signature_ix >= 0 else b"",
    )
