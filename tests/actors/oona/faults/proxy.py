"""A slow or torn line between the bus and its server. It changes no byte and repeats none.

A connection that lost a byte carries nothing after it, as with TCP; but for `lose_answer`, which is there to
show that the bus would notice.
"""

import asyncio
import random
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import hiredis

_PIECE_BYTES: Final = 4096
_RING: Final = b"*3\r\n$7\r\nmessage\r\n"  # what a subscriber gets is no answer


class Proxy:
    """TCP from a port of its own to the server's. Its settings may change at any moment.

    What is set holds for what the server answers; what goes to the server passes untouched.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.delay_s = 0.0
        """Before each piece of an answer."""
        self.bytes_per_s: float | None = None
        self.swallow = False
        """Answers vanish, the connection stays: the server has done what nobody hears of. A connection that
        lost something ends with the first answer after it is False again."""
        self.cut_after_bytes: int | None = None
        """The next answer breaks off after so many bytes, and the connection with it; then None again."""
        self.cut_after_answer = False
        """The connection ends behind the next whole answer; then False again."""
        self.lose_answer = False
        """The next whole answer vanishes, and what comes behind it passes; then False again."""
        self.refuse = False
        """New connections are closed at once."""
        self.connections = 0

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Every connection breaks."""
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        self.cut()
        for line in list(self._lines):
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await self._listener.wait_closed()

    async def _join(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        self._writers.add(back)
        try:
            with suppress(asyncio.CancelledError):  # the proxy ends; asyncio's own callback takes it ill
                await self._carry(here, back)
        finally:
            self._lines.discard(task)
            self._writers.discard(back)
            back.transport.abort()

    async def _carry(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        if self.refuse:
            return
        self.connections += 1
        try:
            there, forth = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            return
        self._writers.add(forth)
        try:
            ways = [
                asyncio.create_task(self._forth(here, forth)),
                asyncio.create_task(self._back(there, back)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._writers.discard(forth)
            forth.transport.abort()

    async def _forth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                writer.write(piece)
                await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        swallowed, held = False, b""
        with suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self.bytes_per_s:
                    await asyncio.sleep(len(piece) / self.bytes_per_s)
                if self.swallow:
                    swallowed = True
                    continue
                if swallowed:
                    return
                if (self.cut_after_answer or self.lose_answer) and not piece.startswith(_RING):
                    held += piece
                    end = _end_of_answer(held)
                    if end is None:
                        continue
                    if self.cut_after_answer:
                        self.cut_after_answer = False
                        await _end_with(held[:end], writer)
                    piece, held, self.lose_answer = held[end:], b"", False
                if self.cut_after_bytes is not None and not piece.startswith(_RING):
                    if len(piece) >= self.cut_after_bytes:
                        writer.write(piece[: self.cut_after_bytes])
                        self.cut_after_bytes = None
                        await writer.drain()
                        return
                    self.cut_after_bytes -= len(piece)
                writer.write(piece)
                await writer.drain()


def _end_of_answer(data: bytes) -> int | None:
    """How long the first whole answer is; None if there is none yet."""
    reader = hiredis.Reader()
    for at in range(len(data)):
        reader.feed(data[at : at + 1])
        if reader.gets() is not False:
            return at + 1
    return None


async def _end_with(answer: bytes, writer: asyncio.StreamWriter) -> None:
    """The last bytes of a connection; returns no more, the other side hangs up."""
    writer.write(answer)
    writer.write_eof()
    await asyncio.get_running_loop().create_future()


async def mishap(proxy: Proxy, rng: random.Random) -> None:
    """One of what a line can do, and then it is well again."""
    match rng.randrange(5):
        case 0:
            proxy.cut()
        case 1:
            proxy.cut_after_bytes = rng.randrange(1, 200)
        case 2:
            proxy.swallow = True
            await asyncio.sleep(rng.uniform(0.0, 0.3))
            proxy.swallow = False
        case 3:
            proxy.delay_s = rng.uniform(0.0, 0.3)
            await asyncio.sleep(0.1)
            proxy.delay_s = 0.0
        case _:
            proxy.bytes_per_s = 20_000
            await asyncio.sleep(0.1)
            proxy.bytes_per_s = None
