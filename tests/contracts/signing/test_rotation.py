"""Keys change while messages flow, and in the order that the README gives none is lost."""

import random
from collections import deque
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from contracts.signing.keyring import SECRET, SECRETS, Keyring
from contracts.signing.refusal import Refusal, SignatureRefused
from tests.contracts.signing.rig import ACTS, INFORMS, NEW, OLD, Clock, Reader, signer, steps_of_the_readme

ONE = {SECRET: OLD.decode()}
STEPS = tuple({SECRETS: value} for value in steps_of_the_readme(OLD.decode(), NEW.decode()))
"""The environment after each of the three steps that the README tells."""
PROCESSES = 3
BUSY = 15
"""Messages between two changes of one process."""


class Frame(NamedTuple):
    event_id: str
    topic: str
    body: bytes
    signature: bytes
    taken_ns: int
    sender: int
    """Which process said it."""


def ring_of(environ: dict[str, str]) -> Keyring:
    ring = Keyring.from_environment(environ)
    assert ring is not None
    return ring


class Fleet:
    """Processes that all say things and all read what each of them said, late and in their own time."""

    def __init__(self, seed: int, topics: tuple[str, ...] = (ACTS, INFORMS)) -> None:
        self.dice = random.Random(seed)
        self.clock = Clock()
        self.topics = topics
        self.signers = [
            signer(self.clock, ring_of(ONE), f"process-{n}", self.dice.getrandbits(64))
            for n in range(PROCESSES)
        ]
        self.readers = [Reader(self.clock, ring_of(ONE)) for _ in range(PROCESSES)]
        self.waiting: list[deque[Frame]] = [deque() for _ in range(PROCESSES)]
        self.read: list[list[Frame]] = [[] for _ in range(PROCESSES)]
        self.refused: list[Refusal] = []
        self.heard = [0] * PROCESSES
        self.signed_anew = 0
        self.said = 0

    def say(self, sender: int | None = None) -> None:
        self.said += 1
        body = self.dice.randbytes(40)
        sender = self.dice.randrange(PROCESSES) if sender is None else sender
        signature = self.signers[sender].sign(body)
        frame = Frame(str(self.said), self.dice.choice(self.topics), body, signature, self.clock(), sender)
        for queue in self.waiting:
            queue.append(frame)

    def read_one(self, n: int) -> None:
        """A frame from before the reader's birth is signed anew by its sender, which has not ended since."""
        frame = self.waiting[n].popleft()
        try:
            admitted = self.readers[n].admit(*frame[:5])
        except SignatureRefused as refused:
            if refused.reason is not Refusal.BEFORE_BIRTH:
                self.refused.append(refused.reason)
                return
            signature = self.signers[frame.sender].sign(frame.body)
            self.waiting[n].appendleft(frame._replace(signature=signature, taken_ns=self.clock()))
            self.signed_anew += 1
        else:
            assert not admitted.repeat
            self.read[n].append(frame)
            self.heard[n] += 1

    def redeliver(self, n: int) -> None:
        if self.read[n]:
            assert self.readers[n].admit(*self.dice.choice(self.read[n])[:5]).repeat

    def flow(self, steps: int) -> None:
        """Messages come and go; what is waiting grows and shrinks."""
        for _ in range(steps):
            self.clock.move(0.01)
            self.say()
            for n in range(PROCESSES):
                for _ in range(self.dice.randrange(3)):
                    if self.waiting[n]:
                        self.read_one(n)
                self.redeliver(n)

    def drain(self) -> None:
        for n, queue in enumerate(self.waiting):
            while queue:
                self.read_one(n)

    def drain_signed_by(self, key_id: bytes) -> None:
        """Read on, while more is said, until nothing that this key signed is waiting."""
        while any(frame.signature.split()[1] == key_id for queue in self.waiting for frame in queue):
            self.say()
            for n, queue in enumerate(self.waiting):
                for _ in range(min(2, len(queue))):
                    self.read_one(n)

    def replace(self, n: int, environ: dict[str, str]) -> None:
        """Give one process other keys without ending it."""
        ring = ring_of(environ)
        self.signers[n].keyring = self.readers[n].admission.keyring = ring

    def restart(self, n: int, environ: dict[str, str]) -> None:
        """End one process, once all have heard what it said, and start it again with other keys."""
        for m, queue in enumerate(self.waiting):
            while any(frame.sender == n for frame in queue):
                self.read_one(m)
        for _ in range(BUSY):
            self.say(self.dice.choice([m for m in range(PROCESSES) if m != n]))
        ring = ring_of(environ)
        self.clock.move(0.01)
        self.signers[n] = signer(self.clock, ring, f"process-{n}", self.dice.getrandbits(64))
        self.readers[n] = Reader(self.clock, ring, birth_ns=self.clock())
        self.clock.move(0.01)
        self.read[n] = []

    def closes(self) -> bool:
        return not self.refused and not any(self.waiting)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.booleans())
def test_rotation_in_three_steps_loses_none(seed: int, restarts: bool) -> None:
    fleet = Fleet(seed)
    fleet.flow(BUSY)
    signed_by = []
    for number, environ in enumerate(STEPS):
        if number == 2:
            fleet.drain_signed_by(b"default")
        for _ in range(BUSY):
            fleet.say()
        assert all(fleet.waiting), "messages are in flight when the keys change"
        for n in fleet.dice.sample(range(PROCESSES), PROCESSES):
            (fleet.restart if restarts else fleet.replace)(n, environ)
            fleet.flow(BUSY)
        signed_by.append({maker.keyring.signing_id for maker in fleet.signers})
    fleet.drain()
    assert fleet.closes(), fleet.refused
    assert signed_by == [{"default"}, {"k2"}, {"k2"}]
    assert fleet.heard == [fleet.said] * PROCESSES
    assert restarts is (fleet.signed_anew > 0)


@pytest.mark.parametrize(
    ("environs", "reasons"),
    [
        (STEPS[1:], {Refusal.UNKNOWN_KEY}),
        ((STEPS[0], STEPS[2]), {Refusal.UNKNOWN_KEY}),
        (({SECRET: NEW.decode()},), {Refusal.BAD_MAC}),
    ],
    ids=["without the first step", "without the second step", "in one step"],
)
def test_rotation_with_a_step_left_out_refuses_messages(
    environs: tuple[dict[str, str], ...], reasons: set[Refusal]
) -> None:
    fleet = Fleet(7, (INFORMS,))
    fleet.flow(BUSY)
    for environ in environs:
        for n in range(PROCESSES):
            fleet.replace(n, environ)
            fleet.flow(BUSY)
    fleet.drain()
    assert set(fleet.refused) == reasons


def test_what_waits_when_the_old_key_goes_is_refused_and_read_once_it_is_back() -> None:
    clock = Clock()
    reader = Reader(clock, ring_of(STEPS[2]))
    signature = signer(clock, ring_of(ONE)).sign(b"body")
    told = reader.refuses(Refusal.UNKNOWN_KEY, "a", INFORMS, b"body", signature)
    assert "'default'" in told
    assert "'k2'" in told
    reader.admission.keyring = ring_of(STEPS[1])
    assert not reader.admit("a", INFORMS, b"body", signature).repeat
