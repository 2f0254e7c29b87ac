"""How often a slice looks at the clock: a look costs half of what handling a quick message does."""

CHUNK_MAX = 32
"""Messages of one type handled between two looks at the clock, of a type that is trusted."""
SMALL_CHUNK_MAX = 8
"""The same of a type that is not."""
CHUNK_GROWTH = 2
TRUST_MESSAGES = 512
"""Messages of a type that have to be quick before it is trusted, and how many it is handled one at a time
after one that took long."""


class Pace:
    """Chunk lengths for one actor. A chunk is of one type, and the first of a type is of one message.

    Whether a message is quick shows only once it is handled. So one that is slow after quick ones of its type
    may have company in its chunk that is as slow: less than a small chunk, and more only after hundreds that
    were quick. Its type then goes one at a time for a while, a small chunk at a time for a while, and is
    trusted again.
    """

    __slots__ = ("_quick",)

    def __init__(self) -> None:
        self._quick: dict[type, int] = {}
        """Quick messages by type, `TRUST_MESSAGES` at most; so many less since one took long."""

    def after(self, kind: type, chunk: int, took_s: float, left_s: float, slice_s: float) -> int:
        """Messages for the next chunk, after one of `chunk` messages of type `kind` that took so long."""
        if self.was_slow(kind, took_s, slice_s):
            return 1
        quick = self._quick[kind] = min(self._quick.get(kind, 0) + chunk, TRUST_MESSAGES)
        if quick < 0:
            return 1
        if took_s > left_s:
            return max(1, int(chunk * left_s / took_s))
        most = CHUNK_MAX if quick == TRUST_MESSAGES else SMALL_CHUNK_MAX
        return min(CHUNK_GROWTH * chunk, most) if CHUNK_GROWTH * took_s <= left_s else min(chunk, most)

    def was_slow(self, kind: type, took_s: float, slice_s: float) -> bool:
        """Note a chunk, or the part of one, that took more than half a slice."""
        if 2 * took_s <= slice_s:
            return False
        self._quick[kind] = -TRUST_MESSAGES
        return True
