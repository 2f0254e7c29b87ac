"""Admission does, step by step, what a model says that never forgets and looks at all there ever was."""

from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.signing.admission import Admission
from contracts.signing.signer import Signer
from tests.contracts.signing.rig import (
    ACTS,
    BIRTH_NS,
    INFORMS,
    NEW,
    RULES,
    SECOND_NS,
    Clock,
    Reader,
    keyring,
    signer,
)
from tests.examples import examples

FRESH_NS = 60 * SECOND_NS
TOPICS = st.sampled_from([ACTS, INFORMS])
IDS = st.sampled_from("abcdef")
BODIES = st.sampled_from([b"one", b"two"])
SECONDS = st.sampled_from([-100.0, -60.0, -1.0, 0.0, 1.0, 30.0, 60.0, 61.0, 200.0])


class Signed(NamedTuple):
    """A frame that somebody made."""

    body: bytes
    signature: bytes
    signed_ns: int
    forged: bool


class Taken(NamedTuple):
    """A frame that was admitted for the first time, and what it was admitted as."""

    key: tuple[str, str]
    frame: Signed


class Model:
    """All that was ever admitted on a topic, oldest first; of it the last `frames_max` are remembered."""

    def __init__(self, frames_max: int) -> None:
        self.frames_max = frames_max
        self.all: dict[str, list[Taken]] = {ACTS: [], INFORMS: []}

    def remembered(self, topic: str) -> list[Taken]:
        return self.all[topic][-self.frames_max :]

    def forgotten_ns(self, topic: str) -> int:
        return max((taken.frame.signed_ns for taken in self.all[topic][: -self.frames_max]), default=0)

    def judge(self, event_id: str, topic: str, frame: Signed, now_ns: int, taken_ns: int) -> str:
        """A reason, "repeat" or "new"."""
        known = [taken.frame for taken in self.remembered(topic) if taken.key == (topic, event_id)]
        if frame in known:
            return "repeat"
        if frame.forged:
            return "bad_mac"
        if known:
            return "repeat" if known[0].body == frame.body else "id_reused"
        age_ns = (now_ns if topic == ACTS else taken_ns) - frame.signed_ns
        if abs(age_ns) > FRESH_NS:
            return "stale" if age_ns > 0 else "future"
        if topic == ACTS and frame.signed_ns <= BIRTH_NS:
            return "before_birth"
        if topic == ACTS and frame.signed_ns <= self.forgotten_ns(ACTS):
            return "stale"
        if any(taken.frame == frame for name in self.all for taken in self.remembered(name)):
            return "replayed"
        return "nonces_full" if topic == ACTS and self.is_full(now_ns) else "new"

    def is_full(self, now_ns: int) -> bool:
        """Whether the oldest of what acts, and is remembered, is still fresh and in the way."""
        remembered = self.remembered(ACTS)
        return len(remembered) == self.frames_max and remembered[0].frame.signed_ns + FRESH_NS >= now_ns


class AdmissionMachine(RuleBasedStateMachine):
    @initialize(frames_max=st.integers(1, 4), age_s=st.sampled_from([0, 30, 600]))
    def begin(self, frames_max: int, age_s: int) -> None:
        self.clock = Clock()
        self.clock.ns = BIRTH_NS + age_s * SECOND_NS
        self.signer = signer(self.clock)
        self.forger = signer(self.clock, keyring(("old", NEW)), seed=1)
        self.reader = Reader(self.clock, frames_max=frames_max)
        self.model = Model(frames_max)
        self.made: list[Signed] = []

    def make(self, body: bytes, ahead_s: float, by: Signer, forged: bool) -> Signed:
        self.clock.move(ahead_s)
        frame = Signed(body, by.sign(body), self.clock(), forged)
        self.clock.move(-ahead_s)
        self.made.append(frame)
        return frame

    @rule(body=BODIES, ahead_s=SECONDS, event_id=IDS, topic=TOPICS)
    def sign_and_show(self, body: bytes, ahead_s: float, event_id: str, topic: str) -> None:
        self.show(event_id, topic, self.make(body, ahead_s, self.signer, forged=False), 0.0)

    @rule(body=BODIES, event_id=IDS, topic=TOPICS)
    def forge_and_show(self, body: bytes, event_id: str, topic: str) -> None:
        self.show(event_id, topic, self.make(body, 0.0, self.forger, forged=True), 0.0)

    @precondition(lambda self: self.made)
    @rule(index=st.integers(0, 10**6), event_id=IDS, topic=TOPICS, taken_s=SECONDS)
    def show_again(self, index: int, event_id: str, topic: str, taken_s: float) -> None:
        self.show(event_id, topic, self.made[index % len(self.made)], taken_s)

    @precondition(lambda self: any(self.model.all.values()))
    @rule(index=st.integers(0, 10**6))
    def redeliver(self, index: int) -> None:
        every = [taken for name in (ACTS, INFORMS) for taken in self.model.all[name]]
        (topic, event_id), frame = every[index % len(every)]
        self.show(event_id, topic, frame, 0.0)

    @rule(seconds=SECONDS)
    def let_time_pass_or_set_the_clock_back(self, seconds: float) -> None:
        self.clock.move(seconds)

    def show(self, event_id: str, topic: str, frame: Signed, taken_s: float) -> None:
        taken_ns = self.clock() + round(taken_s * SECOND_NS)
        want = self.model.judge(event_id, topic, frame, self.clock(), taken_ns)
        got = self.reader.verdict(event_id, topic, frame.body, frame.signature, taken_ns)
        assert got == want
        if got == "new":
            self.model.all[topic].append(Taken((topic, event_id), frame))

    @invariant()
    def nothing_that_acts_is_new_twice(self) -> None:
        signatures = [taken.frame.signature for taken in self.model.all[ACTS]]
        assert len(signatures) == len(set(signatures))

    @invariant()
    def memory_and_counts_are_those_of_the_model(self) -> None:
        remembered = sum(len(self.model.remembered(name)) for name in self.model.all)
        assert self.reader.admission.remembered == remembered
        assert self.reader.admission.counts.admitted == sum(map(len, self.model.all.values()))


AdmissionMachine.TestCase.settings = settings(max_examples=examples(20, 600), stateful_step_count=40)
TestAdmission = AdmissionMachine.TestCase


@pytest.mark.slow
def test_admission_agrees_with_the_model_for_long() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(AdmissionMachine, settings=settings(max_examples=3000, stateful_step_count=80))


STEPS = st.tuples(st.sampled_from(["sign", "show", "restart"]), st.integers(0, 40), st.integers(0, 99))


@given(st.lists(STEPS))
def test_over_any_restarts_a_command_is_new_once_if_clocks_agree(
    steps: list[tuple[str, int, int]],
) -> None:
    clock = Clock()
    made, reader = signer(clock), Reader(clock)
    frames: list[tuple[bytes, bytes]] = []
    fresh: list[bytes] = []
    for number, (step, seconds, index) in enumerate(steps):
        clock.move(seconds)
        if step == "sign":
            body = str(number).encode()
            frames.append((body, made.sign(body)))
        elif step == "restart":
            reader.admission = Admission(keyring(), RULES, clock())
        elif frames:
            body, signature = frames[index % len(frames)]
            verdict = reader.verdict(body.decode(), ACTS, body, signature)
            assert verdict in ("new", "repeat", "stale", "before_birth")
            fresh += [signature] if verdict == "new" else []
    assert len(fresh) == len(set(fresh))
