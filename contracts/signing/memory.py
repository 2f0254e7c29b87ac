"""What was admitted: event ids with the digests of their bytes, nonces, and who is done with them, in bounded
memory."""

import hashlib
from typing import NamedTuple

Key = tuple[str, str]
"""Topic and event id."""


class Digests(NamedTuple):
    """SHA-256 of what came under an id."""

    body: bytes
    frame: bytes
    """Of body and signature."""


def digests_of(body: bytes, signature: bytes) -> Digests:
    digest = hashlib.sha256(body)
    of_body = digest.digest()
    digest.update(signature)
    return Digests(of_body, digest.digest())


class Known(NamedTuple):
    """One admitted frame."""

    digests: Digests
    nonce: bytes
    signed_ns: int
    held_until_ns: int
    """Until then it may not be forgotten."""


class Memory:
    """A queue of admitted frames; the oldest leaves when room is needed, and only once it may."""

    __slots__ = ("_done", "_frames_max", "_known", "_nonces", "forgotten_ns")

    def __init__(self, frames_max: int) -> None:
        self._frames_max = frames_max
        self._known: dict[Key, Known] = {}
        self._nonces: set[bytes] = set()
        self._done: dict[str, set[Key]] = {}
        self.forgotten_ns = 0
        """The latest signing time of all that was forgotten."""

    def __len__(self) -> int:
        assert len(self._known) == len(self._nonces), "an id and its nonce come and go together"
        return len(self._known)

    def known(self, key: Key) -> Digests | None:
        """The digests of what was admitted under this key."""
        frame = self._known.get(key)
        return None if frame is None else frame.digests

    def has_nonce(self, nonce: bytes) -> bool:
        return nonce in self._nonces

    def is_done(self, group: str, key: Key) -> bool:
        """Whether the group said that it is done with what was admitted under this key."""
        done = self._done.get(group)
        return done is not None and key in done

    def done(self, group: str, key: Key) -> None:
        """The group is done with it; nothing happens if it is not remembered."""
        if key in self._known:
            self._done.setdefault(group, set()).add(key)

    def has_room(self, now_ns: int) -> bool:
        """Whether one more can be remembered, if need be in the oldest one's place."""
        if len(self._known) < self._frames_max:
            return True
        return self._known[next(iter(self._known))].held_until_ns < now_ns

    def remember(self, key: Key, frame: Known) -> None:
        """Remember a frame whose key and nonce are new, for which there is room."""
        assert key not in self._known
        assert frame.nonce not in self._nonces
        if len(self._known) >= self._frames_max:
            oldest_key = next(iter(self._known))
            oldest = self._known.pop(oldest_key)
            self._nonces.remove(oldest.nonce)
            for done in self._done.values():
                done.discard(oldest_key)
            self.forgotten_ns = max(self.forgotten_ns, oldest.signed_ns)
        self._known[key] = frame
        self._nonces.add(frame.nonce)
