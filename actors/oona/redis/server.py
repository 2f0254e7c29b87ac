"""Whether a server can carry the bus, and what we have to know of it."""

from typing import Final, NamedTuple

from actors.oona.errors import BusUnfitError, UnreachableError
from actors.oona.redis import advice
from actors.oona.redis.address import Address
from actors.oona.redis.connection import Exchange, LostError, ServerError
from actors.oona.redis.options import RedisOptions
from contracts.address import masked

OLDEST: Final = (6, 2)
"""Version of Redis that has all that the bus needs."""


class Facts(NamedTuple):
    """What a server says of itself."""

    run_id: str
    """Another one means that it was started again."""
    now_s: float
    """Its time, seconds since 1970."""


async def facts(exchange: Exchange, address: Address) -> Facts:
    """Raises BusUnfitError, or LostError."""
    try:
        told = _fields(await exchange.ask("INFO", "server")) | _fields(await exchange.ask("INFO", "memory"))
        now = await exchange.ask("TIME")
    except ServerError as error:
        raise _unfit(address, error) from None
    _check(address, told)
    assert isinstance(now, list)
    seconds, micros = (int(each) for each in now if isinstance(each, bytes))
    return Facts(told["run_id"], seconds + micros / 1e6)


async def check_server(address: str, options: RedisOptions | None = None) -> None:
    """Whether a bus could be opened there; changes nothing.

    Raises UnreachableError or BusUnfitError within its deadline; neither names a password."""
    options = RedisOptions() if options is None else options
    where = Address(address)
    exchange = Exchange(where, options)
    try:
        await _connect(exchange, where)
        await facts(exchange, where)
    except LostError as error:
        raise unreachable(where, error) from None
    finally:
        exchange.cut()


def unreachable(address: Address, error: LostError) -> UnreachableError:
    return UnreachableError(advice.absent(address, str(error)))


async def _connect(exchange: Exchange, address: Address) -> None:
    try:
        await exchange.connect()
    except BusUnfitError as error:
        raise BusUnfitError(advice.locked(address, _cause(error))) from None


def _cause(error: BusUnfitError) -> str:
    """What the server itself said."""
    return masked(str(error.__context__ or error).strip().rstrip("."))


def _fields(info: object) -> dict[str, str]:
    assert isinstance(info, bytes)
    lines = info.decode("utf-8", "replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _check(address: Address, told: dict[str, str]) -> None:
    version = told.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise BusUnfitError(f"{address.shown} is a Redis {version}; the bus needs {wanted} or later")
    policy = told.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise BusUnfitError(
            f"{address.shown} would throw messages away when its memory is full (maxmemory-policy {policy}); "
            "set it to noeviction: redis-cli CONFIG SET maxmemory-policy noeviction"
        )


def _unfit(address: Address, error: ServerError) -> BusUnfitError:
    if not address.has_password and "Authentication required" in str(error):
        return BusUnfitError(advice.locked(address, str(error)))
    return BusUnfitError(
        f"{address.shown} refuses what the bus needs ({error}); give it a login that may run scripts and "
        "INFO, in the address: redis://user:password@host:port"
    )
