"""Where the server is, shown without its password."""

from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    parse_url,
)

from actors.oona.errors import BusUnfitError
from contracts.address import escaping_hint, masked

FORMS: Final = "redis://host:port/db, rediss://host:port/db or unix:///path"


class Address:
    """Raises BusUnfitError if it makes no sense. `shown` holds no password."""

    def __init__(self, text: str) -> None:
        self.shown = masked(text)
        try:
            self._settings = dict(parse_url(text))
            kind = self._settings.pop("connection_class", Connection)
            assert isinstance(kind, type)
            self._kind: Callable[..., AbstractConnection] = kind
            self.connection()
        except (ValueError, TypeError) as error:
            reason = masked(str(error))
            raise BusUnfitError(
                f"{self.shown} is no address of a Redis ({reason}); it takes {FORMS}{escaping_hint(text)}"
            ) from None

        self._scheme = text.partition("://")[0].lower()

    @property
    def tls(self) -> bool:
        return self._scheme == "rediss"

    @property
    def database(self) -> int:
        return int(str(self._settings.get("db") or 0))

    @property
    def has_password(self) -> bool:
        return bool(self._settings.get("password"))

    @property
    def login_form(self) -> str:
        """How an address with a password looks; a name without one is not shown: it may be the password."""
        user = str(self._settings.get("username") or "")
        user = quote(user, safe="") if self.has_password else user and "user"
        return f"{self._scheme}://{user}:password@{'/path' if self._scheme == 'unix' else 'host:port'}"

    def connection(self) -> AbstractConnection:
        """A new one, not yet connected: no retries, no health checks and no timeouts; who connects has a
        deadline of its own."""
        return self._kind(
            **{
                **self._settings,
                "socket_timeout": None,
                "socket_connect_timeout": None,
                "retry": None,
                "retry_on_timeout": False,
                "health_check_interval": 0,
                "protocol": 2,
                "driver_info": None,
                "decode_responses": False,
            }
        )
