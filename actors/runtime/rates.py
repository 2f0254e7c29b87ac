"""How fast a count grows, over the last few seconds."""

WINDOW_S = 5.0
"""Seconds that a rate looks back, at least, once that much time has passed."""


class Rate:
    """Remembers two earlier readings of a count and compares the present one with the older."""

    def __init__(self, now: float) -> None:
        self._older = (now, 0)
        self._newer = (now, 0)

    def per_s(self, count: int, now: float) -> float:
        """Growth per second since between one and two windows ago; 0 before any time has passed."""
        if now - self._newer[0] >= WINDOW_S:
            self._older, self._newer = self._newer, (now, count)
        elapsed_s = now - self._older[0]
        return (count - self._older[1]) / elapsed_s if elapsed_s > 0 else 0.0
