"""Whether a run still gives signs of life, by the clock of whoever watches."""

from typing import Final

from contracts.view import Phase

SILENT_S: Final = 5.0
"""Seconds without a sign of life after which that is said."""
LULL_S: Final = 60.0
"""Seconds without a new epoch after which that is said of a run that lives."""


class Vigil:
    """Never compares the clocks of two machines: when a sign of life came is said by the watcher's."""

    def __init__(self, alive: bool, now_s: float) -> None:
        self.silent = False
        self._seen_s = now_s if alive else now_s - SILENT_S
        self._pulse = -1

    def saw(self, now_s: float, pulse: int) -> None:
        """The run's newest sign of life is number `pulse`."""
        if self._pulse >= 0 and pulse != self._pulse:
            self._seen_s = now_s
        self._pulse = pulse

    def heard(self, now_s: float) -> None:
        """A message of it came over the bus that had not come before."""
        self._seen_s = now_s

    def change(self, now_s: float) -> str:
        """What is to be said of it now; empty if nothing is new."""
        away_s = now_s - self._seen_s
        if not self.silent and away_s >= SILENT_S:
            self.silent = True
            return f"the run has given no sign of life for {away_s:.0f} s"
        if self.silent and away_s < SILENT_S:
            self.silent = False
            return "the run gives signs of life again"
        return ""


class Lull:
    """Whether a run that lives has stopped telling of new epochs."""

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._newest: tuple[Phase, int] | None = None
        self._said = False

    def change(self, now_s: float, phase: Phase, epoch: int) -> str:
        """What is to be said now; empty if nothing is new. In other phases than these no epochs are due."""
        if (phase, epoch) != self._newest or phase not in ("training", "comparing"):
            self._newest, self._since_s, self._said = (phase, epoch), now_s, False
        if self._said or now_s - self._since_s < LULL_S:
            return ""
        self._said = True
        return "no new state for a minute"
