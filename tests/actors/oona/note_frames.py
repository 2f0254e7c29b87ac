"""The codec of the tests of the bus itself: notes, and nothing else."""

import msgspec

from actors.oona.priority import Priority
from actors.oona.redis.frames import Frame
from contracts.wire import WireError
from tests.actors.oona.rig import Note

_DECODER = msgspec.msgpack.Decoder(Note)


class NoteFrames:
    """Implements `FrameCodec`, unsigned."""

    admission: None = None
    recording: None = None

    def encode(self, topic: str, event_id: str, priority: Priority, message: msgspec.Struct) -> bytes:
        if not isinstance(message, Note):
            raise WireError(f"{type(message).__name__} is no Note")
        return msgspec.msgpack.encode(message)

    def sign(self, envelope: bytes) -> bytes:
        return b""

    def sign_anew(self, frame: Frame) -> bytes:
        return b""

    def decode(
        self,
        topic: str,
        event_id: str,
        priority: Priority,
        frame: Frame,
        taken_ns: int,
        past: bool = False,
        records: bool = False,
    ) -> Note:
        try:
            return _DECODER.decode(frame.envelope)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WireError(f"{event_id} is no note: {error}") from None
