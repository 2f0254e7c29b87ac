"""A frame is believed once, for what it is, from whom it is, while it is fresh; memory stays bounded."""

import hmac
import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from contracts import topics
from contracts.signing.admission import EVENT_ID_CHARS_MAX, UNCHECKED, Admission, Admitted
from contracts.signing.keyring import Keyring
from contracts.signing.refusal import Refusal, SignatureRefused
from contracts.signing.rules import Rule, TopicRule, topic_rules
from contracts.signing.signer import Signer
from contracts.wire import FRAME_BYTES_MAX
from tests.contracts.signing.rig import (
    ACTS,
    BIRTH_NS,
    INFORMS,
    NEW,
    OLD,
    RULES,
    SECOND_NS,
    Clock,
    Reader,
    keyring,
    signer,
)

BODIES = st.binary(max_size=600)
TOPICS = st.sampled_from([ACTS, INFORMS])
NEW_FRAME, REPEAT = Admitted("tamiyo", repeat=False), Admitted("tamiyo", repeat=True)
BODY = b"the bytes of an envelope"


class Rig:
    """A sender and a reader with one clock."""

    def __init__(self, frames_max: int = 8, ring: Keyring | None = None) -> None:
        self.clock = Clock()
        self.signer = signer(self.clock, ring)
        self.reader = Reader(self.clock, ring, frames_max=frames_max)


# What is believed


@given(BODIES, TOPICS, st.integers(0, 10**6), st.data())
def test_any_bit_flipped_in_header_or_body_is_refused(
    body: bytes, topic: str, seed: int, data: st.DataObject
) -> None:
    rig = Rig()
    signature = signer(rig.clock, seed=seed).sign(body)
    frame = bytearray(signature + body)
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    changed_signature, changed_body = bytes(frame[: len(signature)]), bytes(frame[len(signature) :])
    reasons = {Refusal.MALFORMED, Refusal.UNKNOWN_KEY, Refusal.BAD_MAC}
    for known in (False, True):
        if known:
            assert rig.reader.admit("a", topic, body, signature) == NEW_FRAME
        with pytest.raises(SignatureRefused) as refused:
            rig.reader.admit("a", topic, changed_body, changed_signature)
        assert refused.value.reason in reasons
        assert rig.reader.admission.remembered == int(known)


@given(BODIES, st.integers(-64, 64))
def test_bytes_cannot_move_between_signature_and_body(body: bytes, shift: int) -> None:
    rig = Rig()
    signature = rig.signer.sign(body)
    rig.reader.admit("a", ACTS, body, signature)
    whole, cut = signature + body, len(signature) + shift
    if whole[cut:] != body:
        with pytest.raises(SignatureRefused):
            rig.reader.admit("a", ACTS, whole[cut:], whole[:cut])
    whole, cut = body + signature, len(body) + shift
    if cut >= 0 and whole[:cut] != body:
        with pytest.raises(SignatureRefused):
            rig.reader.admit("a", ACTS, whole[:cut], whole[cut:])


@given(BODIES, TOPICS, st.sampled_from(["a", "b", "c"]))
def test_a_frame_signed_by_any_valid_key_is_admitted_once_and_refused_under_another_id_or_topic(
    body: bytes, topic: str, key_id: str
) -> None:
    secrets = {"a": OLD, "b": NEW, "c": b"a-third-one-to-be-sure"}
    rig = Rig(ring=keyring(*secrets.items()))
    signature = signer(rig.clock, keyring((key_id, secrets[key_id]))).sign(body)
    assert rig.reader.admit("a", topic, body, signature) == NEW_FRAME
    for event_id, elsewhere in (("b", topic), ("a", ACTS if topic == INFORMS else INFORMS)):
        rig.reader.refuses(Refusal.REPLAYED, event_id, elsewhere, body, signature)
    assert rig.reader.admit("a", topic, body, signature) == REPEAT


def test_a_key_that_is_not_held_is_named_and_so_are_those_that_are() -> None:
    rig = Rig(ring=keyring(("a", OLD), ("b", NEW)))
    signature = signer(rig.clock, keyring(("c", OLD))).sign(BODY)
    told = rig.reader.refuses(Refusal.UNKNOWN_KEY, "a", ACTS, BODY, signature)
    assert "'c'" in told
    assert "'a', 'b'" in told


def test_another_secret_under_the_same_id_is_a_bad_mac() -> None:
    rig = Rig(ring=keyring(("a", OLD)))
    signature = signer(rig.clock, keyring(("a", NEW))).sign(BODY)
    rig.reader.refuses(Refusal.BAD_MAC, "a", ACTS, BODY, signature)


