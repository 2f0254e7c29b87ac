"""The bell: a connection of its own on which the server says that something came to wait, that room came
free, or that a new signature is wanted.

It may miss a ring; the bus's ticks are the net beneath. It has no timeout: what does not ring says nothing.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from actors.oona.redis.address import Address
from actors.oona.redis.options import RedisOptions

MESSAGE: Final = "m"
ROOM: Final = "r"
ANEW: Final = "s"


class Bell:
    """`on_ring` gets `m`, `r` or `s` and the topic; `on_all` is called when rings may have been missed."""

    def __init__(
        self,
        address: Address,
        channel: str,
        options: RedisOptions,
        on_ring: Callable[[str, str], None],
        on_all: Callable[[], None],
    ) -> None:
        self.rings = 0
        self._address = address
        self._channel = channel
        self._options = options
        self._on_ring = on_ring
        self._on_all = on_all
        self._connection: AbstractConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    async def open(self) -> None:
        """Begin, and wait a moment until it is heard; it goes on trying by itself."""
        self._task = asyncio.create_task(self._run(), name="the bus's bell")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._listening.wait(), self._options.deadline_s)

    def renew(self) -> None:
        """The server was lost: this connection may be dead without a sign."""
        connection = self._connection
        if connection is not None and connection._writer is not None:
            connection._writer.transport.abort()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        rest_s = self._options.backoff_first_s
        while True:
            self._connection = self._address.connection()
            try:
                async with asyncio.timeout(2 * self._options.deadline_s):
                    await self._subscribe(self._connection)
                rest_s = self._options.backoff_first_s
                self._listening.set()
                self._on_all()
                while True:
                    self._heard(await self._connection.read_response(disable_decoding=True, timeout=math.inf))
            except (RedisError, OSError):
                pass
            finally:
                self._cut(self._connection)
            await asyncio.sleep(rest_s)
            rest_s = min(2 * rest_s, self._options.backoff_max_s)

    async def _subscribe(self, connection: AbstractConnection) -> None:
        await connection.connect()  # type: ignore[no-untyped-call]
        await connection.send_command("SUBSCRIBE", self._channel, check_health=False)
        await connection.read_response(disable_decoding=True, timeout=math.inf)

    def _heard(self, said: object) -> None:
        if not isinstance(said, list) or said[0] != b"message":
            return
        self.rings += 1
        kind, _, topic = said[2].decode("utf-8", "replace").partition(" ")
        self._on_ring(kind, topic)

    def _cut(self, connection: AbstractConnection) -> None:
        if connection._writer is not None:
            connection._writer.transport.abort()
        connection._close()  # type: ignore[no-untyped-call]
