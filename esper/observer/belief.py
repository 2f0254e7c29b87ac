"""Whether a run's messages can be believed, and what to do if they can't."""

from collections.abc import Mapping
from typing import Final

from contracts.signing.keyring import SECRET, SECRETS
from contracts.signing.refusal import Refusal

SET_SECRETS: Final = f"set {SECRET} or {SECRETS} as for the run"
STRANGE: Final = "unknown_entry"
"""What somebody added past the bus: that says nothing of the run's own messages."""
ADVICE: Final[Mapping[str, str]] = {
    Refusal.UNSIGNED: f"they are not signed; unset {SECRET} and {SECRETS} to follow it all the same",
    Refusal.UNKNOWN_KEY: f"they are signed with a key that is not known here; {SET_SECRETS}",
    Refusal.BAD_MAC: f"they are signed with another secret; {SET_SECRETS}",
}
"""Why all messages of a run are refused, and what would help."""


class Unbelieved(ValueError):
    """Every message was refused; the message says why and what would help."""


class Belief:
    """Looks at how many frames were taken and refused so far."""

    def __init__(self) -> None:
        self.believed = 0
        self._told: set[str] = set()

    def judge(self, refused: Mapping[str, int]) -> str:
        """What is to be said of these refusals, by reason; empty if nothing is new.

        Raises:
            Unbelieved: nothing but refusals so far.
        """
        reasons = {reason: count for reason, count in refused.items() if count}
        said = [reason for reason in reasons if reason != STRANGE]
        if said and not self.believed:
            worst = max(said, key=lambda reason: reasons[reason])
            raise Unbelieved(f"the run's messages are refused: {ADVICE.get(worst, worst.replace('_', ' '))}")
        new = sorted(set(reasons) - self._told)
        self._told |= set(new)
        if not new:
            return ""
        counted = ", ".join(f"{reasons[reason]} {reason.replace('_', ' ')}" for reason in new)
        return f"messages were refused that somebody else may have sent: {counted}"
