"""How a message lies in a stream entry: an envelope, and a signature over its exact bytes.

The envelope is a BusEnvelope of Leyline. Its attributes repeat what the entry's plain fields say, because the
fields are not signed: a reader compares them.
"""

import secrets
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from actors.oona.priority import Priority
from actors.oona.redis.envelopes import Unwrapping, rest_of, wrap
from actors.runtime.clock import Clock
from contracts.envelopes import BusEnvelope, BusMessageType
from contracts.kernels import (
    KernelArtifactError,
    KernelArtifactReady,
    KernelCatalogUpdate,
    KernelPrefetchRequest,
)
from contracts.leyline.codec import decode, encode
from contracts.messages import (
    AdaptationCommand,
    EmergencySignal,
    FieldReport,
    PolicyUpdate,
    SystemState,
    TelemetryPacket,
)
from contracts.signing.admission import Admission
from contracts.signing.header import NONCE_BYTES
from contracts.signing.keyring import Keyring
from contracts.signing.refusal import SignatureRefused
from contracts.signing.rules import Rule, topic_rules
from contracts.signing.signer import Signer
from contracts.wire import WireError

KINDS: Final[dict[BusMessageType, type[msgspec.Struct]]] = {
    BusMessageType.SYSTEM_STATE: SystemState,
    BusMessageType.ADAPTATION_COMMAND: AdaptationCommand,
    BusMessageType.FIELD_REPORT: FieldReport,
    BusMessageType.TELEMETRY: TelemetryPacket,
    BusMessageType.POLICY_UPDATE: PolicyUpdate,
    BusMessageType.KERNEL_PREFETCH_REQUEST: KernelPrefetchRequest,
    BusMessageType.KERNEL_PREFETCH_READY: KernelArtifactReady,
    BusMessageType.KERNEL_PREFETCH_ERROR: KernelArtifactError,
    BusMessageType.KERNEL_CATALOG_UPDATE: KernelCatalogUpdate,
    BusMessageType.EMERGENCY_SIGNAL: EmergencySignal,
}
"""Which message each kind of envelope carries."""
_KIND_OF: Final = {struct: kind for kind, struct in KINDS.items()}


_RECORDED: Final = {name: replace(rule, rule=Rule.INFORMS) for name, rule in topic_rules().items()}
"""What holds for who only takes down or shows what it hears."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """As read from an entry; an empty signature is none."""

    envelope: bytes
    signature: bytes


class FrameCodec(Protocol):
    """What is refused on the way in raises WireError or SignatureRefused, both of them ValueErrors."""

    @property
    def admission(self) -> Admission | None:
        """What remembers signed frames; None where nothing is ever signed."""

    @property
    def recording(self) -> Admission | None:
        """The same for who only records. It is remembered apart: what was admitted there may be hours old,
        and who acts is not to take it for a repeat."""

    def encode(self, topic: str, event_id: str, priority: Priority, message: msgspec.Struct) -> bytes:
        """The envelope. Raises WireError."""

    def sign(self, envelope: bytes) -> bytes:
        """Its signature as of now, asked for each time it is sent; empty if nothing is signed."""

    def sign_anew(self, frame: "Frame") -> bytes:
        """A signature as of now in the name of who signed it before; empty if there is none that holds."""

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
        """The message of an entry that the server took at `taken_ns`.

        `past`: somebody looks back at it (history, dead letters), so its age and its nonce say nothing.
        `records`: who reads it takes it down and does nothing else, whatever its topic is for others."""


class LeylineFrames:
    """Implements `FrameCodec`. With a keyring it signs in the name of `sender`, and admits what is signed."""

    def __init__(
        self,
        keyring: Keyring | None,
        sender: str,
        clock: Clock,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`ValueError` if the sender's name can't be written in a signature."""
        self.admission = Admission(keyring, topic_rules(), clock.wall_ns())
        self.recording = Admission(keyring, _RECORDED, clock.wall_ns())
        self._signer = None if keyring is None else Signer(keyring, sender, random_bytes, clock.wall_ns)
        self._sender = sender
        self._clock = clock
        self._random_bytes = random_bytes
        self._rests: dict[tuple[str, Priority], bytes] = {}
        self._unwrapping = Unwrapping()

    def encode(self, topic: str, event_id: str, priority: Priority, message: msgspec.Struct) -> bytes:
        kind = _KIND_OF.get(type(message))
        if kind is None:
            raise WireError(f"a {type(message).__name__} does not travel on the bus")
        payload = encode(message)
        rest = self._rests.get((topic, priority))
        if rest is None:
            rest = self._rests[topic, priority] = rest_of(priority, self._sender, topic)
        return wrap(kind, payload, event_id, rest) or self._encoded(kind, payload, topic, event_id, priority)

    def _encoded(
        self, kind: BusMessageType, payload: bytes, topic: str, event_id: str, priority: Priority
    ) -> bytes:
        attributes = {
            "topic": topic,
            "event_id": event_id,
            "priority": str(int(priority)),
            "sender": self._sender,
        }
        return encode(BusEnvelope(kind, payload, attributes))

    def sign(self, envelope: bytes) -> bytes:
        return b"" if self._signer is None else self._signer.sign(envelope)

    def sign_anew(self, frame: Frame) -> bytes:
        keyring = self.admission.keyring
        if keyring is None:
            return b""
        try:
            sender = keyring.verify(frame.envelope, frame.signature).sender
        except SignatureRefused:
            return b""
        return keyring.sign(sender, self._random_bytes(NONCE_BYTES), self._clock.wall_ns(), frame.envelope)

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
        keyring = self.admission.keyring
        if keyring is None:
            return self._read(topic, event_id, priority, frame.envelope, None)
        if past:
            sender = keyring.verify(frame.envelope, frame.signature).sender
            return self._read(topic, event_id, priority, frame.envelope, sender)
        now_ns = self._clock.wall_ns()
        admission = self.recording if records else self.admission
        judged = admission.judge(event_id, topic, frame.envelope, frame.signature, now_ns, taken_ns)
        message = self._read(topic, event_id, priority, frame.envelope, judged.admitted.sender)
        # Only now: a copy under another's name is not to pass for the true one.
        admission.remember(judged)
        return message

    def _read(
        self, topic: str, event_id: str, priority: Priority, data: bytes, sender: str | None
    ) -> msgspec.Struct:
        """The message in an envelope that says what its entry says, and was signed by `sender`."""
        known = self._unwrapping.unwrap(data, event_id, priority, topic)
        if known is not None and (sender is None or sender == known.sender):
            return decode(KINDS[known.kind], known.payload)
        envelope = decode(BusEnvelope, data)
        said = {"topic": topic, "event_id": event_id, "priority": str(int(priority))}
        if sender is not None:
            said["sender"] = sender
        _check_agreement(envelope, said)
        kind = KINDS.get(envelope.message_type)
        if kind is None:
            raise WireError(f"BusEnvelope.message_type {envelope.message_type!r} is no message of the bus")
        message = decode(kind, envelope.payload)
        if (said_by := envelope.attributes.get("sender")) is not None:
            self._unwrapping.learn(said_by, priority, topic)
        return message


def _check_agreement(envelope: BusEnvelope, said: dict[str, str]) -> None:
    for name, value in said.items():
        if (inside := envelope.attributes.get(name)) != value:
            raise WireError(
                f"BusEnvelope.attributes[{name!r}] is {inside!r}, and the entry it came in says {value!r}"
            )
