"""Gives what the server still has of this process a new signature, when somebody wants to read it.

A signature is good for a minute, and not for a reader that began after it was made. Who is given a message
whose signature is good no longer says so to the server, and the server rings. Only what is retained here is
signed anew: the envelope is this process's own, and not what lies on the server; where other bytes lie there,
said under the same event id by an earlier life, their signature stays. What all groups have settled is not
retained, and so nobody who shows it again has it signed.

Left open: what a slower group has not settled yet, one who can write to the server may have signed anew and
show to a group that has done it and was started again since. He could as well feign a server that lost its
data. The message still has its event id and its command id.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, Protocol

from actors.oona.redis.call import Call
from actors.oona.redis.link import Link
from actors.oona.redis.outbox import Outbox
from actors.oona.redis.outgoing import RETAINED, Outgoing
from actors.oona.redis.wire import Op

TOGETHER_MAX: Final = 64
"""Messages that are signed anew in one operation."""
_WEIGHT: Final = 8
_SIGNATURE_BYTES: Final = 256


class Signs(Protocol):
    """Who signs. Empty: nothing is signed here."""

    def sign(self, envelope: bytes) -> bytes: ...


class Anew(Call):
    """New signatures for some messages; what is settled by then, or given to a new server, is left out."""

    __slots__ = ("_items", "_signs", "_topic", "size", "weight")
    patient = True

    def __init__(self, topic: str, items: Sequence[Outgoing], signs: Signs) -> None:
        self._topic = topic
        self._items = items
        self._signs = signs
        self.size = len(items) * _SIGNATURE_BYTES
        self.weight = 1 + len(items) // _WEIGHT

    def write(self, blobs: list[bytes]) -> Op:
        first = len(blobs)
        entries: list[str] = []
        digests: list[str] = []
        for item in self._items:
            if item.stage is RETAINED and item.keys:
                keys = item.keys.split(" ")
                entries += keys
                digests += [hashlib.sha1(item.envelope, usedforsecurity=False).hexdigest()] * len(keys)
                blobs += [self._signs.sign(item.envelope)] * len(keys)
        return ("resign", self._topic, entries, first, digests)


class SigningAnew:
    """Once for each time that it is wanted, but no more often than every `every_s` seconds."""

    def __init__(self, outbox: Outbox, link: Link, signs: Signs, every_s: float) -> None:
        self._outbox = outbox
        self._link = link
        self._signs = signs
        self._every_s = every_s
        self._wanted: dict[str, None] = {}
        self._done_s: dict[str, float] = {}

    def want(self, topic: str, now_s: float) -> None:
        """Somebody was given what is no longer fresh, and perhaps it is ours."""
        self._wanted[topic] = None
        self.go_on(now_s)

    def go_on(self, now_s: float) -> None:
        """With what had to wait."""
        due = [each for each in self._wanted if now_s >= self._done_s.get(each, -math.inf) + self._every_s]
        for topic in due if self._link.up else ():
            del self._wanted[topic]
            self._done_s[topic] = now_s
            for items in self._together(topic):
                self._link.submit(Anew(topic, items, self._signs))

    def _together(self, topic: str) -> Iterator[list[Outgoing]]:
        """All that is retained, some at a time; nothing where nothing is signed."""
        retained = iter(self._outbox.retained_of(topic))
        while items := list(islice(retained, TOGETHER_MAX)):
            if not self._signs.sign(items[0].envelope):
                return
            yield items
