"""The dead letters on the server."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from actors.oona import texts
from actors.oona.bus import DeadLetter
from actors.oona.conservative import Conservative
from actors.oona.errors import BusError, ServerFullError
from actors.oona.policy import TopicPolicy
from actors.oona.priority import Priority
from actors.oona.redis.inbox import Inbox, frame_at
from actors.oona.redis.topics import descriptions
from actors.oona.redis.wire import LetterEntry, Op, Refusal, decoder
from actors.runtime.clock import Clock

T = TypeVar("T")

_LETTERS: Final = decoder(list[LetterEntry])
_LETTER: Final = decoder(bool, LetterEntry)
_DONE: Final = decoder(bool, Refusal)


class Asking(Protocol):
    """One operation and its answer, with the blobs that it names. Raises RefusedError, ClosedError."""

    def __call__(
        self, op: Op, decoder: msgspec.msgpack.Decoder[T], blob: bytes = b""
    ) -> Awaitable[tuple[T, list[bytes]]]: ...


class RedisDeadLetters:
    """Implements `DeadLetters`. A letter whose frame can't be read shows an `Unreadable` as its message."""

    def __init__(
        self,
        policies: Mapping[str, TopicPolicy],
        ask: Asking,
        inbox: Inbox,
        conservative: Conservative,
        clock: Clock,
    ) -> None:
        self._policies = policies
        self._ask = ask
        self._inbox = inbox
        self._conservative = conservative
        self._clock = clock

    async def list(self, topic: str | None = None, group: str | None = None) -> Sequence[DeadLetter]:
        if topic is not None and topic not in self._policies:
            raise texts.unknown_topic(topic, self._policies)
        letters: list[DeadLetter] = []
        for name in self._policies if topic is None else (topic,):
            entries, blobs = await self._ask(("letters", name, group or False), _LETTERS)
            letters += [self._letter(entry, blobs) for entry in entries]
        return letters

    async def inspect(self, letter_id: str) -> DeadLetter:
        entry, blobs = await self._ask(("letter", letter_id), _LETTER)
        if isinstance(entry, bool):
            raise texts.unknown_letter(letter_id)
        return self._letter(entry, blobs)

    async def replay(self, letter_id: str) -> None:
        """What was signed is signed anew, in the same name: it may have lain here for longer than a
        signature is good for."""
        letter, blobs = await self._ask(("letter", letter_id), _LETTER)
        if isinstance(letter, bool):
            raise texts.unknown_letter(letter_id)
        signature = self._inbox.sign_anew(frame_at(letter.envelope_ix, letter.signature_ix, blobs))
        policy = self._policies.get(letter.topic)
        ttl_s = policy.ttl_s if policy is not None else None
        expires_s = False if ttl_s is None else self._clock.monotonic() + ttl_s
        answer, _ = await self._ask(("replay", letter_id, expires_s), _DONE, signature)
        if not isinstance(answer, bool):
            raise self._refusal(letter_id, answer)

    async def drop(self, letter_id: str) -> None:
        answer, _ = await self._ask(("drop", letter_id), _DONE)
        if not isinstance(answer, bool):
            raise texts.unknown_letter(letter_id)

    def _refusal(self, letter_id: str, refusal: Refusal) -> BusError:
        match refusal.what:
            case "unknown":
                return texts.unknown_letter(letter_id)
            case "nogroup":
                return texts.letter_without_group(letter_id)
            case "shed":
                return self._conservative.refusal(f"{letter_id} stays a dead letter")
            case "full" if isinstance(refusal.detail, list):
                return texts.letter_without_room(letter_id, "; ".join(descriptions(refusal.detail)))
            case _:
                return ServerFullError(f"{letter_id} stays a dead letter: the server's memory is used up")

    def _letter(self, entry: LetterEntry, blobs: Sequence[bytes]) -> DeadLetter:
        priority = Priority(entry.priority)
        frame = frame_at(entry.envelope_ix, entry.signature_ix, blobs)
        return DeadLetter(
            letter_id=entry.letter_id,
            topic=entry.topic,
            group=entry.group,
            event_id=entry.event_id,
            priority=priority,
            message=self._inbox.look_back(entry.topic, entry.event_id, priority, frame),
            attempts=entry.attempts,
            last_error=entry.last_error,
            died_s=entry.died_s,
        )
