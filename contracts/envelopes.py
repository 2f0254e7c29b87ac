"""What messages travel in: the envelopes of Leyline, whose payload is another message's exact bytes."""

from enum import IntEnum

import msgspec

from contracts.messages import DurationNs, MessagePriority, WallNs


class DeliveryGuarantee(IntEnum):
    """How often the effect of a message may happen when parts of the system fail."""

    UNKNOWN = 0
    AT_LEAST_ONCE = 1
    AT_MOST_ONCE = 2
    EXACTLY_ONCE = 3


class BusMessageType(IntEnum):
    """Which message a `BusEnvelope` carries."""

    UNSPECIFIED = 0
    SYSTEM_STATE = 1
    ADAPTATION_COMMAND = 2
    FIELD_REPORT = 3
    TELEMETRY = 4
    POLICY_UPDATE = 5
    KERNEL_PREFETCH_REQUEST = 6
    KERNEL_PREFETCH_READY = 7
    KERNEL_PREFETCH_ERROR = 8
    KERNEL_CATALOG_UPDATE = 9
    EMERGENCY_SIGNAL = 10


class EventEnvelope(msgspec.Struct, frozen=True):
    """An event with all that says how it wants to be delivered; no `ttl` is for ever."""

    event_id: str
    event_type: str
    source_subsystem: str
    created_at: WallNs
    processing_deadline: DurationNs | None = None
    ttl: DurationNs | None = None
    payload: bytes = b""
    payload_type: str = ""
    content_encoding: str = ""
    priority: MessagePriority = MessagePriority.NORMAL
    routing_keys: tuple[str, ...] = ()
    correlation_id: str = ""
    delivery_guarantee: DeliveryGuarantee = DeliveryGuarantee.AT_LEAST_ONCE
    max_attempts: int = 0
    current_attempt: int = 0


class BusEnvelope(msgspec.Struct, frozen=True):
    """A message on the bus: its kind, its bytes, and what the bus says about it."""

    message_type: BusMessageType
    payload: bytes
    attributes: dict[str, str] = {}
