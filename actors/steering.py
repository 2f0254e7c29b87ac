"""The door in the run's folder through which an operator of this machine steers it: `control.sock`.

Newline-delimited JSON over a Unix socket that its owner alone can open: one `Order` a line, one `Answer` a
line. What is no order is answered with why; lines, times and clients are bounded, and a client that does not
read is let go.
"""

import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec

from contracts.emergency import Answer, Order

SOCKET: Final = "control.sock"
LINE_BYTES_MAX: Final = 4096
"""Of an order."""
CLIENTS_MAX: Final = 4
IDLE_S: Final = 10.0
"""How long a client may take to say something, or to read."""
ORDERS_MAX: Final = 100
"""In one connection."""

_log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(Order).decode


class Steerable(Protocol):
    """Carries orders out; it answers in bounded time, and never raises."""

    async def carry_out(self, order: Order) -> Answer: ...


@contextmanager
def address(folder: Path) -> Iterator[str]:
    """A name of the socket in `folder` that is short enough, however long the folder's own is.

    A Unix socket's name has room for 107 bytes (unix(7)).

    Raises:
        OSError: the folder can't be opened.
    """
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)


@asynccontextmanager
async def steering(folder: Path, run: Steerable) -> AsyncIterator[None]:
    """Take orders while the block runs. Without a socket the run goes on: nobody can steer it then.

    The folder has to be the caller's alone: the socket of a run that is dead is replaced.
    """
    try:
        door = _listen(folder)
    except OSError as error:
        _log.warning("the run can't be steered: %s in %s: %s", SOCKET, folder, error)
        yield
        return
    desk = _Desk(run)
    made = os.stat(folder / SOCKET).st_ino
    server = await asyncio.start_unix_server(desk.serve, sock=door, limit=LINE_BYTES_MAX)
    try:
        yield
    finally:
        server.close()
        await desk.close()
        with suppress(OSError):
            if os.stat(folder / SOCKET).st_ino == made:
                os.unlink(folder / SOCKET)


def _listen(folder: Path) -> socket.socket:
    """
    Raises:
        OSError: there can be no socket in that folder.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(folder / SOCKET).st_mode):
            os.unlink(folder / SOCKET)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(
            door.fileno(), 0o600
        )  # on Linux the file gets the mode that the socket has when it is bound
        with address(folder) as name:
            door.bind(name)
        door.listen(CLIENTS_MAX)
        door.setblocking(False)
    except OSError:
        door.close()
        raise
    return door


class _Desk:
    """Serves a few clients at a time."""

    def __init__(self, run: Steerable) -> None:
        self._run = run
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, from its first line to its last."""
        task = asyncio.current_task()
        assert task is not None
        refusal = self._refusal(writer)
        self._serving.add(task)
        try:
            if refusal:
                await _say(writer, Answer(False, refusal))
            else:
                await self._converse(reader, writer)
        except (TimeoutError, OSError):
            pass  # it is gone, or as good as gone
        finally:
            self._serving.discard(task)
            if task.cancelling():
                writer.transport.abort()
            else:
                writer.close()

    async def close(self) -> None:
        """Let everyone go; who still waits for an answer gets none."""
        serving = set(self._serving)
        for task in serving:
            task.cancel()
        if serving:
            await asyncio.wait(serving)

    def _refusal(self, writer: asyncio.StreamWriter) -> str:
        """Why a client is not served; empty if it is."""
        if _user_of(writer.get_extra_info("socket")) not in (0, os.geteuid()):
            return "only the user who started the run may steer it"
        if len(self._serving) >= CLIENTS_MAX:
            return f"{CLIENTS_MAX} others steer this run already; try again"
        return ""

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(ORDERS_MAX):
            try:
                async with asyncio.timeout(IDLE_S):
                    line = await reader.readline()
            except ValueError:
                await _say(writer, Answer(False, f"a line has at most {LINE_BYTES_MAX} bytes"))
                return
            if not line:
                return
            await _say(writer, await self._answer(line))

    async def _answer(self, line: bytes) -> Answer:
        try:
            order = _decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return Answer(False, f"that is no order: {error}")
        return await self._run.carry_out(order)


async def _say(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(msgspec.json.encode(answer) + b"\n")
    async with asyncio.timeout(IDLE_S):
        await writer.drain()


def _user_of(peer: socket.socket) -> int:
    """The user at the other end, as the kernel has it (SO_PEERCRED of unix(7))."""
    _, user, _ = struct.unpack(
        "3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return int(user)
