"""What a smith orders of a sandbox's process, and what comes back: plain data, checked on arrival."""

import msgspec

from actors.tezzeret.sandbox import Answer
from contracts.kernels import Certificate, KernelSpec, Strategy
from esper.karn.source import Source
from esper.tezzeret.forge import Forged


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Make this kernel."""

    spec: KernelSpec
    strategy: Strategy
    source: Source | None = None
    """Of a blueprint of the user's own; None for one of Karn's."""


class Delivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finished kernel; the body holds the weights, then the program."""

    certificate: Certificate
    weights_bytes: int
    program: bool


class BadDelivery(ValueError):
    """What came back is not what was ordered."""


def encode_order(order: Order) -> bytes:
    return msgspec.json.encode(order)


def decode_order(header: bytes) -> Order:
    return msgspec.json.decode(header, type=Order)


def encode_delivery(forged: Forged) -> tuple[bytes, bytes]:
    """Header and body of the answer."""
    delivery = Delivery(forged.certificate, len(forged.weights), forged.program is not None)
    return msgspec.json.encode(delivery), forged.weights + (forged.program or b"")


def decode_delivery(answer: Answer, promised: Certificate) -> Forged:
    """The kernel in an answer; `promised` is the certificate without what was to be found out.

    Raises:
        BadDelivery: it can't be read, or contradicts what is known here: guard, versions and costs.
    """
    try:
        delivery = msgspec.json.decode(answer.header, type=Delivery)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadDelivery(f"the process delivered no kernel: {error}") from None
    if not 0 <= delivery.weights_bytes <= len(answer.body):
        raise BadDelivery(f"the process claims {delivery.weights_bytes:,} bytes of {len(answer.body):,}")
    found = delivery.certificate
    for name in ("strategy", "guard_digest", "versions", "params", "forward_flops"):
        theirs, ours = getattr(found, name), getattr(promised, name)
        if theirs != ours:
            raise BadDelivery(f"the process certifies {name} {theirs!r}; it is {ours!r}"[:500])
    weights = answer.body[: delivery.weights_bytes]
    return Forged(weights, found, answer.body[delivery.weights_bytes :] if delivery.program else None)
