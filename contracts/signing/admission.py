"""Admission: the one place where a frame from outside is believed or not.

The package's docstring says why each check is there and why in this order.
"""

from collections.abc import Mapping
from typing import NamedTuple

from contracts.signing.header import parse
from contracts.signing.keyring import Keyring
from contracts.signing.memory import Digests, Key, Known, Memory, digests_of
from contracts.signing.refusal import AdmissionCounts, Refusal, SignatureRefused
from contracts.signing.rules import Rule, TopicRule
from contracts.wire import FRAME_BYTES_MAX

FRESH_NS = 60 * 10**9
"""How far the signing may lie from the time it is compared with, either way, in nanoseconds."""
FRAMES_MAX = 65_536
"""Frames remembered by each of the two rules; one takes about 0.6 kB, and 0.1 kB for each group that is done
with it."""
EVENT_ID_CHARS_MAX = 256


class Admitted(NamedTuple):
    """A frame that may be decoded."""

    sender: str | None
    """Who signed it; None where nothing is checked."""
    repeat: bool
    """The same was admitted under this event id before."""


class Judged(NamedTuple):
    """A frame that was found good, and is not remembered yet."""

    admitted: Admitted
    rule: Rule | None
    """None where nothing is checked."""
    key: Key
    frame: Known | None
    """What is to be remembered; None of a repeat."""


UNCHECKED = Admitted(None, repeat=False)
NOBODY = TopicRule(Rule.ACTS, frozenset())
"""What holds on a topic without a rule."""


class Admission:
    """Believes frames or refuses them, and counts both; one for all that a process reads.

    `rules` says by topic what holds there; on a topic without a rule nobody may speak. `birth_ns` is the wall
    clock when this process began to read. `keyring` may be replaced at any time; while it is None nothing is
    checked, remembered or counted.
    """

    __slots__ = ("_admitted", "_birth_ns", "_memories", "_refused", "_repeats", "_rules", "keyring")

    def __init__(
        self,
        keyring: Keyring | None,
        rules: Mapping[str, TopicRule],
        birth_ns: int,
        frames_max: int = FRAMES_MAX,
    ) -> None:
        """`ValueError` if `frames_max` is less than 1."""
        if frames_max < 1:
            raise ValueError(f"frames_max is {frames_max}; admission must remember at least 1 frame")
        self.keyring = keyring
        self._rules = dict(rules)
        self._birth_ns = birth_ns
        self._memories = {rule: Memory(frames_max) for rule in Rule}
        self._admitted = 0
        self._repeats = 0
        self._refused = dict.fromkeys(Refusal, 0)

    def done(self, group: str, key: Key) -> None:
        """A group of consumers is done with what was admitted under this topic and event id."""
        rule = None if self.keyring is None else self._rules.get(key[0])
        if rule is not None:
            self._memories[rule.rule].done(group, key)

    def is_done(self, group: str, key: Key) -> bool:
        """Whether that group said so, for as long as the frame is remembered: what is forgotten is judged as
        if it never came."""
        rule = self._rules.get(key[0])
        return rule is not None and self._memories[rule.rule].is_done(group, key)

    @property
    def counts(self) -> AdmissionCounts:
        """As of now."""
        return AdmissionCounts(self._admitted, self._repeats, dict(self._refused))

    @property
    def remembered(self) -> int:
        """Frames in memory, at most twice `frames_max`."""
        return sum(map(len, self._memories.values()))

    def admit(
        self, event_id: str, topic: str, body: bytes, signature: bytes, now_ns: int, taken_ns: int
    ) -> Admitted:
        """`judge` and `remember` at once, for a frame whose bytes say all that there is to know."""
        return self.remember(self.judge(event_id, topic, body, signature, now_ns, taken_ns))

    def judge(
        self, event_id: str, topic: str, body: bytes, signature: bytes, now_ns: int, taken_ns: int
    ) -> Judged:
        """Judge a frame before it is decoded. It is admitted once it is remembered, which must be the next
        thing that happens here; what turns out not to be what it came as is not remembered at all.

        `now_ns` is this process's wall clock, `taken_ns` the time at which the server first took the entry,
        both in nanoseconds. An empty signature is none.

        Raises:
            SignatureRefused: with the reason; it was counted, and nothing was remembered.
        """
        if self.keyring is None:
            return Judged(UNCHECKED, None, (topic, event_id), None)
        try:
            return self._judge(self.keyring, (topic, event_id), body, signature, now_ns, taken_ns)
        except SignatureRefused as refused:
            self._refused[refused.reason] += 1
            raise

    def remember(self, judged: Judged) -> Admitted:
        """Admit what was judged last."""
        if judged.rule is None:
            return judged.admitted
        if judged.frame is None:
            self._repeats += 1
        else:
            self._memories[judged.rule].remember(judged.key, judged.frame)
            self._admitted += 1
        return judged.admitted

    def _judge(
        self, keyring: Keyring, key: Key, body: bytes, signature: bytes, now_ns: int, taken_ns: int
    ) -> Judged:
        _check_size(key, body)
        rule = self._rules.get(key[0], NOBODY)
        memory = self._memories[rule.rule]
        known = memory.known(key)
        digests = digests_of(body, signature)
        if known == digests:
            return Judged(Admitted(parse(signature).sender, repeat=True), rule.rule, key, None)
        header = keyring.verify(body, signature)
        if known is None:
            self._check_fresh(rule.rule, header.signed_ns, now_ns, taken_ns)
        _check_sender(rule, key[0], header.sender)
        if known is not None:
            _check_same(known, digests)
            return Judged(Admitted(header.sender, repeat=True), rule.rule, key, None)
        self._check_nonce(header.nonce)
        _check_room(memory, now_ns)
        held_until_ns = header.signed_ns + FRESH_NS if rule.rule is Rule.ACTS else 0
        frame = Known(digests, header.nonce, header.signed_ns, held_until_ns)
        return Judged(Admitted(header.sender, repeat=False), rule.rule, key, frame)

    def _check_fresh(self, rule: Rule, signed_ns: int, now_ns: int, taken_ns: int) -> None:
        if rule is Rule.INFORMS:
            _check_age(taken_ns - signed_ns, "the server took it")
            return
        _check_age(now_ns - signed_ns, "it was read here")
        if signed_ns <= self._birth_ns:
            raise SignatureRefused(
                Refusal.BEFORE_BIRTH,
                f"signed {_seconds(self._birth_ns - signed_ns)} before this process began to read, "
                "which can't know whether it was acted on; the sender may sign it anew",
            )
        if signed_ns <= self._memories[rule].forgotten_ns:
            raise SignatureRefused(
                Refusal.STALE,
                "signed no later than something that was forgotten here: a clock was set back; "
                "the sender may sign it anew",
            )

    def _check_nonce(self, nonce: bytes) -> None:
        if any(memory.has_nonce(nonce) for memory in self._memories.values()):
            raise SignatureRefused(
                Refusal.REPLAYED, "this signature was admitted under another event id or topic"
            )