def test_the_size_is_looked_at_before_anything_else() -> None:
    rig = Rig()
    large, largest = bytes(FRAME_BYTES_MAX + 1), bytes(FRAME_BYTES_MAX)
    rig.reader.refuses(Refusal.MALFORMED, "a", ACTS, large, rig.signer.sign(large))
    rig.reader.refuses(Refusal.MALFORMED, "a", ACTS, large, b"")
    assert rig.reader.admit("a", ACTS, largest, rig.signer.sign(largest)) == NEW_FRAME
    long, longest = "b" * (EVENT_ID_CHARS_MAX + 1), "b" * EVENT_ID_CHARS_MAX
    rig.reader.refuses(Refusal.MALFORMED, long, ACTS, BODY, rig.signer.sign(BODY))
    assert rig.reader.admit(longest, ACTS, BODY, rig.signer.sign(BODY)) == NEW_FRAME


def test_the_comparison_in_constant_time_alone_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    right = rig.signer.sign(BODY)
    wrong = right[:-64] + b"0" * 64
    compared: list[tuple[bytes, bytes]] = []

    def verdict(answer: bool) -> None:
        def compare(a: bytes, b: bytes) -> bool:
            compared.append((a, b))
            return answer

        monkeypatch.setattr(hmac, "compare_digest", compare)

    verdict(False)
    rig.reader.refuses(Refusal.BAD_MAC, "a", ACTS, BODY, right)
    verdict(True)
    assert rig.reader.admit("a", ACTS, BODY, wrong) == NEW_FRAME
    assert compared == [(right[-64:], right[-64:]), (right[-64:], wrong[-64:])]


def test_without_a_keyring_nothing_is_checked_and_a_signed_frame_is_read_as_it_is() -> None:
    clock = Clock()
    admission = Admission(None, {}, BIRTH_NS)
    for signature in (b"", b"\x00", signer(clock).sign(BODY)):
        assert admission.admit("a", "any topic", BODY, signature, clock(), 0) is UNCHECKED
    assert (admission.remembered, admission.counts.admitted) == (0, 0)
    admission.keyring = keyring()
    with pytest.raises(SignatureRefused):
        admission.admit("a", "any topic", BODY, b"", clock(), 0)
    assert admission.counts.refused_total == 1


# Freshness

OFFSETS_NS = st.sampled_from([-(10**15), -60 * SECOND_NS, 0, 60 * SECOND_NS, 10**15]).flatmap(
    lambda middle: st.integers(middle - 2, middle + 2)
)


def reason_of_age(age_ns: int) -> Refusal | None:
    if age_ns > 60 * SECOND_NS:
        return Refusal.STALE
    return Refusal.FUTURE if age_ns < -60 * SECOND_NS else None


@given(OFFSETS_NS)
def test_what_acts_is_fresh_up_to_60_s_either_way_by_the_readers_clock(age_ns: int) -> None:
    rig = Rig()
    rig.clock.ns = BIRTH_NS + 2 * 10**15
    signature = rig.signer.sign(BODY)
    rig.clock.ns += age_ns
    for taken_ns in (rig.clock() - age_ns, rig.clock()):
        reader = Reader(rig.clock)
        reason = reason_of_age(age_ns)
        if reason is None:
            assert reader.admit("a", ACTS, BODY, signature, taken_ns) == NEW_FRAME
        else:
            reader.refuses(reason, "a", ACTS, BODY, signature, taken_ns)


@given(OFFSETS_NS, st.integers(-(10**15), 10**15))
def test_what_informs_is_fresh_up_to_60_s_either_way_by_the_servers_clock(age_ns: int, away_ns: int) -> None:
    rig = Rig()
    signature = rig.signer.sign(BODY)
    taken_ns = rig.clock() + age_ns
    rig.clock.ns += away_ns
    reason = reason_of_age(age_ns)
    if reason is None:
        assert rig.reader.admit("a", INFORMS, BODY, signature, taken_ns) == NEW_FRAME
    else:
        rig.reader.refuses(reason, "a", INFORMS, BODY, signature, taken_ns)


def test_after_a_restart_commands_from_before_are_refused_and_signed_anew() -> None:
    rig = Rig()
    rig.clock.ns = BIRTH_NS
    before = rig.signer.sign(BODY)
    rig.clock.move(1)
    told = rig.reader.refuses(Refusal.BEFORE_BIRTH, "a", ACTS, BODY, before)
    assert "anew" in told
    assert rig.reader.admit("a", ACTS, BODY, rig.signer.sign(BODY)) == NEW_FRAME
    assert rig.reader.admit("a", ACTS, BODY, before) == REPEAT, "now these bytes are known under this id"


