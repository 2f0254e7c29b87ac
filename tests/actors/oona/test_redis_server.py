"""The server that the tests break: it breaks as told, and is gone afterwards."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.actors.oona.redis_server import READY_S, RedisServer
from tests.actors.oona.resp import ReplyError, Resp

ROOT = Path(__file__).parents[3]


def gone(pid: int) -> bool:
    """Dead, though perhaps nobody has asked for its exit code yet."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return told.rpartition(")")[2].split()[0] == "Z"


def test_it_listens_on_this_machine_alone_and_keeps_what_it_is_told(redis_server: RedisServer) -> None:
    assert redis_server.address == f"redis://127.0.0.1:{redis_server.port}/0"
    assert redis_server.version >= (6, 2)
    settings = {"bind": b"127.0.0.1", "protected-mode": b"yes", "appendonly": b"yes", "save": b""}
    for name, value in {**settings, "appendfsync": b"everysec"}.items():
        assert redis_server.execute("CONFIG", "GET", name) == [name.encode(), value]
    assert redis_server.used_memory() > 100_000


def test_killed_it_refuses_connections_and_restarted_it_has_its_data_or_not(own_redis: RedisServer) -> None:
    port, pid = own_redis.port, own_redis.pid
    own_redis.execute("SET", "x", "kept")
    own_redis.kill()
    assert gone(pid)
    with pytest.raises(ConnectionRefusedError):
        Resp(port)
    own_redis.restart(keep_data=True)
    assert own_redis.port == port
    assert own_redis.execute("GET", "x") == b"kept"
    own_redis.restart(keep_data=False)
    assert own_redis.execute("GET", "x") is None


def test_it_can_be_put_back_to_older_data(own_redis: RedisServer) -> None:
    own_redis.execute("SET", "x", "old")
    copy = own_redis.copy_data()
    own_redis.execute("SET", "x", "new")
    own_redis.execute("SET", "y", "new")
    own_redis.restart_from(copy)
    assert own_redis.execute("MGET", "x", "y") == [b"old", None]
    own_redis.stop()
    assert not copy.exists()


def test_paused_it_takes_connections_but_answers_only_when_resumed(own_redis: RedisServer) -> None:
    own_redis.pause()
    with Resp(own_redis.port, answer_s=0.1) as outside, pytest.raises(TimeoutError):
        outside.execute("PING")
    own_redis.resume()
    with Resp(own_redis.port) as outside:
        assert outside.execute("PING") == b"PONG"


def test_a_setting_holds_also_after_a_restart_and_does_not_lock_the_test_out(own_redis: RedisServer) -> None:
    own_redis.config("requirepass", "secret")
    for _ in range(2):
        with Resp(own_redis.port) as outside, pytest.raises(ReplyError, match="NOAUTH"):
            outside.execute("PING")
        assert own_redis.execute("PING") == b"PONG"
        own_redis.restart()


@pytest.mark.parametrize("state", ["running", "paused", "killed"])
def test_stopped_it_leaves_nothing_behind(state: str) -> None:
    with RedisServer() as server:
        pid, folder = server.pid, Path(f"/proc/{server.pid}/cwd").readlink()
        if state == "paused":
            server.pause()
        elif state == "killed":
            server.kill()
    assert gone(pid)
    assert not folder.exists()


@pytest.mark.parametrize("end", ["raise SystemError", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_server_that_nobody_stopped_ends_with_the_process_that_started_it(end: str) -> None:
    program = (
        "import os, signal\n"
        "from tests.actors.oona.redis_server import RedisServer\n"
        "kept = RedisServer()\n"
        "print(kept.pid, flush=True)\n"
        f"{end}\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60.0
    )
    assert made.returncode != 0
    pid = int(made.stdout)
    end_s = time.monotonic() + READY_S
    while not gone(pid) and time.monotonic() < end_s:
        time.sleep(0.005)
    assert gone(pid)


def test_a_server_that_does_not_start_fails_with_what_it_said() -> None:
    with pytest.raises(AssertionError, match=r"did not answer on port \d+; it said:\n(?s:.)*no-such-setting"):
        RedisServer(**{"no-such-setting": "1"})
