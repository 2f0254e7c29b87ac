"""How one message is written and read."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import msgspec
from google.protobuf.message import Message

S = TypeVar("S", bound=msgspec.Struct)
W = TypeVar("W", bound=Message)


class Form(NamedTuple, Generic[S, W]):
    """A struct's type, its message's, and the two functions between them."""

    struct: type[S]
    wire: type[W]
    write: Callable[[S, W], None]
    read: Callable[[W], S]