def test_after_a_restart_reports_from_before_are_read() -> None:
    rig = Rig()
    rig.clock.ns = BIRTH_NS - 10 * 3600 * SECOND_NS
    before, taken_ns = rig.signer.sign(BODY), rig.clock()
    rig.clock.ns = BIRTH_NS
    assert rig.reader.admit("a", INFORMS, BODY, before, taken_ns) == NEW_FRAME


def test_a_clock_set_forward_and_back_does_not_open_the_window_again() -> None:
    rig = Rig(frames_max=1)
    old = rig.signer.sign(BODY)
    assert rig.reader.admit("a", ACTS, BODY, old) == NEW_FRAME
    rig.clock.move(3600)
    assert rig.reader.admit("b", ACTS, BODY, rig.signer.sign(BODY)) == NEW_FRAME, "in the place of a"
    rig.clock.move(-3600)
    rig.reader.refuses(Refusal.STALE, "c", ACTS, BODY, old)
    rig.reader.refuses(Refusal.STALE, "a", ACTS, BODY, old)


def test_in_whatever_order_frames_are_forgotten_the_latest_signed_of_them_stays_refused() -> None:
    rig = Rig(frames_max=2)
    earlier = rig.signer.sign(BODY)
    rig.clock.move(30)
    later = rig.signer.sign(BODY)
    for event_id, signature in (("later", later), ("earlier", earlier)):
        assert rig.reader.admit(event_id, ACTS, BODY, signature) == NEW_FRAME
    rig.clock.move(3600)
    for event_id in "ab":
        assert rig.reader.admit(event_id, ACTS, BODY, rig.signer.sign(BODY)) == NEW_FRAME
    rig.clock.move(-3600)
    rig.reader.refuses(Refusal.STALE, "later", ACTS, BODY, later)


# Who may say what


def test_only_those_in_the_table_may_speak() -> None:
    clock = Clock()
    rules = {ACTS: TopicRule(Rule.ACTS, frozenset({"tamiyo", "operator"})), INFORMS: TopicRule(Rule.INFORMS)}
    reader = Reader(clock, rules=rules)
    stranger = signer(clock, sender="nissa", seed=1)
    told = reader.refuses(Refusal.FORBIDDEN_SENDER, "a", ACTS, BODY, stranger.sign(BODY))
    assert "'nissa'" in told
    assert "'operator', 'tamiyo'" in told
    assert reader.admit("a", INFORMS, BODY, stranger.sign(BODY)) == Admitted("nissa", repeat=False)
    assert reader.admit("a", ACTS, BODY, signer(clock).sign(BODY)) == NEW_FRAME
    reader.refuses(Refusal.FORBIDDEN_SENDER, "a", ACTS, BODY, stranger.sign(BODY))


def test_on_a_topic_without_a_rule_nobody_may_speak() -> None:
    rig = Rig()
    told = rig.reader.refuses(Refusal.FORBIDDEN_SENDER, "a", "elsewhere", BODY, rig.signer.sign(BODY))
    assert "nobody" in told


def test_every_topic_has_a_rule_and_what_acts_is_not_among_those_that_inform() -> None:
    rules = topic_rules()
    assert set(rules) == set(topics.ALL)
    acting = {name for name, rule in rules.items() if rule.rule is Rule.ACTS}
    assert {topics.ADAPTATION_COMMAND, topics.EMERGENCY} <= acting
    assert not acting & {topics.SYSTEM_STATE, topics.FIELD_REPORT, topics.TELEMETRY}
    assert topic_rules(["unheard of"])["unheard of"].rule is Rule.ACTS


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"size", "mac", "age", "sender", "nonce"}, Refusal.MALFORMED),
        ({"key", "age", "sender", "nonce"}, Refusal.UNKNOWN_KEY),
        ({"mac", "age", "sender", "nonce"}, Refusal.BAD_MAC),
        ({"age", "sender", "nonce"}, Refusal.STALE),
        ({"sender", "nonce"}, Refusal.FORBIDDEN_SENDER),
        ({"nonce"}, Refusal.REPLAYED),
    ],
)
def test_the_checks_come_in_their_order(wrong: set[str], reason: Refusal) -> None:
    clock = Clock()
    rules = {name: TopicRule(Rule.ACTS, frozenset({"tamiyo"})) for name in ("here", "there")}
    if "sender" in wrong:
        rules["here"] = TopicRule(Rule.ACTS, frozenset())
    reader = Reader(clock, keyring(("old", OLD), ("new", NEW)), rules)
    body = bytes(FRAME_BYTES_MAX + 1) if "size" in wrong else BODY
    signature = signer(clock).sign(body)
    if "size" not in wrong:
        assert reader.admit("first", "there", body, signature) == NEW_FRAME
    if "key" in wrong:
        reader.admission.keyring = keyring(("new", NEW))
    if "mac" in wrong:
        signature = signature[:-64] + b"0" * 64
    clock.move(61 if "age" in wrong else 1)
    reader.refuses(reason, "second", "here", body, signature)


