"""What all groups have settled is kept no longer, and nothing else is let go."""

import asyncio

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from actors.oona.errors import UnreachableError
from actors.oona.policy import BusConfig, TopicPolicy
from actors.oona.redis.call import Ask, Call
from actors.oona.redis.outbox import Outbox
from actors.oona.redis.outgoing import Stage
from actors.oona.redis.settling import MANY, First, Settling
from actors.oona.redis.topics import KnownTopic
from tests.actors.oona.redis_rig import redis_bus
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import Rig
from tests.actors.oona.test_redis_outbox import outgoing

TOPIC = KnownTopic("commands", TopicPolicy(), BusConfig())
EMPTY = [False] * 6


class Server:
    """A link whose questions are answered by hand."""

    def __init__(self) -> None:
        self.up = True
        self.asked: list[Ask[object]] = []

    def submit(self, call: Call) -> None:
        assert isinstance(call, Ask)
        self.asked.append(call)

    async def answers(self, answer: object) -> tuple[object, ...]:
        """The answer to the one open question, which it returns."""
        (ask,) = self.asked
        self.asked.clear()
        ask.answered(msgspec.Raw(msgspec.msgpack.encode(answer)), [])
        await asyncio.sleep(0)
        return ask.op


class Desk:
    """An outbox with retained messages, whose entries are named by `keys`."""

    def __init__(self, *keys: str) -> None:
        self.topic = KnownTopic("commands", TopicPolicy(), BusConfig())
        self.box = Outbox({"commands": False}, 10_000, 10_000_000)
        self.server = Server()
        self.settling = Settling(self.box, self.server)  # type: ignore[arg-type]
        self.items = [outgoing(number, "commands") for number in range(len(keys))]
        for item, each in zip(self.items, keys, strict=True):
            assert self.box.admit(item)
            self.box.taken(item, each)

    def ask(self) -> None:
        self.settling.ask(self.topic)

    def kept(self) -> list[int]:
        return [item.number for item in self.box.all_retained()]


def oldest(**ids: str) -> list[str | bool]:
    """The answer of a server with these entries, by `rank<number>`."""
    return [ids.get(f"rank{rank}", False) for rank in range(6)]


IDS = st.tuples(st.integers(95, 105) | st.integers(0, 2**48), st.integers(8, 12))


@given(IDS, IDS)
def test_entries_are_told_apart_by_their_numbers_however_many_digits_they_have(
    first: tuple[int, int], entry: tuple[int, int]
) -> None:
    assert First(4, "{}-{}".format(*first)).comes_after("4:{}-{}".format(*entry)) == (entry < first)


def test_what_was_let_go_while_the_server_was_asked_is_not_let_go_again() -> None:
    async def scenario() -> None:
        desk = Desk("4:9-0", "4:10-0", "4:11-0")
        desk.ask()
        desk.box.done(desk.items[0])
        await desk.server.answers(oldest(rank4="11-0"))
        assert desk.kept() == [2]
        assert (desk.box.messages, desk.box.bytes) == (1, desk.items[2].size)

    asyncio.run(scenario())


def test_what_came_before_the_oldest_entry_is_let_go_and_no_other() -> None:
    async def scenario() -> None:
        desk = Desk("4:9-0", "4:10-0", "4:10-1", "4:10-2", "4:11-0")
        desk.ask()
        assert (await desk.server.answers(oldest(rank4="10-1")))[0] == "oldest"
        assert desk.kept() == [2, 3, 4]
        assert (desk.box.messages, desk.server.asked) == (3, [])

    asyncio.run(scenario())


def test_a_message_with_two_entries_is_let_go_when_both_are_settled() -> None:
    async def scenario() -> None:
        desk = Desk("4:5-0 2:5-1", "4:6-0")
        desk.ask()
        await desk.server.answers(oldest(rank2="5-1"))
        assert desk.kept() == [0, 1]
        desk.topic.stuck = False
        desk.ask()
        await desk.server.answers(EMPTY)
        assert desk.kept() == []

    asyncio.run(scenario())


def test_what_was_published_after_the_question_is_not_let_go_by_its_answer() -> None:
    async def scenario() -> None:
        desk = Desk("4:5-0")
        desk.ask()
        late = outgoing(1, "commands")
        desk.box.admit(late)
        desk.box.taken(late, "4:6-0")
        await desk.server.answers(EMPTY)
        assert desk.kept() == [1]

    asyncio.run(scenario())


