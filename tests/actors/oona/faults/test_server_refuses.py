"""A server that won't have us: no place, another port, another password, a policy or a hand that deletes."""

import asyncio
import random
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from actors.oona.errors import BusUnfitError, UnreachableError
from tests.actors.oona.faults.clients import RedisClients, one_topic
from tests.actors.oona.faults.ledger import FaultLedger
from tests.actors.oona.faults.load import (
    Consumer,
    Publisher,
    connected,
    entries_made,
    settled,
    until,
    until_taken,
)
from tests.actors.oona.faults.work import TOPIC, Work
from tests.actors.oona.patience import PATIENCE_S
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.resp import Resp

PASSWORD = "correct-horse"
FORGETFUL = (
    *("allkeys-lru", "allkeys-lfu", "allkeys-random"),
    *("volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"),
)
COUNT = 200


async def _opened(address: str) -> None:
    async with RedisClients(address, one_topic()) as clients:
        await clients.open()


@pytest.mark.parametrize("policy", FORGETFUL)
def test_a_server_that_would_throw_messages_away_is_refused(own_redis: RedisServer, policy: str) -> None:
    own_redis.config("maxmemory-policy", policy)
    with pytest.raises(BusUnfitError, match=f"{policy}(?s:.)*noeviction"):
        asyncio.run(_opened(own_redis.address))
    assert own_redis.execute("DBSIZE") == 0


def test_a_port_where_nobody_listens_is_named_in_one_line() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(UnreachableError) as error:
            asyncio.run(_opened(f"redis://127.0.0.1:{port}/0"))
    assert str(port) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", ["", ":wrong-battery@"])