# Repeats


@given(BODIES, TOPICS, st.integers(0, 10**6))
def test_a_repeat_is_a_repeat_whatever_the_time_and_the_keys(body: bytes, topic: str, later_s: int) -> None:
    rig = Rig()
    signature = rig.signer.sign(body)
    assert rig.reader.admit("a", topic, body, signature) == NEW_FRAME
    rig.clock.move(later_s)
    rig.reader.admission.keyring = keyring(("new", NEW))
    assert rig.reader.admit("a", topic, body, signature) == REPEAT
    counts = rig.reader.admission.counts
    assert (counts.admitted, counts.repeats, counts.refused_total) == (1, 1, 0)


def test_the_same_envelope_signed_anew_is_a_repeat_and_takes_no_memory() -> None:
    rig = Rig()
    assert rig.reader.admit("a", ACTS, BODY, rig.signer.sign(BODY)) == NEW_FRAME
    for _ in range(100):
        rig.clock.move(30)
        assert rig.reader.admit("a", ACTS, BODY, rig.signer.sign(BODY)) == REPEAT
    assert rig.reader.admission.remembered == 1
    rig.reader.refuses(Refusal.UNSIGNED, "a", ACTS, BODY, b"")
    rig.reader.refuses(Refusal.BAD_MAC, "a", ACTS, BODY, rig.signer.sign(b"other"))


def test_a_known_id_with_other_bytes_is_an_attack_if_a_key_made_it_and_else_a_bad_mac() -> None:
    rig = Rig()
    signature = rig.signer.sign(BODY)
    rig.reader.admit("a", ACTS, BODY, signature)
    told = rig.reader.refuses(Refusal.ID_REUSED, "a", ACTS, b"other", rig.signer.sign(b"other"))
    assert "another envelope" in told
    rig.reader.refuses(Refusal.BAD_MAC, "a", ACTS, b"other", signature)
    assert rig.reader.admit("a", ACTS, BODY, signature) == REPEAT, "what came first stands"


def test_the_same_id_on_two_topics_is_two_messages() -> None:
    rig = Rig()
    assert rig.reader.admit("a", ACTS, BODY, rig.signer.sign(BODY)) == NEW_FRAME
    assert rig.reader.admit("a", INFORMS, b"other", rig.signer.sign(b"other")) == NEW_FRAME


def test_a_nonce_belongs_to_its_sender() -> None:
    clock = Clock()
    reader = Reader(clock)
    for sender in ("tamiyo", "tolaria"):
        made = Signer(keyring(), sender, bytes, clock)
        assert reader.admit(sender, ACTS, BODY, made.sign(BODY)) == Admitted(sender, repeat=False)
    again = Signer(keyring(), "tamiyo", bytes, clock)
    reader.refuses(Refusal.REPLAYED, "third", ACTS, BODY, again.sign(BODY))


# Memory


@settings(max_examples=20)
@given(TOPICS, st.integers(1, 5), st.integers(0, 2**32))
def test_no_flood_without_a_key_and_no_flood_of_repeats_grows_memory(
    topic: str, kept: int, seed: int
) -> None:
    rig = Rig(frames_max=8)
    dice = random.Random(seed)
    frames = [(str(n), bytes([n]), rig.signer.sign(bytes([n]))) for n in range(kept)]
    for frame in frames:
        assert rig.reader.admit(frame[0], topic, *frame[1:]) == NEW_FRAME
    foreign = signer(rig.clock, keyring(("old", NEW)), seed=1)
    for n in range(200):
        event_id, body, signature = dice.choice(frames)
        with pytest.raises(SignatureRefused):
            rig.reader.admit(f"new {n}", topic, body, foreign.sign(body))
        with pytest.raises(SignatureRefused):
            rig.reader.admit(f"new {n}", topic, body, dice.randbytes(dice.randrange(230)))
        with pytest.raises(SignatureRefused):
            rig.reader.admit(f"new {n}", topic, body, signature)
        assert rig.reader.admit(event_id, topic, body, signature) == REPEAT
        assert rig.reader.admission.remembered == kept
    assert rig.reader.admission.counts.refused_total == 600


