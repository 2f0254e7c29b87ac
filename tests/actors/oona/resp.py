"""The few lines of Redis's protocol (RESP 2) that a test needs to look at a server from the side.

Apart from the client under test: what this sees, the server really did.
"""

import socket
from types import TracebackType
from typing import Final, Self, TypeAlias

Reply: TypeAlias = bytes | int | list["Reply"] | None

_ANSWER_S: Final = 60.0


class ReplyError(Exception):
    """The server answered with an error."""


class Resp:
    """One connection; a command at a time. A server that hangs raises TimeoutError."""

    def __init__(self, port: int, password: str | None = None, answer_s: float = _ANSWER_S) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), answer_s)
        self._lines = self._socket.makefile("rb")
        if password is not None:
            try:
                self.execute("AUTH", password)
            except BaseException:
                self.close()
                raise

    def execute(self, *words: str | int | bytes) -> Reply:
        """Raises ReplyError, TimeoutError, ConnectionError."""
        self._socket.sendall(packed(words))
        return self._reply()

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reply(self) -> Reply:
        line = self._lines.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server closed the connection in the middle of a reply")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise ReplyError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._lines.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        raise AssertionError(f"no reply of RESP 2: {line!r}")


def packed(words: tuple[str | int | bytes, ...]) -> bytes:
    """A command as the protocol writes it."""
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"".join([b"*%d\r\n" % len(raw), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw)])
