"""How much memory a frame may take: its parts weigh what they take once they are read, and a frame may weigh
so much for each of its bytes.

A part is a message, a map's entry or a list's item. An empty one takes two bytes on the wire and some hundred
in memory; a real one has a name and a number in it. Weights are bytes, rounded up: of what protobuf allocates
and of what Python does.
"""

from typing import Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from contracts.leyline.kinds import is_map, message_of

FREE: Final = 32 * 1024
"""What any frame may weigh."""
PER_BYTE: Final = 20
"""What a frame may weigh more for each of its bytes. Of its own, a map's entry with a key of one character
weighs 21, a seed with a name of six and a stage 21, a metric with a name and a value 12, a truth in a list of
a command's details 16, a number 6; a system state with four seeds and ten metrics 9."""

_ENTRY, _ITEM, _GOOGLE, _MESSAGE, _FIELD = 208, 80, 64, 96, 24


def weight_of(field: FieldDescriptor) -> int:
    """Of one occurrence, without what is inside; 0 where it is no part."""
    if is_map(field):
        return _ENTRY
    if field.type != FieldDescriptor.TYPE_MESSAGE:
        return _ITEM if field.is_repeated else 0
    message = message_of(field)
    if message.file.package == "google.protobuf":
        return _GOOGLE
    return _MESSAGE + _FIELD * len(message.fields)


def weight_max(size: int) -> int:
    """What a frame of that many bytes may weigh."""
    return FREE + PER_BYTE * size


class Sieve(NamedTuple):
    """Tells at little cost that a frame of one message is not too heavy, or that it has to be scanned."""

    others: bytes
    """Every byte that no part's tag begins with."""
    heaviest: int
    light_bytes: int
    """A frame of this size is light enough whatever is in it: each part takes two bytes at least."""

    def passes(self, data: bytes) -> bool:
        """Whether it is light enough even if each byte that could begin a part's tag did."""
        return len(data.translate(None, self.others)) * self.heaviest <= weight_max(len(data))


def sieve_of(fields: list[tuple[int, int]]) -> Sieve:
    """Of a message with parts of these field numbers and weights, at every depth."""
    begins = {(number << 3 | 2) & 0x7F for number, _ in fields}
    # A tag of several bytes, or one that is longer than it need be, begins with a byte above 127.
    others = bytes(byte for byte in range(256) if byte & 0x7F not in begins)
    heaviest = max((weight for _, weight in fields), default=0)
    return Sieve(others, heaviest, FREE // max(1, heaviest // 2 - PER_BYTE))
