"""Seeds of the fault tests: one by default, `ESPER_FAULT_SEEDS` more with `-m slow`."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from actors.oona.policy import TopicPolicy
from tests.actors.oona.faults.clients import Clients, MakeClients, MemoryClients, RedisClients
from tests.actors.oona.redis_server import RedisServer

QUICK = 1
SLOW = int(os.environ.get("ESPER_FAULT_SEEDS", "3"))
"""Further seeds of every scenario; each costs minutes in all."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        quick: list[object] = list(range(QUICK))
        slow = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(QUICK, QUICK + SLOW)]
        metafunc.parametrize("seed", quick + slow)


@pytest.fixture(params=["memory", "redis"])
def make_clients(request: pytest.FixtureRequest) -> MakeClients:
    """Both back ends, for the faults that are not the server's."""
    if request.param == "memory":
        return MemoryClients
    server: RedisServer = request.getfixturevalue("redis_server")

    def make(topics: Mapping[str, TopicPolicy]) -> Clients:
        return RedisClients(server.address, topics)

    return make


@pytest.fixture
def start_redis() -> Iterator[Callable[..., RedisServer]]:
    """Servers of this test's own, with settings."""
    with ExitStack() as stack:

        def start(**settings: str | int) -> RedisServer:
            return stack.enter_context(RedisServer(**settings))

        yield start
