"""Conservative mode: when the bus is overloaded it takes urgent traffic only, until it has been calm for a while."""

from actors.oona.policy import ConservativePolicy


class Conservative:
    """Entered at the first cause; left when depth is under the low mark and the last cause is `dwell_s` ago."""

    __slots__ = ("_last_cause_s", "_policy", "active", "cause", "entered")

    def __init__(self, policy: ConservativePolicy) -> None:
        self._policy = policy
        self._last_cause_s = 0.0
        self.active = False
        self.cause = ""
        self.entered = 0

    def too_deep(self, depth: int) -> bool:
        return depth > self._policy.high_mark

    def depth_cause(self, depth: int) -> str:
        return f"{depth:,} messages are unsettled, above the high mark of {self._policy.high_mark:,}"

    def enter(self, now_s: float, cause: str) -> bool:
        """Note a cause; True if the mode begins with it."""
        self._last_cause_s = now_s
        if self.active:
            return False
        self.active = True
        self.cause = cause
        self.entered += 1
        return True

    def review(self, now_s: float, depth: int) -> bool:
        """Leave the mode if all has been calm long enough; True if it was left."""
        calm = depth < self._policy.low_mark and now_s - self._last_cause_s >= self._policy.dwell_s
        if not (self.active and calm):
            return False
        self.active = False
        self.cause = ""
        return True

    def way_out(self) -> str:
        return (
            f"publish at CRITICAL or EMERGENCY, or wait until depth is under {self._policy.low_mark:,} and "
            f"{self._policy.dwell_s:g} s have passed without a cause"
        )