def _check_size(key: Key, body: bytes) -> None:
    if len(body) > FRAME_BYTES_MAX:
        raise SignatureRefused(
            Refusal.MALFORMED, f"the envelope has {len(body)} bytes; it may have {FRAME_BYTES_MAX}"
        )
    if len(key[1]) > EVENT_ID_CHARS_MAX:
        raise SignatureRefused(
            Refusal.MALFORMED,
            f"the event id has {len(key[1])} characters; it may have {EVENT_ID_CHARS_MAX}",
        )


def _check_age(age_ns: int, until: str) -> None:
    """Refuse what was signed too long before or after an event, both edges allowed."""
    if age_ns > FRESH_NS:
        raise SignatureRefused(
            Refusal.STALE,
            f"signed {_seconds(age_ns)} before {until}; {_seconds(FRESH_NS)} are allowed, "
            "the sender may sign it anew",
        )
    if age_ns < -FRESH_NS:
        raise SignatureRefused(
            Refusal.FUTURE,
            f"signed {_seconds(-age_ns)} after {until}; {_seconds(FRESH_NS)} are allowed, "
            "compare the machines' clocks",
        )


def _check_sender(rule: TopicRule, topic: str, sender: str) -> None:
    if rule.senders is None or sender in rule.senders:
        return
    allowed = ", ".join(map(repr, sorted(rule.senders))) or "nobody"
    raise SignatureRefused(
        Refusal.FORBIDDEN_SENDER, f"{sender!r} may not speak on {topic!r}; there may speak {allowed}"
    )


def _check_same(known: Digests, digests: Digests) -> None:
    if known.body != digests.body:
        raise SignatureRefused(
            Refusal.ID_REUSED,
            "another envelope was admitted under this event id; a message that is sent again keeps its bytes",
        )


def _check_room(memory: Memory, now_ns: int) -> None:
    if not memory.has_room(now_ns):
        raise SignatureRefused(
            Refusal.NONCES_FULL,
            f"{len(memory)} frames are remembered, and the oldest is still fresh; "
            "the sender may sign it anew later",
        )


def _seconds(ns: int) -> str:
    """With as many digits as tell an age just over the limit from the limit."""
    return f"{ns / 10**9:,.10g} s"
