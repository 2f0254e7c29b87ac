"""The same batch sent again: executed once, and answered alike, with all that the answer named by index."""

from collections.abc import Sequence
from typing import Final

import hiredis
import msgspec
import pytest

from actors.oona.policy import BusConfig, TopicPolicy
from actors.oona.redis import wire
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.script import SCRIPT
from actors.oona.redis.wire import Op
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.resp import Reply

NOW_S: Final = 1_800_000_000.0
ANY: Final = 0


class Sender:
    """A client that says what it likes, in numbered batches."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.prefix = f"esper:{{{namespace}}}:"
        self.server = server
        self._sha = server.execute("SCRIPT", "LOAD", SCRIPT)
        self._settings = wire.settings_of(BusConfig(), RedisOptions())

    def __call__(self, number: int, *ops: Op, blobs: Sequence[bytes] = ()) -> Reply:
        assert isinstance(self._sha, bytes)
        head = wire.header("client", number, ANY, "", NOW_S, self._settings)
        reader = hiredis.Reader()
        reader.feed(wire.evalsha(self._sha.decode(), self.prefix, head, ops, blobs))
        return self.server.execute(*reader.gets())

    def results(self, number: int, *ops: Op, blobs: Sequence[bytes] = ()) -> list[msgspec.Raw]:
        answer = wire.reply(self(number, *ops, blobs=blobs))
        assert answer.head.status == "ok"
        return answer.results


def publication(topic: str, event_id: str, blob: int, priority: int = 2, signature: int = -1) -> Op:
    return ("publish", topic, event_id, priority, NOW_S, False, blob, signature)


@pytest.fixture
def send(own_redis: RedisServer) -> Sender:
    """To a server with the topics t and u, of which group g's consumer c takes; its first number is 2."""
    sender = Sender(own_redis, "repeat")
    policy = wire.policy_of(TopicPolicy(capacity=2_000, stall_after_s=None))
    join: list[Op] = [("join", topic, "g", "c", False) for topic in ("t", "u")]
    sender(1, ("declare", "t", policy), ("declare", "u", policy), *join)
    return sender


def published(send: Sender, number: int, count: int) -> list[bytes]:
    """So many messages to t; what they hold."""
    blobs = [f"envelope {n}".encode() + bytes(range(256)) for n in range(count)]
    send(number, *(publication("t", f"e{n}", n) for n in range(count)), blobs=blobs)
    return blobs


def take(limit: int) -> Op:
    return ("take", "g", "c", ["t"], limit, limit)


@pytest.mark.parametrize("count", [1, 500, 1_200])
def test_an_answer_with_blobs_is_repeated_as_it_was(send: Sender, count: int) -> None:
    blobs = published(send, 2, count)
    first = send(3, take(count))
    assert isinstance(first, list)
    assert first[2:] == blobs
    assert send(3, take(count)) == first

    given = wire.given(wire.reply(first).results[0])
    assert isinstance(given, wire.Given)
    ack: Op = ("ack", "t", "g", [each.key for each in given.entries], [1] * count)
    acked = send(4, ack)
    assert send(3, take(count)) == first, "the last but one is kept too, although all of it is settled"
    assert send(4, ack) == acked
    (shown,) = msgspec.msgpack.decode(send.results(5, ("stats", ["t"]))[0])
    ledger = shown[5][0][2]
    assert (ledger["delivered"], ledger["acked"], ledger["late"], ledger["pending"]) == (count, count, 0, 0)


def test_an_answer_without_blobs_gets_none_of_an_older_one(send: Sender) -> None:
    published(send, 2, 3)
    assert len(send(3, take(3))) == 5  # type: ignore[arg-type]
    send(4, take(3))
    nothing = send(5, take(3))
    assert isinstance(nothing, list)
    assert len(nothing) == 2
    assert send(5, take(3)) == nothing
    # Where others lie, they take the server's memory for nothing.
    assert send.server.execute("EXISTS", f"{send.prefix}reply:client:{5 % 2}") == 0

    published(send, 6, 4)
    assert send(7, take(9)) == send(7, take(9))
    more = [publication("t", f"more {n}", n) for n in range(2)]
    send(8, *more, blobs=[b"first", b"second"])
    again = send(9, take(9))
    assert isinstance(again, list)
    assert again[2:] == [b"first", b"second"]
    assert send(9, take(9)) == again


