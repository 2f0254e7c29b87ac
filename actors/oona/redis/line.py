"""The command connection itself: made, given the script, thrown away, and made again after a rest."""

import asyncio
from contextlib import suppress
from typing import Final

from actors.oona.errors import BusUnfitError
from actors.oona.redis.address import Address
from actors.oona.redis.connection import Exchange, LoadingError, LostError, ServerError
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.script import SCRIPT
from actors.oona.redis.server import Facts, facts

_DOUBLINGS_MAX: Final = 30


class Line:
    """`exchange` is the connection, if there is one; `sha` names the script on the server."""

    def __init__(self, address: Address, options: RedisOptions) -> None:
        self.exchange: Exchange | None = None
        self.sha = ""
        self._address = address
        self._options = options
        self._tries = 0
        self._ending = asyncio.Event()

    async def make(self) -> Facts:
        """For the first time; waits for a server that loads its data, but for no other.

        Raises LostError or BusUnfitError."""
        until_s = asyncio.get_running_loop().time() + self._options.loading_wait_s
        while True:
            try:
                return await self._made()
            except LoadingError:
                self.cut()
                if asyncio.get_running_loop().time() >= until_s or self._ending.is_set():
                    raise
                await asyncio.sleep(self._options.backoff_first_s)
            except BaseException:
                self.cut()
                raise

    async def make_again(self) -> Facts | None:
        """After a rest, longer with each try; None if it came to its end. Raises LostError."""
        rest_s = min(self._options.backoff_first_s * 2**self._tries, self._options.backoff_max_s)
        self._tries = min(self._tries + 1, _DOUBLINGS_MAX)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), rest_s)
        if self._ending.is_set():
            return None
        try:
            return await self._made()
        except BusUnfitError as error:
            raise LostError(str(error)) from None

    def holds(self) -> None:
        """All is well with it: the next rest is a short one."""
        self._tries = 0

    async def bring_script(self) -> None:
        """Raises LostError."""
        assert self.exchange is not None
        try:
            sha = await self.exchange.ask("SCRIPT", "LOAD", SCRIPT)
        except ServerError as error:
            raise LostError(f"it does not take the bus's script: {error}") from None
        assert isinstance(sha, bytes)
        self.sha = sha.decode()

    def cut(self) -> None:
        """Throw the connection away, if there is one."""
        if self.exchange is not None:
            self.exchange.cut()
            self.exchange = None

    def end(self) -> None:
        """Who waits for an answer gets an error; it is not made again."""
        self._ending.set()
        if self.exchange is not None:
            self.exchange.cut()

    async def _made(self) -> Facts:
        self.exchange = Exchange(self._address, self._options)
        await self.exchange.connect()
        told = await facts(self.exchange, self._address)
        await self.bring_script()
        return told
