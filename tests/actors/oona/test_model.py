"""The bus's core does, step by step, what a simple model says; its ledger closes by message id."""

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.oona.bus import Receipt
from actors.oona.entry import Entry, Publication
from actors.oona.errors import BusError, ConservativeModeError, RefusedError
from actors.oona.exchange import Exchange
from actors.oona.group import Group
from actors.oona.ledger import GroupLedger
from actors.oona.parking import Ticket
from actors.oona.policy import BreakerPolicy, BusConfig, ConservativePolicy, Overflow, TopicPolicy
from actors.oona.priority import Priority
from tests.actors.oona.model import NORMAL, URGENT, Copy, Model
from tests.actors.oona.rig import Note

GROUPS = ("g", "h")
FATES = ("acked", "dead_lettered", "refused", "shed", "dropped", "expired")

policies = st.builds(
    TopicPolicy,
    groups=st.just(GROUPS),
    capacity=st.integers(1, 4),
    urgent_capacity=st.integers(2, 3),
    reroute_capacity=st.integers(0, 1),
    overflow=st.sampled_from(Overflow),
    attempts_max=st.integers(1, 3),
    ttl_s=st.sampled_from([None, 8.0]),
    wait_max_s=st.just(3.0),
    parked_max=st.just(2),
    stall_after_s=st.none(),
)
configs = st.builds(
    BusConfig,
    breaker=st.just(BreakerPolicy(failures_max=10**9)),
    conservative=st.builds(
        ConservativePolicy, high_mark=st.sampled_from([6, 100]), low_mark=st.just(3), dwell_s=st.just(10.0)
    ),
)
indexes = st.integers(0, 10**6)


class BusMachine(RuleBasedStateMachine):
    @initialize(policy=policies, config=configs)
    def begin(self, policy: TopicPolicy, config: BusConfig) -> None:
        self.now = 0.0
        self.keys = 0
        self.exchange = Exchange({"t": policy}, config, new_id=lambda: "never asked for")
        self.topic = self.exchange.topics["t"]
        self.members = {name: self.exchange.subscribe(["t"], name, "a", False, 0.0) for name in GROUPS}
        self.model = Model(policy, config)
        self.delivered: list[tuple[str, Group, Entry, int, Copy]] = []
        self.tickets: dict[str, Ticket] = {}
        self.answers: dict[str, str] = {}

    # Publishing

    @rule(priority=st.sampled_from(Priority), ttl=st.sampled_from([None, 2.0, 20.0]), may_wait=st.booleans())
    def publish(self, priority: Priority, ttl: float | None, may_wait: bool) -> None:
        self.keys += 1
        self._publish(str(self.keys), priority, ttl, may_wait)

    @precondition(lambda self: self.model.seen)
    @rule(index=indexes, priority=st.sampled_from(Priority))
    def publish_again(self, index: int, priority: Priority) -> None:
        seen = sorted(self.model.seen)
        self._publish(seen[index % len(seen)], priority, None, False)

    def _publish(self, key: str, priority: Priority, ttl: float | None, may_wait: bool) -> None:
        publication = self.exchange.publication("t", Note(0), priority, key, ttl, self.now)
        want = self.model.publish(key, int(priority), publication.expires_s, self.now)
        try:
            outcome = self.exchange.offer(publication, self.now)
            got = None if outcome is None else outcome.value
        except RefusedError as error:
            got = fate_of(error)
        assert got == want
        if got is None and may_wait:
            self._park(key, priority, publication)
        elif got is None:
            self.topic.full_error(publication)
            self.model.refuse(key)

    def _park(self, key: str, priority: Priority, publication: Publication) -> None:
        def answer(result: Receipt | BusError) -> None:
            self.answers[key] = result.outcome.value if isinstance(result, Receipt) else fate_of(result)

        want = self.model.park(key, int(priority), publication.expires_s, self.now)
        try:
            self.tickets[key] = self.topic.park(publication, self.now, answer)
            assert want
        except RefusedError:
            assert not want

    @precondition(lambda self: self.model.parked)
    @rule(index=indexes)
    def cancel_a_parked_publisher(self, index: int) -> None:
        key = self.model.parked[index % len(self.model.parked)][0]
        self.topic.parking.unpark(self.tickets[key])
        self.model.unpark(key)

    # Consuming

    @rule(name=st.sampled_from(GROUPS), limit=st.integers(1, 4))
    def take(self, name: str, limit: int) -> None:
        want = self.model.take(name, limit, self.now)
        taken = self.members[name].take(limit, self.now)
        assert [entry.publication.event_id for _, entry in taken] == [copy.key for copy in want]
        self.delivered += [
            (name, group, entry, entry.attempts, copy)
            for (group, entry), copy in zip(taken, want, strict=True)
        ]

    @precondition(lambda self: self.delivered)
    @rule(index=indexes)
    def ack(self, index: int) -> None:
        name, group, entry, attempt, copy = self.delivered[index % len(self.delivered)]
        group.ack(entry, attempt)
        self.model.ack(name, copy)

    @precondition(lambda self: self.delivered)
    @rule(index=indexes, delay=st.sampled_from([None, 0.0, 1.5]), error=st.sampled_from([None, "no"]))
    def nack(self, index: int, delay: float | None, error: str | None) -> None:
        name, group, entry, attempt, copy = self.delivered[index % len(self.delivered)]
        group.nack(entry, attempt, self.now, delay, error)
        self.model.nack(name, copy, attempt, delay, self.now)

    @precondition(lambda self: self.delivered)
    @rule(index=indexes, deadline=st.sampled_from([1.0, 9.0]))
    def extend(self, index: int, deadline: float) -> None:
        _, group, entry, attempt, copy = self.delivered[index % len(self.delivered)]
        group.extend(entry, attempt, self.now, deadline)
        self.model.extend(copy, attempt, self.now + deadline)

    @rule(name=st.sampled_from(GROUPS))
    def leave_and_come_back(self, name: str) -> None:
        self.members[name].leave(self.now)
        self.model.leave(name, self.now)
        self.members[name] = self.exchange.subscribe(["t"], name, "a", False, self.now)

    @precondition(lambda self: len(self.topic.letters))
    @rule(index=indexes)
    def replay(self, index: int) -> None:
        letters = self.topic.letters.all()
        letter = letters[index % len(letters)]
        ttl = self.topic.policy.ttl_s
        want = self.model.replay(letter.group, letter.event_id, None if ttl is None else self.now + ttl)
        try:
            self.exchange.replay(letter.letter_id, self.now)
            assert want
        except RefusedError:
            assert not want

    @rule(seconds=st.sampled_from([0.5, 1.0, 6.0]))
    def let_pass(self, seconds: float) -> None:
        self.now += seconds
        self.exchange.tick(self.now)
        self.model.tick(self.now)

    # What always holds

    @invariant()
    def what_is_pending_is_the_same(self) -> None:
        for name, group in self.topic.groups.items():
            model = self.model.groups[name]
            assert sorted(group.pending_ids()) == sorted(copy.key for copy in model.copies)
            assert sorted(group.pending_ids()) == sorted(
                k for k, fate in model.fate_of.items() if fate == "pending"
            )
        assert self.exchange.load.depth == self.model.depth()

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        assert self.exchange.metrics(self.now).closes()
        for name, group in self.topic.groups.items():
            fates = self.model.groups[name].fates
            assert counts(group.urgent.ledger) == {fate: fates[URGENT][fate] for fate in FATES}
            assert counts(group.normal.ledger) == {fate: fates[NORMAL][fate] for fate in FATES}
            dead = [letter.event_id for letter in self.topic.letters.all() if letter.group == name]
            assert sorted(dead) == sorted(
                k for k, f in self.model.groups[name].fate_of.items() if f == "dead_lettered"
            )

    @invariant()
    def no_bound_is_passed(self) -> None:
        policy = self.topic.policy
        for group in self.topic.groups.values():
            assert group.normal.ledger.pending_max <= policy.capacity
            assert group.urgent.ledger.pending_max <= policy.urgent_capacity
            assert group.urgent.rerouted <= policy.reroute_capacity < policy.urgent_capacity
        assert len(self.topic.parking.tickets) <= policy.parked_max

    @invariant()
    def parked_publishers_and_the_mode_are_the_same(self) -> None:
        assert [ticket.publication.event_id for ticket in self.topic.parking.tickets.values()] == [
            key for key, *_ in self.model.parked
        ]
        assert self.answers == self.model.answers
        assert self.exchange.conservative.active == self.model.conservative


