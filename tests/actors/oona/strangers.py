"""Somebody without a secret who can write to the server: raw entries, and records of them."""

import math
import struct
import time
from typing import Final

from tests.actors.oona.redis_server import RedisServer

PLAIN: Final = "<dBdddd"


def plain(
    *,
    number: float = 77,
    priority: int = 2,
    published_s: float | None = None,
    expires_s: float = math.inf,
    taken_ms: float | None = None,
    entered_s: float = 100.0,
) -> bytes:
    """The plain fields of an entry, as the bus writes them."""
    return struct.pack(
        PLAIN,
        number,
        priority,
        time.time() if published_s is None else published_s,
        expires_s,
        float(int(time.time() * 1e3)) if taken_ms is None else taken_ms,
        entered_s,
    )


class Stranger:
    """Writes to one topic of a namespace, past the bus."""

    def __init__(self, server: RedisServer, namespace: str, topic: str) -> None:
        self._server = server
        self._prefix = f"esper:{{{namespace}}}:"
        self._topic = topic

    def add(self, rank: int, *fields: str | bytes, groups: tuple[str, ...] = ()) -> bytes:
        """Add an entry, and a record of it for each of these groups."""
        entry = self._server.execute("XADD", f"{self._prefix}s:{self._topic}:{rank}", "*", *fields)
        assert isinstance(entry, bytes)
        for group in groups:
            key = f"{self._prefix}m:{self._topic}:{group}"
            self._server.execute("HSET", key, f"{rank}:".encode() + entry, "1")
        return entry

    def delete_all(self, rank: int) -> None:
        """Delete every entry of a rank."""
        stream = f"{self._prefix}s:{self._topic}:{rank}"
        entries = self._server.execute("XRANGE", stream, "-", "+")
        assert isinstance(entries, list)
        for entry in entries:
            assert isinstance(entry, list)
            assert isinstance(entry[0], bytes)
            assert self._server.execute("XDEL", stream, entry[0]) == 1

    def copied(self, event_id: str) -> dict[bytes, bytes]:
        """The fields of a message that the bus's history has."""
        past = self._server.execute("XRANGE", f"{self._prefix}hist:{self._topic}", "-", "+")
        assert isinstance(past, list)
        for entry in past:
            assert isinstance(entry, list)
            fields = entry[1]
            assert isinstance(fields, list)
            told = dict(zip(fields[::2], fields[1::2], strict=True))
            if told[b"id"] == event_id.encode():
                return told  # type: ignore[return-value]
        raise AssertionError(f"{event_id} is not in the history of {self._topic}")

    def say_again(self, rank: int, event_id: str, groups: tuple[str, ...], published_s: float) -> None:
        """The same id, envelope and signature once more, with other plain fields."""
        told = self.copied(event_id)
        said = plain(priority=told[b"plain"][8], published_s=published_s)
        frame = ("envelope", told[b"envelope"], "signature", told[b"signature"])
        self.add(rank, "id", event_id, "plain", said, *frame, groups=groups)