def test_what_is_kept_of_an_answer_ends_with_the_client(send: Sender) -> None:
    published(send, 2, 3)
    send(3, take(3))
    blobs = f"{send.prefix}reply:client:1"
    assert send.server.execute("EXPIRE", blobs, 5) == 1
    send(4, take(3))
    assert send.server.execute("TTL", blobs) > 5, "the last but one is kept as long as the last"  # type: ignore[operator]
    keys = send.server.execute("KEYS", send.prefix.replace("{", "\\{") + "reply:*")
    assert isinstance(keys, list)
    assert len(keys) == 2
    assert all(isinstance(left_s := send.server.execute("TTL", key), int) and left_s > 0 for key in keys)  # type: ignore[arg-type]


def test_an_answer_is_kept_although_there_is_no_memory(send: Sender) -> None:
    blobs = published(send, 2, 500)
    send.server.config("maxmemory", send.server.used_memory())
    ops = [take(500), publication("t", "late", 0), publication("t", "later", 0), ("oldest", "u")]
    first = send(3, *ops, blobs=[b"late"])
    assert isinstance(first, list)
    assert first[2:] == blobs
    told = [wire.published(each) for each in wire.reply(first).results[1:3]]
    assert [each.what for each in told] == ["no_memory", "no_memory"]
    assert len(wire.reply(first).results) == len(ops)
    assert send(3, *ops, blobs=[b"late"]) == first


def test_each_publication_has_its_own_result_whatever_lies_between(send: Sender) -> None:
    ops = [
        publication("t", "a", 0),
        publication("t", "b", 1, priority=4, signature=2),
        publication("u", "a", 0),
        ("oldest", "t"),
        publication("nowhere", "a", 0),
        publication("t", "a", 0),
        publication("t", "c", 1),
        publication("t", "c", 1),
        publication("u", "a", 1),
    ]
    results = send.results(2, *ops, blobs=[b"zero", b"one", b"signed"])
    assert len(results) == len(ops)
    ids = msgspec.msgpack.decode(results.pop(3))
    told = [wire.published(each) for each in results]
    assert " ".join(each.what for each in told) == (
        "accepted accepted accepted undeclared duplicate accepted duplicate duplicate"
    )
    assert [each.keys for each in told] == [
        f"4:{ids[4].decode() if isinstance(ids[4], bytes) else ids[4]}", told[1].keys, told[2].keys, "",
        told[0].keys, told[5].keys, told[5].keys, told[2].keys,
    ]  # fmt: skip
    assert told[1].keys.startswith("1:"), "the urgent lane"
    answer = wire.reply(send(3, take(9)))
    given = wire.given(answer.results[0])
    assert isinstance(given, wire.Given)
    assert [(each.event_id, answer.blobs[each.envelope_ix]) for each in given.entries] == [
        ("b", b"one"), ("a", b"zero"), ("c", b"one"),
    ]  # fmt: skip
    assert [answer.blobs[each.signature_ix] for each in given.entries[:1]] == [b"signed"]
    assert [each.signature_ix for each in given.entries[1:]] == [-1, -1]


@pytest.mark.parametrize("name", ["XDEL", "XACK", "HSET", "RPUSH"])
def test_a_group_may_be_called_like_a_command(send: Sender, name: str) -> None:
    send(2, ("join", "t", name, "c", False), ("leave", "t", "g", "c"))
    published(send, 3, 2)
    results = send.results(4, ("take", name, "c", ["t"], 9, 9))
    given = wire.given(results[0])
    assert isinstance(given, wire.Given)
    keys = [each.key for each in given.entries]
    assert len(keys) == 2
    send(5, ("ack", "t", name, keys, [1, 1]))
    assert send.server.execute("XLEN", f"{send.prefix}s:t:4") == 0
    assert send.server.execute("XPENDING", f"{send.prefix}s:t:4", name) == [0, None, None, None]
