"""What is said of a server that can't be had: what is wrong there, and what would help; never a password."""

import os
import re
from typing import Final

from actors.oona.redis.address import Address

_CONNECTING: Final = re.compile(r"^Error(?: (-?\d+))? connecting to .*?\. (?=\D)(.*)$", re.DOTALL)
_CALL_FAILED: Final = re.compile(r"\[Errno (\d+)\] Connect call failed")
_SENSELESS: Final = "Protocol error"
_TLS_ALERT: Final = "\\x15"
_NO_DATABASE: Final = "DB index is out of range"
_NEEDS_NONE: Final = "without any password configured"
_WANTS_ONE: Final = "Authentication required"


def reason(said: str) -> str:
    """A driver's words for why there is no connection, without its numbers and what the address says."""
    found = _CONNECTING.match(said)
    if found is None:
        return said
    number, rest = int(found[1] or 0), found[2]
    several = _CALL_FAILED.search(rest)
    if several is not None:
        number = int(several[1])
    return os.strerror(number).lower() if number > 0 and "Connect call failed" in rest else rest


def absent(address: Address, said: str) -> str:
    """Nothing that can be a bus is reached there."""
    shown = address.shown
    if _NO_DATABASE in said:
        return (
            f"the Redis at {shown} has no database {address.database}; give a lower number, 0 is always there"
        )
    if said.startswith(_SENSELESS):
        tls = "; does it speak TLS? that is rediss://" if _TLS_ALERT in said and not address.tls else ""
        return f"something that is not a Redis answers at {shown}{tls or '; give another address'}"
    why = "the answer is not TLS" if "WRONG_VERSION_NUMBER" in said else reason(said)
    if address.tls and "CERTIFICATE" not in said and ("SSL" in said or "no answer" in said):
        return f"no Redis can be reached at {shown}: {why}; does it speak TLS? redis:// is without"
    return (
        f"no Redis can be reached at {shown}: {why}; start one there (redis-server), or give another address"
    )


def locked(address: Address, said: str) -> str:
    """The server does not take the login in the address, or wants one."""
    shown, form = address.shown, address.login_form
    if _NEEDS_NONE in said:
        return f"{shown} needs no password; take it out of the address"
    if not address.has_password and _WANTS_ONE in said:
        return f"{shown} wants a password; put it into the address: {form}"
    if not address.has_password:
        return f"{shown} refuses a login without a password ({said}); put both into the address: {form}"
    return f"{shown} refuses the password ({said}); put the right one into the address: {form}"
