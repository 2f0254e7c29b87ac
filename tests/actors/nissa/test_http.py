"""The endpoint on a real socket: what it answers, what it refuses, and that it leaves nothing behind."""

import asyncio
import gc
import http.client
import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors.nissa.exporter import Exporter
from actors.nissa.http import HEADER_BYTES_MAX, NotLoopback, PortTaken, listen, serve
from actors.nissa.instruments import metrics_table
from actors.runtime.clock import LoopClock
from tests.actors.nissa import sample
from tests.actors.oona.patience import PATIENCE_S


def serving(
    play: Callable[[str], Awaitable[None]],
    boundary_active: Callable[[], bool] = lambda: False,
    request_s: float = 10.0,
    host: str = "127.0.0.1",
) -> None:
    """Run `play` beside a server, then check that nothing is left of the server."""

    async def whole() -> None:
        run = sample.measured()
        clock = LoopClock(asyncio.get_running_loop())
        exporter = Exporter(lambda: sample.reading(run), boundary_active, clock, 0.05)
        async with serve(exporter, host, 0, request_s) as address:
            await play(address)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(ConnectionRefusedError):
            _connect(address)

    asyncio.run(whole())
    gc.collect()


def _get(url: str) -> tuple[int, str, str]:
    """Status, content type and text, from another program's point of view."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read().decode()


def _connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE_S)


async def _asked(url: str) -> tuple[int, str, str]:
    return await asyncio.to_thread(_get, url)


async def _answered(url: str) -> tuple[int, str, str]:
    """The same where a connection has little time: others are opened until one is quick enough."""
    while True:
        with suppress(OSError, http.client.HTTPException):
            return await _asked(url)


def test_a_scrape_holds_every_metric_of_the_table() -> None:
    async def play(address: str) -> None:
        status, kind, text = await _asked(f"{address}/metrics")
        assert status == 200
        assert kind == "text/plain; version=0.0.4; charset=utf-8"
        names = {each.name for each in text_string_to_metric_families(text)}
        listed = {row.split("`")[1].removesuffix("_total") for row in metrics_table().splitlines()[2:]}
        assert listed == names - {"target_info"}

    serving(play)


def test_the_other_pages_say_what_is_here_and_that_the_loop_answers() -> None:
    async def play(address: str) -> None:
        status, kind, text = await _asked(f"{address}/healthz")
        assert (status, kind, json.loads(text)) == (200, "application/json", {"status": "ok"})
        status, kind, text = await _asked(f"{address}/")
        assert (status, kind) == (200, "text/plain; charset=utf-8")
        assert "/metrics" in text
        assert (await _asked(f"{address}/else"))[0] == 404

    serving(play)


def test_a_scrape_during_a_boundary_is_answered_after_it() -> None:
    active = True

    async def play(address: str) -> None:
        nonlocal active
        scrape = asyncio.create_task(_asked(f"{address}/metrics"))
        assert (await _asked(f"{address}/healthz"))[0] == 200
        assert not scrape.done()
        active = False
        status, _, text = await scrape
        assert (status, "esper_render_duration_seconds_count 0.0" in text) == (200, True)

    serving(play, boundary_active=lambda: active)


def test_stopping_during_a_boundary_answers_the_waiting_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.nissa.http.STOP_GRACE_S", PATIENCE_S)
    scrapes: list[asyncio.Task[tuple[int, str, str]]] = []
    looked: list[bool] = []

    def boundary_active() -> bool:
        looked.append(True)
        return True

    async def whole() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        exporter = Exporter(lambda: sample.reading(sample.measured()), boundary_active, clock, 1.0)
        async with serve(exporter, "127.0.0.1", 0) as address:
            scrapes.append(asyncio.create_task(_asked(f"{address}/metrics")))
            await sample.until(lambda: bool(looked))
        assert (await scrapes[0])[0] == 503

    asyncio.run(whole())


def test_stopping_closes_a_connection_that_is_kept_alive() -> None:
    opened: list[http.client.HTTPConnection] = []

    async def play(address: str) -> None:
        def scrape_and_stay() -> None:
            parts = urlsplit(address)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            opened.append(connection)

        await asyncio.to_thread(scrape_and_stay)

    serving(play)
    [connection] = opened
    assert connection.sock.recv(1) == b""
    connection.close()


def test_signals_stay_with_the_run() -> None:
    async def whole() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        exporter = Exporter(lambda: sample.reading(sample.measured()), lambda: False, clock, 1.0)
        before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        async with serve(exporter, "127.0.0.1", 0):
            assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before

    asyncio.run(whole())


def test_a_half_sent_request_is_cut_when_its_time_is_over() -> None:
    async def play(address: str) -> None:
        with (
            await asyncio.to_thread(_connect, address) as half,
            await asyncio.to_thread(_connect, address) as silent,
        ):
            half.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
            for connection in (half, silent):
                assert await asyncio.to_thread(connection.recv, 1) == b""
        assert (await _answered(f"{address}/metrics"))[0] == 200

    serving(play, request_s=0.1)


def test_a_half_sent_request_does_not_hold_up_the_stop() -> None:
    async def play(address: str) -> None:
        half.append(await asyncio.to_thread(_connect, address))
        half[0].sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")

    half: list[socket.socket] = []
    serving(play)
    half[0].close()


def test_headers_without_end_are_refused() -> None:
    async def play(address: str) -> None:
        with await asyncio.to_thread(_connect, address) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * (HEADER_BYTES_MAX + 1))
            assert (await asyncio.to_thread(connection.recv, 64)).startswith(b"HTTP/1.1 400")

    serving(play)


def test_a_taken_port_is_refused_before_the_run_begins_and_the_message_says_what_to_do() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]

        async def begin() -> None:
            clock = LoopClock(asyncio.get_running_loop())
            exporter = Exporter(lambda: sample.reading(sample.measured()), lambda: False, clock, 1.0)
            with pytest.raises(PortTaken, match=rf"port {port} .* serve\.port"):
                async with serve(exporter, "127.0.0.1", port):
                    pytest.fail("the block was entered")
            exporter.close()

        asyncio.run(begin())


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
def test_a_host_that_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(NotLoopback, match=r"127\.0\.0\.1"):
        listen(host, 0)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2"])
def test_every_name_of_loopback_serves(host: str) -> None:
    async def play(address: str) -> None:
        assert (await _asked(f"{address}/healthz"))[0] == 200

    serving(play, host=host)
