"""What happened in a simulation, in order: a digest of all of it, and the newest lines to read."""

import hashlib
from collections import deque

LINES_KEPT = 300


class Violation(AssertionError):
    """An invariant of the system does not hold."""


def ensure(holds: bool, claim: str) -> None:
    """Raise `Violation` unless it holds."""
    if not holds:
        raise Violation(claim)


class Trace:
    """Lines with their virtual time; the digest covers every one, also those that are forgotten."""

    def __init__(self, kept: int = LINES_KEPT) -> None:
        self.lines = 0
        self.steps = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._newest: deque[str] = deque(maxlen=kept)

    def step(self, now_s: float, name: str) -> None:
        """A task or a callback took a step: part of the digest, not of the lines."""
        self.steps += 1
        self._hash.update(f"{now_s:.9f} {name}\n".encode())

    def add(self, now_s: float, line: str) -> None:
        """Something happened that one would want to read."""
        self.lines += 1
        told = f"{now_s:.6f} {line}"
        self._hash.update(told.encode())
        self._newest.append(told)

    @property
    def digest(self) -> str:
        """Hexadecimal; equal for two runs only if they took the same steps at the same times."""
        return self._hash.hexdigest()

    def tail(self, lines: int = 60) -> str:
        """The newest lines, oldest first."""
        return "\n".join(list(self._newest)[-lines:])
