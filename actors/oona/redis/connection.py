"""One connection to the server. Commands are answered in their order, and each has a deadline.

An exchange is never cancelled half-way. When its deadline passes the connection is cut, so that who waits for
the answer gets an error instead, and nobody uses the connection again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from redis.exceptions import AuthenticationError, BusyLoadingError, NoScriptError, RedisError, ResponseError

from actors.oona.errors import BusUnfitError
from actors.oona.redis.address import Address
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.wire import pack
from contracts.address import masked

Answer: TypeAlias = "bytes | int | list[Answer] | None"
STOOD_STILL: Final = 0.2
"""Share of the slack by which a timer comes too late if this process stood still."""


class LostError(Exception):
    """The connection is gone, or could not be made; says why."""


class LateError(LostError):
    """No answer came in time."""


class LoadingError(LostError):
    """The server is there and still loads its data."""


class ServerError(Exception):
    """The server answered with an error; the connection is sound."""


class ScriptGoneError(ServerError):
    """The server does not know the script of that name (any longer); nothing was executed."""


class Exchange:
    """Raises LostError, after which it is of no more use, and ServerError."""

    def __init__(self, address: Address, options: RedisOptions) -> None:
        self._address = address
        self._options = options
        self._connection = address.connection()
        self._transport: asyncio.WriteTransport | None = None
        self._due_s: deque[float] = deque()  # of all that is not answered yet
        self._timer: asyncio.TimerHandle | None = None  # for the first of them
        self._late = False  # whether this process stood still when the deadline passed
        self._overdue = False

    async def connect(self) -> None:
        """Raises LostError or, if the server won't have us, BusUnfitError."""
        try:
            async with in_time(self._options):
                await self._connection.connect()  # type: ignore[no-untyped-call]
        except AuthenticationError as error:
            raise BusUnfitError(
                f"{self._address.shown} refuses the password ({_said(error)}); put the right one into the "
                "address: redis://:password@host:port"
            ) from None
        except BusyLoadingError:
            raise LoadingError("it still loads its data") from None
        except TimeoutError:
            raise LostError(f"no answer within {self._options.deadline_s:g} s") from None
        except (RedisError, OSError) as error:
            raise LostError(_said(error)) from None
        writer = self._connection._writer
        assert writer is not None
        self._transport = writer.transport

    async def ask(self, *command: str | bytes | int) -> Answer:
        """One command and its answer."""
        self.begin(pack(command))
        return await self.end()

    def begin(self, packed: bytes) -> None:
        """Send one command, packed; for each there must be an `end`."""
        writer = self._connection._writer
        if writer is not None:
            writer.write(packed)
        loop = asyncio.get_running_loop()
        self._due_s.append(loop.time() + self._options.deadline_s)
        if self._timer is None:
            self._watch(loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._late = False
        self._timer = loop.call_at(self._due_s[0], self._deadline, loop, self._due_s[0])

    def _answered(self) -> None:
        """The first of all that was begun came to its end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due_s.popleft()
        if self._due_s:
            self._watch(asyncio.get_running_loop())

    async def end(self) -> Answer:
        """The answer to the first of what was begun and has no answer yet."""
        connection = self._connection
        try:
            if connection._writer is None:
                raise LostError("the connection is closed")
            await connection._writer.drain()
            return await connection.read_response(disable_decoding=True)  # type: ignore[no-any-return]
        except BusyLoadingError:
            raise LoadingError("it still loads its data") from None
        except NoScriptError as error:
            raise ScriptGoneError(_said(error)) from None
        except (ResponseError, AuthenticationError) as error:
            raise ServerError(_said(error)) from None
        except (RedisError, OSError) as error:
            if self._overdue:
                raise LateError(f"no answer within {self._options.deadline_s:g} s") from None
            raise LostError(_said(error)) from None
        finally:
            self._answered()

    def cut(self) -> None:
        """Throw the connection away, at once, whatever is on its way."""
        if self._transport is not None:
            self._transport.abort()
        self._connection._close()  # type: ignore[no-untyped-call]
        if self._timer is not None:
            self._timer.cancel()

    def _deadline(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        """Cut; but if it was us who were late, leave time to read an answer that lies there already."""
        if not self._late and _stood_still(loop.time() - due_s, self._options):
            self._late = True
            self._timer = loop.call_later(self._options.slack_s, self._deadline, loop, due_s)
            return
        self._overdue = True
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def in_time(options: RedisOptions) -> AsyncIterator[None]:
    """The block has until the deadline, and the slack too if it was this process that was late.

    Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    due_s = loop.time() + options.deadline_s
    async with asyncio.timeout(None) as limit:

        def due() -> None:
            now_s = loop.time()
            limit.reschedule(now_s + (options.slack_s if _stood_still(now_s - due_s, options) else 0.0))

        timer = loop.call_at(due_s, due)
        try:
            yield
        finally:
            timer.cancel()


def _stood_still(late_s: float, options: RedisOptions) -> bool:
    """Whether a timer that came so late says that this process could not go on."""
    return late_s > STOOD_STILL * options.slack_s


def _said(error: Exception) -> str:
    return masked(str(error).strip().rstrip(".") or type(error).__name__)
