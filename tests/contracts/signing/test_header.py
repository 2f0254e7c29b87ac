"""A signature has one form, and nothing else is read as one."""

import hashlib
import hmac

import hypothesis.strategies as st
import pytest
from hypothesis import given

from contracts.signing.header import SIGNATURE_BYTES_MAX, Header, header_bytes, parse
from contracts.signing.refusal import Refusal, SignatureRefused
from contracts.signing.signer import Signer
from tests.contracts.signing.rig import OLD, Clock, keyring, signer

KEY_IDS = st.from_regex(r"[A-Za-z0-9._-]{1,32}", fullmatch=True)
SENDERS = st.from_regex(r"[A-Za-z0-9._:@/-]{1,64}", fullmatch=True)
NONCES = st.binary(min_size=16, max_size=16)
TIMES = st.integers(1, 10**19 - 1)
MAC = b"5a" * 32
WHOLE = b"leyline-v1 k tamiyo " + b"0f" * 16 + b" 17 " + MAC


@given(KEY_IDS, SENDERS, NONCES, TIMES)
def test_what_was_written_is_read(key_id: str, sender: str, nonce: bytes, signed_ns: int) -> None:
    signature = header_bytes(key_id, sender, nonce, signed_ns) + MAC
    assert len(signature) <= SIGNATURE_BYTES_MAX
    assert parse(signature) == Header(key_id, sender, f"{sender} {nonce.hex()}".encode(), signed_ns)


def test_the_longest_header_fills_the_limit() -> None:
    assert len(header_bytes("k" * 32, "s" * 64, bytes(16), 10**19 - 1) + MAC) == SIGNATURE_BYTES_MAX


def test_no_signature_is_unsigned_and_not_malformed() -> None:
    with pytest.raises(SignatureRefused) as refused:
        parse(b"")
    assert refused.value.reason is Refusal.UNSIGNED


@pytest.mark.parametrize(
    "signature",
    [
        WHOLE[:-1],
        WHOLE + b"0",
        WHOLE + b"\n",
        b" " + WHOLE,
        WHOLE.replace(b" ", b"  ", 1),
        WHOLE.replace(b" ", b"\t", 1),
        WHOLE.replace(b"v1", b"v2"),
        WHOLE.replace(b"5a", b"5A", 1),
        WHOLE.replace(b"0f", b"0F", 1),
        WHOLE.replace(b" 17 ", b" 017 "),
        WHOLE.replace(b" 17 ", b" +17 "),
        WHOLE.replace(b" 17 ", b" 1_7 "),
        WHOLE.replace(b" 17 ", b" 0 "),
        WHOLE.replace(b" 17 ", b" -17 "),
        WHOLE.replace(b" 17 ", b" 10000000000000000000 "),
        WHOLE.replace(b" k ", b"  "),
        WHOLE.replace(b" k ", b" " + b"k" * 33 + b" "),
        WHOLE.replace(b"tamiyo", b"tam\xc3\xadyo"),
        WHOLE.replace(b"tamiyo", b"t" * 65),
        b"leyline-v1",
        b"\x00",
        b"x" * 10_000_000,
    ],
)
def test_any_other_spelling_is_malformed(signature: bytes) -> None:
    parse(WHOLE)
    with pytest.raises(SignatureRefused) as refused:
        parse(signature)
    assert refused.value.reason is Refusal.MALFORMED
    assert len(str(refused.value)) < 200, "what came is not repeated in the text"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(SignatureRefused):
        parse(data)


@given(st.binary(max_size=600))
def test_the_mac_is_that_of_the_standard_library_over_header_and_body(body: bytes) -> None:
    signature = signer(Clock()).sign(body)
    header, mac = signature[:-64], signature[-64:]
    assert mac.decode() == hmac.new(OLD, header + body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("sender", ["", "two words", "t" * 65, "tamiyo\n", "Ämter"])
def test_a_sender_that_cannot_be_written_is_refused_at_once(sender: str) -> None:
    with pytest.raises(ValueError, match="can't be a sender"):
        Signer(keyring(), sender, bytes, Clock())


def test_each_signature_of_the_same_bytes_is_another() -> None:
    made = signer(Clock())
    assert len({made.sign(b"body") for _ in range(100)}) == 100
