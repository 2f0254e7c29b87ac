"""A signature as text, `leyline-v1 <key id> <sender> <nonce> <ns> <mac>`: one spelling a field."""

import re
from typing import NamedTuple

from contracts.signing.refusal import Refusal, SignatureRefused

VERSION = b"leyline-v1"
NONCE_BYTES = 16
MAC_CHARS = 64
"""HMAC-SHA256 in lower-case hex."""
SIGNATURE_BYTES_MAX = 226

KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
SENDER = re.compile(r"[A-Za-z0-9._:@/-]{1,64}")
_SIGNATURE = re.compile(
    rb"%b (%b) ((%b) [0-9a-f]{%d}) ([1-9][0-9]{0,18}) ([0-9a-f]{%d})"
    % (re.escape(VERSION), KEY_ID.pattern.encode(), SENDER.pattern.encode(), 2 * NONCE_BYTES, MAC_CHARS)
)


class Header(NamedTuple):
    """What a signature says of itself; true only once its MAC was found right."""

    key_id: str
    sender: str
    nonce: bytes
    """With the sender before it: two senders may draw the same one."""
    signed_ns: int
    """Wall clock of the sender, nanoseconds since 1970."""


def header_bytes(key_id: str, sender: str, nonce: bytes, signed_ns: int) -> bytes:
    """The signed part of a signature, its last space included; `nonce` is `NONCE_BYTES` of randomness."""
    return b"%b %b %b %b %d " % (VERSION, key_id.encode(), sender.encode(), nonce.hex().encode(), signed_ns)


def parse(signature: bytes) -> Header:
    """Read the header of a signature.

    Raises:
        SignatureRefused: it is unsigned or malformed.
    """
    if not signature:
        raise SignatureRefused(
            Refusal.UNSIGNED,
            "the frame is not signed; the sender needs one of the secrets that this process holds",
        )
    match = _SIGNATURE.fullmatch(signature) if len(signature) <= SIGNATURE_BYTES_MAX else None
    if match is None:
        raise SignatureRefused(
            Refusal.MALFORMED,
            f"the signature ({len(signature)} bytes) is not of the form "
            f"'{VERSION.decode()} <key id> <sender> <nonce> <ns> <mac>'",
        )
    key_id, nonce, sender, signed_ns, _ = match.groups()
    return Header(key_id.decode(), sender.decode(), nonce, int(signed_ns))
