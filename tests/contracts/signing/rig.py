"""What the tests of signing share: secrets, a clock moved by hand, senders and readers."""

import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from contracts.signing.admission import FRAMES_MAX, Admission, Admitted
from contracts.signing.keyring import SECRETS, Keyring
from contracts.signing.refusal import Refusal, SignatureRefused
from contracts.signing.rules import Rule, TopicRule
from contracts.signing.signer import Signer

OLD, NEW = b"correct-horse-battery", b"staple-of-another-kind"
SECOND_NS = 10**9
BIRTH_NS = 1_790_000_000 * SECOND_NS
"""When the readers began to read."""
ACTS, INFORMS = "commands", "reports"
"""A topic of each rule."""
RULES: dict[str, TopicRule] = {ACTS: TopicRule(Rule.ACTS), INFORMS: TopicRule(Rule.INFORMS)}


def steps_of_the_readme(old: str, new: str) -> list[str]:
    """The values of ESPER_LEYLINE_SECRETS that the README tells an operator, step by step."""
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    told = re.findall(rf'^\| (\d) \| `{SECRETS}="([^"]+)"`', readme, re.MULTILINE)
    assert [number for number, _ in told] == ["1", "2", "3"]
    return [value.replace("OLD", old).replace("NEW", new) for _, value in told]


class Clock:
    """A wall clock in nanoseconds; it starts ten minutes after the readers' birth."""

    def __init__(self) -> None:
        self.ns = BIRTH_NS + 600 * SECOND_NS

    def __call__(self) -> int:
        return self.ns

    def move(self, seconds: float) -> None:
        self.ns += round(seconds * SECOND_NS)


def keyring(*secrets: tuple[str, bytes]) -> Keyring:
    return Keyring(secrets or (("old", OLD),))


def signer(
    clock: Callable[[], int], ring: Keyring | None = None, sender: str = "tamiyo", seed: int = 0
) -> Signer:
    """One whose nonces are drawn from a seed; two signers need two seeds."""
    return Signer(ring or keyring(), sender, random.Random(seed).randbytes, clock)


class Reader:
    """Admission with a clock; the server takes an entry when it is signed, unless told otherwise."""

    def __init__(
        self,
        clock: Clock,
        ring: Keyring | None = None,
        rules: Mapping[str, TopicRule] = RULES,
        frames_max: int = FRAMES_MAX,
        birth_ns: int = BIRTH_NS,
    ) -> None:
        self.clock = clock
        self.admission = Admission(ring or keyring(), rules, birth_ns, frames_max)

    def admit(
        self, event_id: str, topic: str, body: bytes, signature: bytes, taken_ns: int | None = None
    ) -> Admitted:
        now_ns = self.clock()
        return self.admission.admit(
            event_id, topic, body, signature, now_ns, now_ns if taken_ns is None else taken_ns
        )

    def verdict(
        self, event_id: str, topic: str, body: bytes, signature: bytes, taken_ns: int | None = None
    ) -> str:
        """ "new", "repeat", or the reason of a refusal."""
        try:
            admitted = self.admit(event_id, topic, body, signature, taken_ns)
        except SignatureRefused as refused:
            return refused.reason.value
        return "repeat" if admitted.repeat else "new"

    def refuses(
        self,
        reason: Refusal,
        event_id: str,
        topic: str,
        body: bytes,
        signature: bytes,
        taken_ns: int | None = None,
    ) -> str:
        """Assert that a frame is refused for this reason, counted once, and nothing of it remembered.

        Returns the text.
        """
        before, remembered = self.admission.counts, self.admission.remembered
        with pytest.raises(SignatureRefused) as refused:
            self.admit(event_id, topic, body, signature, taken_ns)
        after = self.admission.counts
        assert refused.value.reason is reason, refused.value
        assert after.refused == {**before.refused, reason: before.refused[reason] + 1}
        assert (after.admitted, after.repeats) == (before.admitted, before.repeats)
        assert self.admission.remembered == remembered
        return str(refused.value)
