"""The Redis back end does what every back end must, on a real server."""

import pytest

from tests.actors.oona.conformance import BusConformance
from tests.actors.oona.redis_rig import redis_buses
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rig import MakeBus, Play, on_a_new_loop


class TestRedisBus(BusConformance):
    @pytest.fixture
    def make_bus(self, redis_server: RedisServer) -> MakeBus:
        return redis_buses(redis_server)

    @pytest.fixture
    def play(self) -> Play:
        return on_a_new_loop
