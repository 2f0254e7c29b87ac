"""The metrics endpoint: a small HTTP server in the run's own event loop, on loopback.

It takes no signals, writes no log of requests, and every connection is bounded: in the size of its
headers, and in the time from one answer to the next, so that nobody holds one open with half a request.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from actors.nissa.exporter import Exporter, NoText

HEADER_BYTES_MAX = 8192
CONNECTIONS_MAX = 64
KEEP_ALIVE_S = 5
"""An open connection without a request is closed after this."""
REQUEST_S = 10.0
"""A connection is cut this long after it opened or was last answered, if no answer has been taken since."""
STOP_GRACE_S = 0.4
"""A stopping server waits this long for answers to be taken, then cuts the connections."""

INDEX = """Esper: metrics of a running run.

/metrics   for Prometheus, text format
/healthz   200 while the event loop answers
"""


class ServeRefused(ValueError):
    """The endpoint can't be opened as configured; the message says what would work."""


class NotLoopback(ServeRefused):
    """The host is one that others could reach."""


class PortTaken(ServeRefused):
    """Somebody else listens there."""


def metrics_app(exporter: Exporter) -> Starlette:
    """What is served, without a server."""

    async def metrics(_: Request) -> Response:
        try:
            text = await exporter.text()
        except NoText as error:
            return PlainTextResponse(f"{error}\n", status_code=503, headers={"retry-after": "1"})
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def index(_: Request) -> Response:
        return PlainTextResponse(INDEX)

    return Starlette(routes=[Route("/", index), Route("/metrics", metrics), Route("/healthz", healthz)])


@asynccontextmanager
async def serve(exporter: Exporter, host: str, port: int, request_s: float = REQUEST_S) -> AsyncIterator[str]:
    """Serve `exporter` while the block runs, and close both after it; gives the address, `http://…`.

    Port 0 takes any free port. The port is bound before the block begins.

    Raises:
        NotLoopback: `host` is not an address of this machine alone.
        PortTaken: somebody else listens there.
        ServeRefused: the system won't have it for another reason.
    """
    listener = listen(host, port)
    server = uvicorn.Server(_server_config(metrics_app(exporter), request_s))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup(sockets=[listener])
    ticker = asyncio.create_task(server.main_loop(), name="metrics endpoint")
    try:
        yield _address(listener)
    finally:
        exporter.close()
        ticker.cancel()
        await _stop(server, listener)


async def _stop(server: uvicorn.Server, listener: socket.socket) -> None:
    """Close idle connections at once, those being answered after the grace, then the listener."""
    stopping = asyncio.create_task(server.shutdown(sockets=[listener]), name="metrics endpoint stops")
    _, late = await asyncio.wait([stopping], timeout=STOP_GRACE_S)
    if late:
        for connection in list(server.server_state.connections):
            connection.transport.abort()
    await stopping


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on loopback; the caller closes it. Raises as `serve` does."""
    address = _loopback(host)
    listener = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
        listener.listen(CONNECTIONS_MAX)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"port {port} on {host} is taken by another program; give another with --set serve.port=N "
                "(0 takes any free one), or run with --no-serve"
            ) from error
        raise ServeRefused(f"can't listen on port {port} of {host}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise NotLoopback(f"{host!r} is not an address; metrics are served on 127.0.0.1 or ::1") from error
    if not address.is_loopback:
        raise NotLoopback(
            f"{host} can be reached from other machines, and metrics have no password; serve them on "
            "127.0.0.1 or ::1 and put a proxy in front if others must read them"
        )
    return address


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _server_config(app: Starlette, request_s: float) -> uvicorn.Config:
    class Connection(_BoundedConnection):
        limit_s = request_s

    return uvicorn.Config(
        app,
        loop="none",
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
    )


class _BoundedConnection(H11Protocol):
    """A connection that is cut `limit_s` seconds after it opened or was last answered.

    Uvicorn has a limit only between requests; one that is half sent, or an answer that nobody takes,
    would stay for ever.
    """

    limit_s: float
    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._restart_limit()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._restart_limit()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_limit()
        super().connection_lost(exc)

    def _restart_limit(self) -> None:
        self._end_limit()
        self._cut = self.loop.call_later(self.limit_s, self.transport.abort)

    def _end_limit(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
