"""The address of a bus: what it may look like, and how it is shown without its password."""

import re
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

MEMORY: Final = "memory"
"""The bus inside the process."""
MASK: Final = "***"
"""Stands where a password was."""

_LOGIN = r"(?:[^@/?#\s]*@)?"
_HOST = r"(?:\[[0-9a-fA-F:.]+\]|[^@:/?#\s\[\]]+)"
_PORT = r"(?::\d{1,5})?"
_OPTIONS = r"(?:\?[^#@\s]*)?"
_PATTERN = rf"^(?:{MEMORY}|rediss?://{_LOGIN}{_HOST}{_PORT}(?:/\d*)?{_OPTIONS}|unix://{_LOGIN}/[^?#@\s]+{_OPTIONS})\Z"

Address: TypeAlias = Annotated[
    str,
    Meta(
        pattern=_PATTERN,
        description='"memory" or the address of a Redis: redis://host:port, rediss://host:port or '
        "unix:///path; in a password, @ : and / are written %40 %3A and %2F",
    ),
]

_USERINFO = re.compile(r"(?<=://)(?:([^:@/\s]*)(:))?(?:(?!://).)*@", re.DOTALL)
_OPTION = re.compile(r"(?i)(?<=[?&])([^=&\s]*(?:password|secret|token)[^=&\s]*)=[^&\s]*")


def masked(text: str) -> str:
    """`text` with the password of every address in it replaced; whatever else an address holds stays.

    Also made for text that is no proper address: what stands before the last `@` is taken for a password.
    """
    return _OPTION.sub(rf"\1={MASK}", _USERINFO.sub(rf"\1\2{MASK}@", text))


def escaping_hint(text: str) -> str:
    """What helps if a password holds characters that divide an address; empty if there is no login."""
    return "; in a password, @ : and / are written %40 %3A and %2F" if "@" in text else ""


def is_masked(address: str) -> bool:
    """Whether the address came out of `masked` and lacks its password since."""
    return masked(address) == address and MASK in address