def counts(ledger: GroupLedger) -> dict[str, int]:
    return {fate: getattr(ledger, fate) for fate in FATES}


def fate_of(error: BusError) -> str:
    return "shed" if isinstance(error, ConservativeModeError) else "refused"


TestBusMachine = BusMachine.TestCase


def machine() -> BusMachine:
    """One topic with room for one message, where publishers wait."""
    made = BusMachine()
    policy = TopicPolicy(
        groups=GROUPS, capacity=1, overflow=Overflow.WAIT, wait_max_s=3.0, stall_after_s=None
    )
    made.begin(policy=policy, config=BusConfig())
    return made


def holds(made: BusMachine) -> None:
    made.what_is_pending_is_the_same()
    made.every_message_is_accounted_for()
    made.parked_publishers_and_the_mode_are_the_same()


def test_who_waited_for_room_until_too_old_expires_with_those_that_made_room() -> None:
    made = machine()
    for _ in range(2):
        made.publish(priority=Priority.NORMAL, ttl=2.0, may_wait=True)
    for _ in range(2):
        made.let_pass(seconds=1.0)
        holds(made)
    assert made.answers == {"2": "accepted"}
    assert made.topic.groups["h"].normal.ledger.expired == 2


def test_who_comes_in_for_one_that_is_too_old_is_taken_in_its_place() -> None:
    made = machine()
    for ttl in (None, 2.0, None):
        made.publish(priority=Priority.NORMAL, ttl=ttl, may_wait=True)
    for name in GROUPS:
        made.take(name=name, limit=1)
    for _ in range(2):
        made.let_pass(seconds=1.0)
    for index in range(len(GROUPS)):
        made.ack(index=index)  # now the second comes in, which is too old
    for name in GROUPS:
        made.take(name=name, limit=1)
        holds(made)
    assert made.answers == {"2": "accepted", "3": "accepted"}
    assert [copy.key for *_, copy in made.delivered] == ["1", "1", "3"]
