"""The message of the fault tests, and its frame on the wire, signed or not."""

import msgspec

from actors.oona.priority import Priority
from actors.oona.redis.frames import Frame, LeylineFrames
from actors.runtime.clock import Clock
from contracts import topics
from contracts.messages import FieldReport, FieldReportOutcome
from contracts.signing.keyring import Keyring
from contracts.wire import WireError

TOPIC = topics.FIELD_REPORT
GROUP = "workers"


class Work(msgspec.Struct, frozen=True):
    """Something to be done once: `n` says what, `body` makes it as large as a test wants."""

    n: int
    body: str = ""


class WorkFrames:
    """Implements `FrameCodec` for `Work` alone, without a signature."""

    admission: None = None
    recording: None = None

    def encode(self, topic: str, event_id: str, priority: Priority, message: msgspec.Struct) -> bytes:
        return msgspec.msgpack.encode((topic, event_id, priority, message))

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


class SignedWork(LeylineFrames):
    """The frames of a run whose messages are signed: a piece of work travels as a field report."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(Keyring.from_environment(_ENVIRONMENT), "faults", clock)

    def encode(self, topic: str, event_id: str, priority: Priority, message: msgspec.Struct) -> bytes:
        assert isinstance(message, Work)
        report = msgspec.structs.replace(_REPORT, report_id=str(message.n), notes=message.body)
        return super().encode(topic, event_id, priority, report)

    def decode(
        self,
        topic: str,
        event_id: str,
        priority: Priority,
        frame: Frame,
        taken_ns: int,
        past: bool = False,
        records: bool = False,
    ) -> Work:
        report = super().decode(topic, event_id, priority, frame, taken_ns, past, records)
        assert isinstance(report, FieldReport)
        return Work(int(report.report_id), report.notes)


_ENVIRONMENT = {"ESPER_LEYLINE_SECRET": "a secret of more than thirty-two letters"}
_REPORT = FieldReport("", "", "run", "seed", "bp", FieldReportOutcome.SUCCESS, {}, 1, 1, "faults")
