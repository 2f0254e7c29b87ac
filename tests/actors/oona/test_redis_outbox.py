"""The outbox keeps its bounds and its order, and loses nothing but what may be dropped."""

import asyncio
from typing import cast

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.oona.conservative import Conservative
from actors.oona.errors import OutboxFullError
from actors.oona.policy import BusConfig, ConservativePolicy, TopicPolicy
from actors.oona.priority import Priority
from actors.oona.redis.link import Link
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.outbox import Outbox
from actors.oona.redis.outgoing import OVERHEAD_BYTES, Outgoing, Stage
from actors.oona.redis.outgoing import outgoing as outgoing_of
from actors.oona.redis.post import Post
from actors.oona.redis.topics import KnownTopic
from tests.actors.oona.rig import Note

MESSAGES_MAX = 6
BYTES_MAX = 5 * OVERHEAD_BYTES + 200
SHEDDABLE = {"commands": False, "telemetry": True}


def outgoing(number: int, topic: str, size: int = 0, priority: Priority = Priority.NORMAL) -> Outgoing:
    return outgoing_of(number, topic, Note(number), priority, str(number), 0.0, None, b"x" * size)


class OutboxMachine(RuleBasedStateMachine):
    """Remembers in plain lists what must be there."""

    def __init__(self) -> None:
        super().__init__()
        self.box = Outbox(SHEDDABLE, MESSAGES_MAX, BYTES_MAX)
        self.number = 0
        self.queued: list[Outgoing] = []
        self.retained: list[Outgoing] = []
        self.sent: dict[tuple[str, bool], list[int]] = {}

    @rule(
        topic=st.sampled_from(sorted(SHEDDABLE)),
        size=st.sampled_from([0, 100, 400]),
        priority=st.sampled_from([Priority.NORMAL, Priority.CRITICAL]),
    )
    def put(self, topic: str, size: int, priority: Priority) -> None:
        self.number += 1
        item = outgoing(self.number, topic, size, priority)
        may_go = [each for each in self.queued if SHEDDABLE[each.topic] and each.stage is Stage.WAITING]
        before = (self.box.messages, self.box.bytes)
        try:
            dropped = self.box.put(item)
        except OutboxFullError:
            left = [each for each in (*self.queued, *self.retained) if each not in may_go]
            assert len(left) >= MESSAGES_MAX or sum(x.size for x in left) + item.size > BYTES_MAX
            assert (self.box.messages, self.box.bytes) == before
            return
        assert dropped == may_go[: len(dropped)], "the oldest that may go"
        self.queued = [each for each in self.queued if each not in dropped] + [item]

    @rule(topic=st.sampled_from(sorted(SHEDDABLE)), urgent=st.booleans())
    def send(self, topic: str, urgent: bool) -> None:
        waiting = [each for each in self.line(topic, urgent) if each.stage is Stage.WAITING]
        line = self.box.line(topic, urgent)
        ready = self.box.ready(topic, urgent)
        if not line.blocked:
            assert ready == waiting
        else:
            assert ready in ([], waiting[:1])

    @precondition(lambda self: any(each.stage is Stage.UNDER_WAY for each in self.queued))
    @rule(data=st.data(), answer=st.sampled_from(["taken", "refused", "unsent", "unrouted"]))
    def answered(self, data: st.DataObject, answer: str) -> None:
        lines = {(each.topic, each.urgent) for each in self.queued if each.stage is Stage.UNDER_WAY}
        topic, urgent = data.draw(st.sampled_from(sorted(lines)))
        item = next(each for each in self.line(topic, urgent) if each.stage is Stage.UNDER_WAY)
        match answer:
            case "taken":
                self.box.taken(item, f"4:{item.number}-0")
                self.queued.remove(item)
                self.sent.setdefault((topic, urgent), []).append(item.number)
                self.retained += [] if SHEDDABLE[topic] else [item]
            case "refused":
                self.box.refused(item)
                assert all(each.stage is Stage.WAITING for each in self.line(topic, urgent))
            case "unsent":
                for each in reversed([e for e in self.line(topic, urgent) if e.stage is Stage.UNDER_WAY]):
                    self.box.unsent(each)
            case "unrouted":
                self.box.taken(item, "")
                self.queued.remove(item)

    @precondition(lambda self: self.retained)
    @rule(data=st.data(), settled=st.booleans())
    def asked(self, data: st.DataObject, settled: bool) -> None:
        item = data.draw(st.sampled_from(self.retained))
        assert item in self.box.unsettled(item.topic, 100)
        if settled:
            self.box.done(item)
            self.box.done(item)  # once more changes nothing
            self.retained.remove(item)
        else:
            self.box.still_unsettled(item)

    @precondition(lambda self: self.retained)
    @rule(data=st.data())
    def a_new_server_has_no_room(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.retained))
        self.box.owed(item)
        self.retained.remove(item)
        self.queued = sorted([*self.queued, item], key=lambda each: each.number)
        self.sent[item.topic, item.urgent].clear()

    def line(self, topic: str, urgent: bool) -> list[Outgoing]:
        return [each for each in self.queued if (each.topic, each.urgent) == (topic, urgent)]

    @invariant()
    def nothing_is_lost_and_no_bound_is_passed(self) -> None:
        kept = [*self.queued, *self.retained]
        assert (self.box.queued, self.box.retained) == (len(self.queued), len(self.retained))
        assert self.box.messages == len(kept) <= MESSAGES_MAX
        assert self.box.bytes == sum(each.size for each in kept) <= BYTES_MAX
        assert self.box.all_retained() == sorted(self.retained, key=lambda each: each.number)

    @invariant()
    def what_was_taken_was_taken_in_order(self) -> None:
        for numbers in self.sent.values():
            assert numbers == sorted(numbers)


OutboxMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestOutboxMachine = OutboxMachine.TestCase


def test_only_the_first_of_a_line_without_room_is_tried_again() -> None:
    box = Outbox(SHEDDABLE, 10, 10_000)
    items = [outgoing(n, "commands") for n in range(3)]
    for item in items:
        box.put(item)
    assert box.ready("commands", urgent=False) == items
    box.refused(items[0])
    assert box.ready("commands", urgent=False) == items[:1]
    assert box.ready("commands", urgent=False) == [], "it is under way"
    box.taken(items[0], "4:1-0")
    assert box.ready("commands", urgent=False) == items[1:]


def test_a_full_normal_line_does_not_hold_up_urgent_messages() -> None:
    box = Outbox(SHEDDABLE, 10, 10_000)
    normal, urgent = outgoing(1, "commands"), outgoing(2, "commands", priority=Priority.EMERGENCY)
    box.put(normal)
    box.ready("commands", urgent=False)
    box.refused(normal)
    box.put(urgent)
    assert box.ready("commands", urgent=True) == [urgent]


def test_a_publisher_that_waits_takes_its_place_until_it_is_answered() -> None:
    box = Outbox(SHEDDABLE, 1, 10_000)
    first, second = outgoing(1, "commands"), outgoing(2, "commands")
    assert box.admit(first)
    assert not box.admit(second)
    with pytest.raises(OutboxFullError, match="1 messages"):
        box.put(second)
    box.taken(first, "4:1-0")
    assert (box.retained, box.admit(second)) == (1, False)
    box.done(first)
    assert box.admit(second)


class NoServer:
    """A link that is down: who finds no room need not wait for any."""

    up = False


@pytest.mark.parametrize(
    "options", [RedisOptions(outbox_messages_max=1), RedisOptions(outbox_bytes_max=2 * OVERHEAD_BYTES - 1)]
)
def test_a_publisher_that_finds_no_room_here_is_told_of_both_bounds(options: RedisOptions) -> None:
    topics = {"commands": KnownTopic("commands", TopicPolicy(), BusConfig())}
    conservative = Conservative(ConservativePolicy())
    post = Post(topics, cast(Link, NoServer()), conservative, options, bytes, lambda: 0.0)
    assert post.outbox.admit(outgoing(1, "commands"))
    late = outgoing(2, "commands")
    assert post.offer(late) is None
    with pytest.raises(
        OutboxFullError, match=r"1 messages \(256 bytes\) .*\(outbox_messages_max, outbox_bytes_max\)"
    ):
        asyncio.run(post.offer_with_room(late))
    assert post.outbox.messages == 1