def test_what_acts_is_refused_rather_than_something_fresh_forgotten() -> None:
    rig = Rig(frames_max=4)
    frames = [(str(n), bytes([n]), rig.signer.sign(bytes([n]))) for n in range(5)]
    for event_id, body, signature in frames[:4]:
        assert rig.reader.admit(event_id, ACTS, body, signature) == NEW_FRAME
    rig.clock.move(60)
    rig.reader.refuses(Refusal.NONCES_FULL, "4", ACTS, frames[4][1], frames[4][2])
    rig.reader.refuses(Refusal.REPLAYED, "other", ACTS, frames[0][1], frames[0][2])
    rig.clock.ns += 1
    fresh = rig.signer.sign(frames[4][1])
    assert rig.reader.admit("4", ACTS, frames[4][1], fresh) == NEW_FRAME
    assert rig.reader.admission.remembered == 4
    rig.reader.refuses(Refusal.STALE, "0", ACTS, frames[0][1], frames[0][2])
    assert rig.reader.admit("1", ACTS, frames[1][1], frames[1][2]) == REPEAT


def test_what_informs_is_never_refused_for_want_of_memory() -> None:
    rig = Rig(frames_max=4)
    frames = [(str(n), bytes([n]), rig.signer.sign(bytes([n]))) for n in range(200)]
    for event_id, body, signature in frames:
        assert rig.reader.admit(event_id, INFORMS, body, signature) == NEW_FRAME
    assert rig.reader.admission.remembered == 4
    event_id, body, signature = frames[-4]
    assert rig.reader.admit(event_id, INFORMS, body, signature) == REPEAT
    rig.reader.refuses(Refusal.REPLAYED, "other", INFORMS, body, signature)


def test_a_flood_of_telemetry_turns_no_command_away() -> None:
    rig = Rig(frames_max=4)
    for n in range(20):
        assert rig.reader.admit(str(n), INFORMS, BODY, rig.signer.sign(BODY)) == NEW_FRAME
    assert rig.reader.admit("a", ACTS, BODY, rig.signer.sign(BODY)) == NEW_FRAME


def test_one_who_repeats_cannot_push_out_what_is_younger() -> None:
    rig = Rig(frames_max=4)
    frames = [(str(n), bytes([n]), rig.signer.sign(bytes([n]))) for n in range(5)]
    for event_id, body, signature in frames[:4]:
        rig.reader.admit(event_id, INFORMS, body, signature)
    assert rig.reader.admit("0", INFORMS, frames[0][1], frames[0][2]) == REPEAT
    rig.reader.admit("4", INFORMS, frames[4][1], frames[4][2])
    assert rig.reader.admit("1", INFORMS, frames[1][1], frames[1][2]) == REPEAT
    assert rig.reader.admit("0", INFORMS, frames[0][1], frames[0][2]) == NEW_FRAME, "0 was the oldest"


def test_admission_without_any_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Admission(None, RULES, BIRTH_NS, 0)


# What is done


def test_a_group_is_done_with_a_message_for_as_long_as_it_is_remembered() -> None:
    rig = Rig(frames_max=2)
    admission = rig.reader.admission
    frames = [(str(n), bytes([n]), rig.signer.sign(bytes([n]))) for n in range(3)]
    for topic in (ACTS, INFORMS):
        admission.done("g", (topic, "0"))
        assert not admission.is_done("g", (topic, "0")), "it never came"
        for event_id, body, signature in frames[:2]:
            body, signature = (
                (body, signature) if topic == ACTS else (body + b"i", rig.signer.sign(body + b"i"))
            )
            assert rig.reader.admit(event_id, topic, body, signature) == NEW_FRAME
        admission.done("g", (topic, "0"))
        assert admission.is_done("g", (topic, "0"))
        assert not admission.is_done("h", (topic, "0"))
        assert not admission.is_done("g", (topic, "1"))
    assert rig.reader.admit("0", ACTS, frames[0][1], rig.signer.sign(frames[0][1])) == REPEAT
    assert admission.is_done("g", (ACTS, "0")), "however it was signed since"
    rig.clock.move(61)
    fresh = rig.signer.sign(frames[2][1])
    assert rig.reader.admit("2", ACTS, frames[2][1], fresh) == NEW_FRAME, "in the place of 0"
    assert not admission.is_done("g", (ACTS, "0"))
    rig.reader.refuses(Refusal.STALE, "0", ACTS, frames[0][1], frames[0][2])
    assert admission.is_done("g", (INFORMS, "0"))
    admission.done("g", ("no topic", "0"))
    assert not admission.is_done("g", ("no topic", "0"))