def test_what_a_new_server_owes_its_place_to_is_not_let_go() -> None:
    async def scenario() -> None:
        desk = Desk("4:5-0", "4:6-0", "4:7-0")
        desk.ask()
        desk.items[0].keys = ""  # it is being given to a new server
        desk.box.owed(desk.items[1])  # and that has no room
        await desk.server.answers(EMPTY)
        assert desk.kept() == [0, 2]
        assert desk.items[1].stage is Stage.WAITING

    asyncio.run(scenario())


def test_when_an_old_one_stays_the_server_is_asked_by_name() -> None:
    async def scenario() -> None:
        desk = Desk(*(f"4:{number}-0" for number in range(MANY + 2)))
        desk.ask()
        await desk.server.answers(oldest(rank4="0-0"))
        what, topic, names = (await desk.server.answers([False, *[True] * (MANY + 1)]))[:3]
        assert (what, topic) == ("settled", "commands")
        assert isinstance(names, list)
        assert names[:2] == ["4:0-0", "4:1-0"]
        assert desk.kept() == [0]

    asyncio.run(scenario())


def test_few_are_asked_for_by_name_only_the_next_time() -> None:
    async def scenario() -> None:
        desk = Desk("4:1-0", "4:2-0")
        desk.ask()
        await desk.server.answers(oldest(rank4="1-0"))
        assert desk.server.asked == []
        desk.ask()
        assert (await desk.server.answers([False, True]))[0] == "settled"
        assert desk.kept() == [0]
        desk.ask()
        assert (await desk.server.answers(EMPTY))[0] == "oldest"
        assert desk.kept() == []

    asyncio.run(scenario())


@pytest.mark.parametrize("stuck", [False, True])
def test_without_an_answer_nothing_is_let_go_and_it_is_asked_again(stuck: bool) -> None:
    async def scenario() -> None:
        desk = Desk("4:1-0")
        desk.topic.stuck = stuck
        desk.ask()
        desk.ask()
        (ask,) = desk.server.asked
        ask.failed(UnreachableError("gone"), sent=True)
        await asyncio.sleep(0)
        assert desk.kept() == [0]
        desk.server.asked.clear()
        desk.ask()
        assert len(desk.server.asked) == 1

    asyncio.run(scenario())


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_only_what_is_settled_is_ever_let_go(settled: list[bool], data: st.DataObject) -> None:
    async def scenario() -> None:
        ranks = [data.draw(st.integers(3, 5)) for _ in settled]
        desk = Desk(*(f"{rank}:{number // 3}-{number % 3}" for number, rank in enumerate(ranks)))
        open_ = {number for number, done in enumerate(settled) if not done}
        for _ in range(2):
            desk.ask()
            if not desk.server.asked:
                break
            asked = desk.server.asked[0].op
            if asked[0] == "oldest":
                first = [
                    next((f"{n // 3}-{n % 3}" for n in sorted(open_) if ranks[n] == rank), False)
                    for rank in range(6)
                ]
                await desk.server.answers(first)
            else:
                names = {item.keys: item.number for item in desk.items}
                assert isinstance(asked[2], list)
                await desk.server.answers([names[str(each)] not in open_ for each in asked[2]])
            assert open_ <= set(desk.kept())

    asyncio.run(scenario())


def retained(rig: Rig) -> int:
    link = rig.bus.metrics().link
    assert link is not None
    return link.retained


def test_one_message_that_nobody_settles_does_not_keep_the_others_here(redis_server: RedisServer) -> None:
    policy = TopicPolicy(groups=("g", "h"), stall_after_s=None, ack_deadline_s=1_000.0)

    async def scenario() -> None:
        async with redis_bus(redis_server, {"t": policy}) as rig:
            one, other = rig.bus.subscribe("t", "g", "a"), rig.bus.subscribe("t", "h", "b")
            await rig.publish("t", range(2 * MANY))
            first, *rest = await rig.drain(one)
            for delivery in rest:
                delivery.ack()
            await rig.let_pass(1.0)
            assert retained(rig) == 2 * MANY, "the other group has settled none"
            for delivery in await rig.drain(other):
                delivery.ack()
            await rig.let_pass(1.0)
            assert retained(rig) == 1
            first.ack()
            await rig.let_pass(1.0)
            assert retained(rig) == 0

    asyncio.run(scenario())
