"""What a process delivers is checked against what was ordered before anything is believed."""

import msgspec
import pytest

from actors.tezzeret.orders import (
    BadDelivery,
    Order,
    decode_delivery,
    decode_order,
    encode_delivery,
    encode_order,
)
from actors.tezzeret.sandbox import Answer
from contracts.growth import Layout, SiteInfo
from contracts.kernels import Certificate, KernelSpec, Strategy, design_of
from esper.tezzeret.forge import Forged

SPEC = KernelSpec(design_of(SiteInfo("", Layout.VECTOR, (4,), 4, 0), "BP002", {"rank": 2}), 2**63 - 1)
PROMISED = Certificate(Strategy.STANDARD, "ab" * 32, {"torch": "2"}, params=16, forward_flops=32)
FOUND = msgspec.structs.replace(
    PROMISED, batches=(1, 2), output_error=1e-7, gradient_error=0.0, compile_ms=3.5
)


def test_an_order_and_a_delivery_come_as_they_went() -> None:
    order = Order(SPEC, Strategy.AGGRESSIVE)
    assert decode_order(encode_order(order)) == order
    for program in (b"code", None, b""):
        forged = Forged(b"weights", FOUND, program)
        assert decode_delivery(Answer(*encode_delivery(forged)), PROMISED) == forged


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("strategy", Strategy.AGGRESSIVE),
        ("guard_digest", "00" * 32),
        ("versions", {"torch": "3"}),
        ("params", 15),
        ("forward_flops", 33),
    ],
)
def test_a_certificate_that_contradicts_what_is_known_is_refused(field: str, value: object) -> None:
    forged = Forged(b"weights", msgspec.structs.replace(FOUND, **{field: value}))
    with pytest.raises(BadDelivery, match=field):
        decode_delivery(Answer(*encode_delivery(forged)), PROMISED)


def test_a_reason_that_is_no_reason_any_more_is_refused() -> None:
    told = msgspec.structs.replace(FOUND, native_refusal="its gradients differ")
    delivered = decode_delivery(Answer(*encode_delivery(Forged(b"", told))), PROMISED)
    assert delivered.certificate.miscompiled == "its gradients differ"
    long = msgspec.structs.replace(FOUND, native_refusal="x" * 501)
    with pytest.raises(BadDelivery, match="delivered no kernel"):
        decode_delivery(Answer(*encode_delivery(Forged(b"", long))), PROMISED)


@pytest.mark.parametrize("header", [b"", b"{}", b"\xff", b'{"weights_bytes": 1}', b"[" * 100_000])
def test_a_header_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(BadDelivery, match="delivered no kernel"):
        decode_delivery(Answer(header, b""), PROMISED)


@pytest.mark.parametrize("size", [-1, 8])
def test_a_length_that_is_not_there_is_refused(size: int) -> None:
    header, body = encode_delivery(Forged(b"weights", FOUND))
    lying = msgspec.json.encode(msgspec.json.decode(header) | {"weights_bytes": size})
    with pytest.raises(BadDelivery, match="claims"):
        decode_delivery(Answer(lying, body), PROMISED)
