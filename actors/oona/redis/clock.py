"""The bus's time across processes: this process's clock, set by the server's."""

from typing import Final

from actors.runtime.clock import Clock

SLOWED: Final = 0.5
"""Share of its speed that the clock loses while it is ahead of the server."""


SLACK_S: Final = 0.05
"""Seconds that the clock may be off before it is set again."""


class ServerClock:
    """Implements `Clock`. It never goes back: when it is ahead it runs at half speed until it is right."""

    __slots__ = ("_ahead_s", "_anchor_s", "_own", "_value_s")

    def __init__(self, own: Clock) -> None:
        self._own = own
        self._anchor_s = self._value_s = own.monotonic()
        self._ahead_s = 0.0
        """How far it was ahead of the server at the anchor."""

    def set(self, server_s: float) -> None:
        """The server's time is `server_s` now."""
        was_s = self.monotonic()
        first = self._value_s == self._anchor_s and self._ahead_s == 0.0
        self._anchor_s = self._own.monotonic()
        self._value_s = server_s if first else max(was_s, server_s)
        self._ahead_s = self._value_s - server_s

    def check(self, server_s: float, waited_s: float) -> None:
        """The server's time was `server_s` at some moment of the last `waited_s` seconds."""
        if not server_s - SLACK_S <= self.monotonic() <= server_s + waited_s + SLACK_S:
            self.set(server_s + waited_s / 2)

    def monotonic(self) -> float:
        elapsed_s = self._own.monotonic() - self._anchor_s
        if not self._ahead_s:
            return self._value_s + elapsed_s
        return self._value_s + elapsed_s - min(self._ahead_s, SLOWED * elapsed_s)

    def wall_ns(self) -> int:
        return self._own.wall_ns()

    async def sleep(self, seconds: float) -> None:
        await self._own.sleep(seconds)