def test_without_the_right_password_it_is_refused_and_no_password_is_shown(
    start_redis: Callable[..., RedisServer], given: str
) -> None:
    server = start_redis(requirepass=PASSWORD)
    with pytest.raises(BusUnfitError, match="password") as error:
        asyncio.run(_opened(f"redis://{given}127.0.0.1:{server.port}/0"))
    assert PASSWORD not in str(error.value)
    assert "wrong-battery" not in str(error.value)
    asyncio.run(_opened(f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"))


def test_a_server_without_a_place_is_unreachable_until_it_has_one(
    start_redis: Callable[..., RedisServer],
) -> None:
    server = start_redis(maxclients=8)
    with ExitStack() as others:
        for _ in range(7):
            assert others.enter_context(Resp(server.port)).execute("PING") == b"PONG"
        with pytest.raises(UnreachableError):
            asyncio.run(_opened(server.address))
    while int(server.info("clients")["connected_clients"]) > 1:  # it sees that they are gone when it looks
        time.sleep(0.005)
    asyncio.run(_opened(server.address))


def test_no_place_for_the_reconnecting_client_costs_nothing_once_there_is_one(
    start_redis: Callable[..., RedisServer], seed: int
) -> None:
    server = start_redis(maxclients=12)

    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger("no place", seed)
        async with RedisClients(server.address, one_topic()) as clients:
            here, there = await clients.open(), await clients.open()
            consumer = Consumer(there, ledger, rng, "c").start()
            load = asyncio.create_task(Publisher(here, ledger, rng).publish(range(COUNT)))
            await until_taken(ledger, rng.randrange(COUNT // 2))
            server.config("maxclients", 1)
            server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            server.execute("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
            await until(lambda: not connected(here), "a broken connection")
            await asyncio.sleep(0.1)  # some tries in vain
            assert not connected(here)
            server.config("maxclients", 12)
            await asyncio.wait_for(load, PATIENCE_S)
            await settled(ledger, here, there)
            await consumer.stop()
        assert ledger.close().effects == COUNT

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("setting", "bad", "good"),
    [("requirepass", PASSWORD, ""), ("maxmemory-policy", "allkeys-lru", "noeviction")],
)
def test_a_server_that_turns_unfit_under_a_bus_is_left_alone_until_it_is_fit_again(
    own_redis: RedisServer, setting: str, bad: str, good: str, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(f"another {setting}", seed)
        first = rng.randrange(40)
        async with RedisClients(own_redis.address, one_topic()) as clients:
            here = await clients.open()
            consumer = Consumer(here, ledger, rng, "c").start()
            await Publisher(here, ledger, rng).publish(range(first))
            own_redis.config(setting, bad)
            own_redis.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await until(lambda: not connected(here), "a broken connection")
            await asyncio.sleep(0.1)  # some tries in vain
            with pytest.raises(UnreachableError) as error:
                await here.publish(TOPIC, Work(99))
            assert PASSWORD not in str(error.value)
            assert not connected(here)
            own_redis.config(setting, good)
            await Publisher(here, ledger, rng).publish(range(first, 40))
            await settled(ledger, here)
            await consumer.stop()
        assert ledger.close().effects == 40

    asyncio.run(scenario())


def _read_only(server: RedisServer, on: bool) -> None:
    """A replica takes no writes: so it is for a while when another one takes over."""
    server.execute("REPLICAOF", *(("127.0.0.1", 1) if on else ("NO", "ONE")))


def _without_rights(server: RedisServer, on: bool) -> None:
    server.execute("ACL", "SETUSER", "default", "-evalsha" if on else "+evalsha")


@pytest.mark.parametrize("errs", [_read_only, _without_rights])
def test_a_server_that_errs_for_a_while_costs_nothing(
    own_redis: RedisServer, errs: Callable[[RedisServer, bool], None], seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(f"errs, {errs.__name__}", seed)
        async with RedisClients(own_redis.address, one_topic(ack_deadline_s=0.3)) as clients:
            here, there = await clients.open(), await clients.open()
            consumer = Consumer(there, ledger, rng, "c")
            consumer.forget_share = 0.05
            consumer.start()
            publisher = Publisher(here, ledger, rng)
            publisher.nowait_share = 0.5
            load = asyncio.create_task(publisher.publish(range(COUNT)))
            for moment in sorted(rng.sample(range(COUNT * 8 // 10), 3)):
                await until_taken(ledger, moment)
                errs(own_redis, True)
                await asyncio.sleep(rng.uniform(0.02, 0.2))
                errs(own_redis, False)
            await asyncio.wait_for(load, PATIENCE_S)
            await settled(ledger, here, there)
            assert await entries_made(here, COUNT) == COUNT
            await consumer.stop()
        assert ledger.close().effects == COUNT

    asyncio.run(scenario())


@pytest.mark.parametrize("command", ["client kill", "script flush", "both"])
def test_lost_connections_and_scripts_in_the_middle_of_it_all(
    own_redis: RedisServer, command: str, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(command, seed)
        async with RedisClients(own_redis.address, one_topic(ack_deadline_s=0.3)) as clients:
            here, there = await clients.open(), await clients.open()
            consumer = Consumer(there, ledger, rng, "c")
            consumer.forget_share = 0.05
            consumer.start()
            load = asyncio.create_task(Publisher(here, ledger, rng).publish(range(COUNT)))
            for moment in sorted(rng.sample(range(COUNT * 8 // 10), 8)):
                await until_taken(ledger, moment)
                if command != "client kill":
                    own_redis.execute("SCRIPT", "FLUSH")
                if command != "script flush":
                    kind = rng.choice(["normal", "pubsub"])
                    own_redis.execute("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            await asyncio.wait_for(load, PATIENCE_S)
            await settled(ledger, here, there)
            assert await entries_made(here, COUNT) == COUNT
            await consumer.stop()
        assert ledger.close().effects == COUNT

    asyncio.run(scenario())


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
def test_data_that_somebody_deletes_under_a_bus_is_given_back(
    own_redis: RedisServer, command: str, seed: int
) -> None:
    async def scenario() -> None:
        rng, ledger = random.Random(seed), FaultLedger(command, seed)
        async with RedisClients(own_redis.address, one_topic(ack_deadline_s=0.3)) as clients:
            here, there = await clients.open(), await clients.open()
            consumer = Consumer(there, ledger, rng, "c")
            consumer.pause_s = 0.005
            consumer.start()
            load = asyncio.create_task(Publisher(here, ledger, rng).publish(range(COUNT)))
            for moment in sorted(rng.sample(range(COUNT * 8 // 10), 3)):
                await until_taken(ledger, moment)
                own_redis.execute(command)
            await asyncio.wait_for(load, PATIENCE_S)
            await settled(ledger, here, there)
            await consumer.stop()
        assert ledger.close().effects == COUNT

    asyncio.run(scenario())
