"""How a message lies in a stream entry: an envelope, and a signature over its exact bytes.

The envelope is a BusEnvelope of Leyline. Its attributes repeat what the entry's plain fields say, because the
fields are not signed: a reader compares them.
"""

import secrets
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import msgspec

from actors.oona.priority import Priority
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
from contracts.signing.keyring import Keyring
from contracts.signing.rules import topic_rules
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


class Frame(NamedTuple):
    """As read from an entry; an empty signature is none."""

    envelope: bytes
    signature: bytes


class FrameCodec(Protocol):
    """What is refused on the way in raises WireError or SignatureRefused, both of them ValueErrors."""

    def encode(self, topic: str, event_id: str, priority: Priority, message: msgspec.Struct) -> bytes:
        """The envelope. Raises WireError."""

    def sign(self, envelope: bytes) -> bytes:
        """Its signature as of now, asked for each time it is sent; empty if nothing is signed."""

    def decode(
        self,
        topic: str,
        event_id: str,
        priority: Priority,
        frame: Frame,
        taken_ns: int,
        past: bool = False,
    ) -> msgspec.Struct:
        """The message of an entry that the server took at `taken_ns`.

        `past`: somebody looks back at it (history, dead letters), so its age and its nonce say nothing."""


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
        self._signer = None if keyring is None else Signer(keyring, sender, random_bytes, clock.wall_ns)
        self._sender = sender
        self._clock = clock

    def encode(self, topic: str, event_id: str, priority: Priority, message: msgspec.Struct) -> bytes:
        kind = _KIND_OF.get(type(message))
        if kind is None:
            raise WireError(f"a {type(message).__name__} does not travel on the bus")
        attributes = {
            "topic": topic,
            "event_id": event_id,
            "priority": str(int(priority)),
            "sender": self._sender,
        }
        return encode(BusEnvelope(kind, encode(message), attributes))

    def sign(self, envelope: bytes) -> bytes:
        return b"" if self._signer is None else self._signer.sign(envelope)

    def decode(
        self,
        topic: str,
        event_id: str,
        priority: Priority,
        frame: Frame,
        taken_ns: int,
        past: bool = False,
    ) -> msgspec.Struct:
        sender = self._sender_of(topic, event_id, frame, taken_ns, past)
        envelope = decode(BusEnvelope, frame.envelope)
        said = {"topic": topic, "event_id": event_id, "priority": str(int(priority))}
        if sender is not None:
            said["sender"] = sender
        _check_agreement(envelope, said)
        kind = KINDS.get(envelope.message_type)
        if kind is None:
            raise WireError(f"BusEnvelope.message_type {envelope.message_type!r} is no message of the bus")
        return decode(kind, envelope.payload)

    def _sender_of(self, topic: str, event_id: str, frame: Frame, taken_ns: int, past: bool) -> str | None:
        """Who signed it; None where nobody looks. Raises SignatureRefused."""
        if not past:
            now_ns = self._clock.wall_ns()
            return self.admission.admit(
                event_id, topic, frame.envelope, frame.signature, now_ns, taken_ns
            ).sender
        keyring = self.admission.keyring
        return None if keyring is None else keyring.verify(frame.envelope, frame.signature).sender


def _check_agreement(envelope: BusEnvelope, said: dict[str, str]) -> None:
    for name, value in said.items():
        if (inside := envelope.attributes.get(name)) != value:
            raise WireError(
                f"BusEnvelope.attributes[{name!r}] is {inside!r}, and the entry it came in says {value!r}"
            )
