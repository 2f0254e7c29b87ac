"""The message of the fault tests, and its frame on the wire."""

import msgspec

from actors.oona.priority import Priority
from actors.oona.redis.frames import Frame
from contracts.wire import WireError

TOPIC = "work"
GROUP = "workers"


class Work(msgspec.Struct, frozen=True):
    """Something to be done once: `n` says what, `body` makes it as large as a test wants."""

    n: int
    body: str = ""


class WorkFrames:
    """Implements `FrameCodec` for `Work` alone, without a signature."""

    def encode(self, topic: str, event_id: str, priority: Priority, message: msgspec.Struct) -> bytes:
        return msgspec.msgpack.encode((topic, event_id, priority, message))

    def sign(self, envelope: bytes) -> bytes:
        return b""

    def sign_anew(self, frame: Frame) -> bytes:
        return b""

    def decode(
        self, topic: str, event_id: str, priority: Priority, frame: Frame, taken_ns: int, past: bool = False
    ) -> msgspec.Struct:
        """Raises WireError."""
        try:
            *said, message = _ENVELOPE.decode(frame.envelope)
        except msgspec.DecodeError as error:
            raise WireError(f"no work: {error}") from None
        if said != [topic, event_id, priority]:
            raise WireError(f"it says {said}, and came as {[topic, event_id, priority]}")
        return message


_ENVELOPE = msgspec.msgpack.Decoder(tuple[str, str, Priority, Work])
