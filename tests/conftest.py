"""Settings that all tests share."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.actors.oona.redis_server import RedisServer

# Importing torch inside the first example takes longer than hypothesis's own deadline.
settings.register_profile(
    "esper", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("thorough", settings.get_profile("esper"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "esper"))


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Torch's thread count decides bits and, on a busy machine, minutes."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for all tests that leave it whole; each takes a namespace of its own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server for one test, to be broken."""
    with RedisServer() as server:
        yield server
