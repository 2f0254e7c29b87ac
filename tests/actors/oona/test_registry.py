"""The registry of runs on a real server: announced, living, ended, forgotten; and a server that is away."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from actors.oona.errors import UnreachableError
from actors.oona.redis.registry import ALIVE_S, DEADLINE_S, INDEX, KEPT_S, RUNS_MAX, RunRegistry
from contracts.growth import Layout, SiteInfo
from contracts.registry import ControlFacts, ListedRun, Pulse, RunEntry
from contracts.report import Ending, EpochFacts
from contracts.view import ProbeProgress, RunFacts
from tests.actors.oona.hand_loop import HandLoop, by_hand
from tests.actors.oona.patience import PATIENCE_S
from tests.actors.oona.redis_server import RedisServer

ENTRY = RunEntry(
    "run",
    RunFacts("mnist1d", "heuristic", 3, "runs", epochs=5),
    10**18,
    (SiteInfo("relu1", Layout.SEQUENCE, (4, 19), 4, 0),),
    signed=True,
    pulse=Pulse(
        4,
        "comparing",
        2.5,
        7,
        ProbeProgress(1, 2, 3),
        ControlFacts(338, 10**9, EpochFacts(1, 0.5, None, 0.5, 0.01)),
    ),
)


@pytest.fixture
def cleared(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """The shared server without any run, and with time to answer."""
    monkeypatch.setattr("actors.oona.redis.registry.DEADLINE_S", PATIENCE_S)
    keys = redis_server.execute("KEYS", f"{INDEX}*")
    assert isinstance(keys, list)
    for key in keys:
        assert isinstance(key, bytes)
        redis_server.execute("DEL", key)
    return redis_server


@pytest.fixture
def server(cleared: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """One on which a run lives on, however slow the machine is."""
    monkeypatch.setattr("actors.oona.redis.registry.ALIVE_S", PATIENCE_S)
    return cleared


def with_registry(address: str, scene: Callable[[RunRegistry], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        async with RunRegistry(address) as registry:
            return await scene(registry)

    return asyncio.run(main())


def test_what_a_run_says_of_itself_is_what_others_read(server: RedisServer) -> None:
    async def scene(registry: RunRegistry) -> None:
        assert await registry.runs() == []
        assert await registry.find("run") is None
        await registry.put(ENTRY)
        assert await registry.runs() == [ListedRun(ENTRY, alive=True)]
        assert await registry.find("run") == ListedRun(ENTRY, alive=True)
        assert await registry.find("ru") is None

    with_registry(server.address, scene)


def test_the_newest_run_comes_first_and_its_end_is_no_life(server: RedisServer) -> None:
    async def scene(registry: RunRegistry) -> None:
        for number in (2, 1, 3):
            await registry.put(replace(ENTRY, run_id=f"run{number}", started_ns=number * 10**18))
        ended = replace(
            ENTRY, run_id="run3", started_ns=3 * 10**18, ended=Ending("halted", "smoke"), closing="so"
        )
        await registry.put(ended)
        found = await registry.runs()
        assert [(run.entry.run_id, run.alive) for run in found] == [
            ("run3", False),
            ("run2", True),
            ("run1", True),
        ]
        assert found[0].entry == ended

    with_registry(server.address, scene)


def test_everything_expires_life_within_seconds_the_rest_within_a_day(cleared: RedisServer) -> None:
    async def scene(registry: RunRegistry) -> None:
        await registry.put(ENTRY)

    with_registry(cleared.address, scene)
    times = {key: cleared.execute("PTTL", key) for key in (INDEX, f"{INDEX}:run", f"{INDEX}:run:alive")}
    assert all(isinstance(time, int) and time > 0 for time in times.values())
    assert times[INDEX] <= KEPT_S * 1e3  # type: ignore[operator]
    assert times[f"{INDEX}:run:alive"] <= ALIVE_S * 1e3  # type: ignore[operator]
    cleared.execute("DEL", f"{INDEX}:run:alive")

    async def later(registry: RunRegistry) -> ListedRun | None:
        return await registry.find("run")

    assert with_registry(cleared.address, later) == ListedRun(ENTRY, alive=False)


def test_entries_that_nobody_can_read_are_left_out(server: RedisServer) -> None:
    async def scene(registry: RunRegistry) -> None:
        for number, text in enumerate((b"", b"{}", b"\xff", b"[" * 1000, b'{"run_id": 3}')):
            server.execute("SET", f"{INDEX}:bad{number}", text)
            server.execute("ZADD", INDEX, 5, f"bad{number}")
        server.execute("ZADD", INDEX, 6, b"\xffno-name")
        await registry.put(ENTRY)
        assert [run.entry.run_id for run in await registry.runs()] == ["run"]
        assert await registry.find("bad1") is None

    with_registry(server.address, scene)


def test_the_index_keeps_the_newest_only(server: RedisServer) -> None:
    members = [word for number in range(RUNS_MAX + 20) for word in (number, f"old{number}")]
    server.execute("ZADD", INDEX, *members)

    async def scene(registry: RunRegistry) -> None:
        await registry.put(ENTRY)

    with_registry(server.address, scene)
    assert server.execute("ZCARD", INDEX) == RUNS_MAX
    assert server.execute("ZSCORE", INDEX, "old0") is None
    assert server.execute("ZSCORE", INDEX, "run") is not None


def test_a_server_that_is_hung_dead_or_back_is_noticed_within_its_deadline(own_redis: RedisServer) -> None:
    async def scene(loop: HandLoop) -> None:
        async with RunRegistry(own_redis.address) as registry:
            await registry.put(ENTRY)
            own_redis.pause()
            began_s = loop.time()
            with pytest.raises(UnreachableError, match=f"^Redis at {own_redis.address}: "):
                await loop.finished(asyncio.create_task(registry.put(ENTRY)), 2 * DEADLINE_S)
            assert loop.time() - began_s >= DEADLINE_S
            own_redis.resume()
            assert await registry.find("run") is not None
            own_redis.kill()
            for call in (registry.put(ENTRY), registry.runs(), registry.find("run")):
                with pytest.raises(UnreachableError):
                    await call
            own_redis.restart(keep_data=False)
            await registry.put(ENTRY)
            assert [one.entry for one in await registry.runs()] == [ENTRY]

    by_hand(scene)


def test_a_refusal_does_not_show_the_password(own_redis: RedisServer) -> None:
    own_redis.config("requirepass", "sesame")

    async def scene(registry: RunRegistry) -> str:
        with pytest.raises(UnreachableError) as caught:
            await registry.put(ENTRY)
        return str(caught.value)

    said = with_registry(own_redis.address.replace("://", "://:open_barley@"), scene)
    assert "password" in said
    assert "barley" not in said
