"""The registry of runs on a Redis: which there are, which of them live, and what they say of themselves.

Keys, beside those of the runs' own buses:

    esper:runs               sorted set of run ids by their start, seconds since the epoch
    esper:runs:<id>          the run's entry as JSON; goes a day after the last sign of life
    esper:runs:<id>:alive    there while the run lives: it goes `ALIVE_S` after the last sign of life

Every sign of life writes all three, so a server that lost its data knows of the run again a moment later.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from actors.oona.errors import UnreachableError
from actors.oona.redis import advice
from contracts.address import masked
from contracts.registry import ListedRun, RunEntry

Word: TypeAlias = str | bytes | int | float

INDEX: Final = "esper:runs"
KEPT_S: Final = 86_400
"""Seconds that an entry outlives its run's last sign of life."""
ALIVE_S: Final = 5.0
"""Seconds without a sign of life after which a run counts as gone."""
RUNS_MAX: Final = 1_000
"""Newest runs that the index keeps."""
LISTED_MAX: Final = 50
"""Newest runs that `runs` gives."""
DEADLINE_S: Final = 0.5
"""Seconds for each answer of the server."""


class RunRegistry:
    """One client of the registry. Used by one task; each call is back within a few deadlines."""

    def __init__(self, address: str) -> None:
        self._shown = masked(address)
        self._redis = Redis.from_url(
            address,
            socket_timeout=DEADLINE_S,
            socket_connect_timeout=DEADLINE_S,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
        )

    async def put(self, entry: RunEntry) -> None:
        """A sign of life of a run, or its end.

        Raises:
            UnreachableError: the server can't be reached or does not take it.
        """
        key, alive = _key(entry.run_id), _alive(entry.run_id)
        living = ("SET", alive, b"1", "PX", int(ALIVE_S * 1e3)) if entry.ended is None else ("DEL", alive)
        await self._ask(
            ("SET", key, msgspec.json.encode(entry), "EX", KEPT_S),
            living,
            ("ZADD", INDEX, entry.started_ns / 1e9, entry.run_id),
            ("ZREMRANGEBYRANK", INDEX, 0, -RUNS_MAX - 1),
            ("EXPIRE", INDEX, KEPT_S),
        )

    async def runs(self) -> Sequence[ListedRun]:
        """The newest runs, newest first; entries that this version can't read are left out.

        Raises:
            UnreachableError: the server can't be reached or does not answer.
        """
        (answer,) = await self._ask(("ZREVRANGE", INDEX, 0, LISTED_MAX - 1))
        return await self._listed([run_id.decode(errors="replace") for run_id in _texts(answer) if run_id])

    async def find(self, run_id: str) -> ListedRun | None:
        """The run of exactly this id, if there is one.

        Raises:
            UnreachableError: the server can't be reached or does not answer.
        """
        return next(iter(await self._listed([run_id])), None)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _listed(self, run_ids: Sequence[str]) -> list[ListedRun]:
        if not run_ids:
            return []
        found, alive = await self._ask(
            ("MGET", *map(_key, run_ids)), ("MGET", *(_alive(run_id) for run_id in run_ids))
        )
        entries = (_entry(text) if text is not None else None for text in _texts(found))
        return [
            ListedRun(entry, life is not None)
            for entry, life in zip(entries, _texts(alive), strict=True)
            if entry is not None
        ]

    async def _ask(self, *commands: tuple[Word, ...]) -> list[object]:
        """The answers to these commands, sent together."""
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return await pipe.execute()
        except (RedisError, OSError) as error:
            raise UnreachableError(f"Redis at {self._shown}: {advice.reason(_words(error))}") from None


def _words(error: Exception) -> str:
    """What a driver's error says; it never says the password."""
    return str(error).rstrip(".") or type(error).__name__


def _key(run_id: str) -> str:
    return f"{INDEX}:{run_id}"


def _alive(run_id: str) -> str:
    return f"{_key(run_id)}:alive"


def _texts(answer: object) -> list[bytes | None]:
    return msgspec.convert(answer, list[bytes | None])


def _entry(text: bytes) -> RunEntry | None:
    try:
        return msgspec.json.decode(text, type=RunEntry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
