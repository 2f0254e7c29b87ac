"""Conservative mode: an overloaded bus takes urgent traffic only, until it has been calm for a while."""

from actors.oona.errors import ConservativeModeError
from actors.oona.policy import ConservativePolicy


class Conservative:
    """Entered at a cause; left when depth is under the low mark and the last cause is `dwell_s` ago."""

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

    def refusal(self, what: str) -> ConservativeModeError:
        """The error that says so; `what` is what was refused."""
        return ConservativeModeError(
            f"{what}: the bus is in conservative mode ({self.cause}) and takes CRITICAL and EMERGENCY only; "
            f"try again when depth is under {self._policy.low_mark:,} and {self._policy.dwell_s:g} s "
            "have passed without a cause"
        )
