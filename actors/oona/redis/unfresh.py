"""Messages that this process was given and whose signature is good no longer.

Their sender, if it lives, signs them anew as soon as it hears of it. If it doesn't, nobody ever will: one who
gave no sign of life for some time is dead for the bus, and the message with it.
"""

from collections import OrderedDict
from typing import Final

from contracts.signing.refusal import Refusal, SignatureRefused

REASONS: Final = frozenset({Refusal.STALE, Refusal.BEFORE_BIRTH})
"""What a new signature mends."""


class Unfresh:
    """How long it is worth to wait for a new signature: `patience_s` from the first time that it was wanted.

    Bounded in messages; the oldest is forgotten, and waited for once more if it comes again."""

    def __init__(self, patience_s: float, messages_max: int) -> None:
        self._patience_s = patience_s
        self._messages_max = messages_max
        self._since_s: OrderedDict[tuple[str, str], float] = OrderedDict()

    def waits(self, topic: str, key: str, error: ValueError, now_s: float) -> bool:
        """Whether an entry that was refused for this may yet come to be good."""
        if not isinstance(error, SignatureRefused) or error.reason not in REASONS:
            return False
        since_s = self._since_s.setdefault((topic, key), now_s)
        if now_s - since_s >= self._patience_s:
            del self._since_s[topic, key]
            return False
        if len(self._since_s) > self._messages_max:
            self._since_s.popitem(last=False)
        return True
