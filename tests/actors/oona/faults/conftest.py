"""Seeds of the fault tests: one by default, the others with `-m slow`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from actors.oona.policy import TopicPolicy
from tests.actors.oona.faults.clients import Clients, MakeClients, MemoryClients, RedisClients
from tests.actors.oona.redis_server import RedisServer

QUICK = 1
SEEDS = 20
"""Of every scenario; each costs half a minute in all."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        quick: list[object] = list(range(QUICK))
        slow = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(QUICK, SEEDS)]
        metafunc.parametrize("seed", quick + slow)


@pytest.fixture(params=["memory", "redis"])
def back_end(request: pytest.FixtureRequest) -> str:
    """Both, for the faults that are not the server's."""
    return str(request.param)


@pytest.fixture
def make_clients(request: pytest.FixtureRequest, back_end: str) -> MakeClients:
    """On each back end."""
    if back_end == "memory":
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
