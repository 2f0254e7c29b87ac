"""The secrets a process holds: the first signs, all verify, none is ever shown.

A secret is used up when the keyring is made: what stays is the keyed state of its MAC. Errors name the place
in the setting, not what stands there, and what raises them has let go of the secrets, so that a traceback
with local variables doesn't show them either.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from contracts.signing.header import KEY_ID, MAC_CHARS, Header, header_bytes, parse
from contracts.signing.refusal import Refusal, SignatureRefused

SECRET = "ESPER_LEYLINE_SECRET"
SECRETS = "ESPER_LEYLINE_SECRETS"
DEFAULT_KEY_ID = "default"
"""The key id of the one secret in `ESPER_LEYLINE_SECRET`."""
SECRET_BYTES_MIN = 16
SECRET_BYTES_MAX = 1024
KEYS_MAX = 16

_FORM = f"{SECRETS} holds 'keyid:secret,keyid:secret'"
_Pairs = Sequence[tuple[str, bytes]]


class KeyringError(ValueError):
    """Secrets that can't be used; the text never holds one."""


class Keyring:
    """Keys by id, in order; it can't be copied, pickled or encoded."""

    __slots__ = ("_keyed", "_signing_id")

    def __init__(self, secrets: _Pairs) -> None:
        """Take pairs of key id and secret; the first one signs.

        Raises:
            KeyringError: there is none, an id is malformed or there twice, or a secret is too short.
        """
        self._signing_id = ""
        self._keyed: dict[str, hmac.HMAC] = {}
        fault = _fault_of(secrets)
        if fault is not None:
            del secrets
            raise KeyringError(f"these secrets can't be used: {fault}")
        self._signing_id = secrets[0][0]
        self._keyed = {key_id: hmac.new(secret, digestmod="sha256") for key_id, secret in secrets}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Keyring | None":
        """The keyring that the environment asks for; None if neither variable is set.

        Raises:
            KeyringError: a variable is set and says nothing usable, or both are set.
        """
        secrets, fault = _read(environ)
        del environ
        if fault is not None:
            raise KeyringError(fault)
        return cls(secrets) if secrets else None

    @property
    def signing_id(self) -> str:
        """Id of the key that signs."""
        return self._signing_id

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all keys that verify, the signing one first."""
        return tuple(self._keyed)

    def sign(self, sender: str, nonce: bytes, now_ns: int, body: bytes) -> bytes:
        """The signature of `body`; the nonce must never be used again."""
        header = header_bytes(self._signing_id, sender, nonce, now_ns)
        return header + self._mac(self._signing_id, header, body).encode()

    def verify(self, body: bytes, signature: bytes) -> Header:
        """What the signature says, once it is known that a key of this ring made it for this body.

        Raises:
            SignatureRefused: unsigned, malformed, unknown key or bad MAC.
        """
        header = parse(signature)
        if header.key_id not in self._keyed:
            raise SignatureRefused(
                Refusal.UNKNOWN_KEY,
                f"signed with key {header.key_id!r}; this process holds {', '.join(map(repr, self._keyed))}",
            )
        if not self._matches(header.key_id, signature, body):
            raise SignatureRefused(
                Refusal.BAD_MAC,
                "the MAC is wrong: the frame was changed, or the sender holds another secret "
                f"as key {header.key_id!r}",
            )
        return header

    def _matches(self, key_id: str, signature: bytes, body: bytes) -> bool:
        mac = self._mac(key_id, signature[:-MAC_CHARS], body)
        return hmac.compare_digest(mac.encode(), signature[-MAC_CHARS:])

    def _mac(self, key_id: str, header: bytes, body: bytes) -> str:
        keyed = self._keyed[key_id].copy()
        keyed.update(header)
        keyed.update(body)
        return keyed.hexdigest()

    def __repr__(self) -> str:
        return f"<Keyring signs {self._signing_id!r} verifies {', '.join(map(repr, self._keyed))}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring stays in its process; every process reads its own environment")


def _read(environ: Mapping[str, str]) -> tuple[_Pairs, str | None]:
    """The pairs in the environment, or what is wrong with it."""
    one, several = environ.get(SECRET), environ.get(SECRETS)
    if one is not None and several is not None:
        return (), (
            f"{SECRET} and {SECRETS} are both set; set only one of them ({_FORM}; "
            f"the key id of the secret in {SECRET} is '{DEFAULT_KEY_ID}')"
        )
    if one is not None:
        pairs = [(DEFAULT_KEY_ID, one)]
    elif several is not None:
        split = [entry.partition(":") for entry in several.split(",")]
        pairs = [(key_id if colon else "", secret) for key_id, colon, secret in split]
    else:
        return (), None
    name = SECRET if several is None else SECRETS
    if not (one or several):
        return (), f"{name} is set but empty; unset it to run without signatures, or give it a secret"
    secrets = [(key_id, _encoded(secret)) for key_id, secret in pairs]
    fault = _fault_of(secrets)
    if fault is None:
        return secrets, None
    return (), f"{name} can't be used: {fault}" + (f"; {_FORM}, with no spaces" if name == SECRETS else "")


def _encoded(secret: str) -> bytes:
    """The bytes that the environment held; empty if no environment can hold them."""
    try:
        return secret.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b""


def _fault_of(secrets: _Pairs) -> str | None:
    """What is wrong with these, in words that hold none of them; None if nothing is."""
    if not 1 <= len(secrets) <= KEYS_MAX:
        return f"there are {len(secrets)} entries; there may be 1 to {KEYS_MAX}"
    ids = [key_id for key_id, _ in secrets]
    for number, (key_id, secret) in enumerate(secrets, 1):
        entry = f"entry {number} of {len(secrets)}"
        if not KEY_ID.fullmatch(key_id):
            return f"{entry} has no key id of 1 to 32 letters, digits, '.', '_' or '-' before a colon"
        if key_id in ids[: number - 1]:
            return f"{entry} has the key id of entry {ids.index(key_id) + 1}; each key needs its own"
        if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
            return (
                f"the secret of {entry} has {len(secret)} bytes; "
                f"it needs {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}, drawn at random"
            )
        if re.search(rb"\A\s|\s\Z", secret):
            return f"the secret of {entry} begins or ends with white space; take that away"
    return None
