"""What is said of a server that can't be had: true to what answers there, and never a password."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socket import create_server

import pytest

from actors.oona.errors import BusUnfitError, UnreachableError
from actors.oona.redis import advice
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.server import check_server
from tests.actors.oona.patience import PATIENT
from tests.actors.oona.redis_server import RedisServer

PASSWORD = "sesame"


def said(address: str, error: type[Exception], options: RedisOptions = PATIENT) -> str:
    """Why there is no bus at this address."""
    with pytest.raises(error) as caught:
        asyncio.run(check_server(address, options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """Where something answers so, once."""
    with create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_something_else_that_answers_is_no_place_to_start_a_redis() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as place:
        told = said(f"redis://{place}", UnreachableError)
    assert told == f"something that is not a Redis answers at redis://{place}; give another address"


def test_who_asks_for_tls_or_not_is_told_of_the_other() -> None:
    with answering(b"-ERR no TLS here, and this is longer than a record's head\r\n") as place:
        told = said(f"rediss://{place}", UnreachableError)
    assert "the answer is not TLS; does it speak TLS? redis:// is without" in told
    with answering(b"\x15\x03\x03\x00\x02\x02\x16\r\n") as place:
        assert "does it speak TLS? that is rediss://" in said(f"redis://{place}", UnreachableError)


def test_a_plain_server_that_does_not_answer_tls_may_not_speak_it(redis_server: RedisServer) -> None:
    told = said(redis_server.address.replace("redis://", "rediss://"), UnreachableError, RedisOptions())
    assert told.endswith("does it speak TLS? redis:// is without")


def test_a_database_that_is_not_there_is_named(redis_server: RedisServer) -> None:
    told = said(f"redis://127.0.0.1:{redis_server.port}/99", UnreachableError)
    assert "has no database 99;" in told
    assert "start one" not in told


def test_a_refused_connection_is_said_in_words() -> None:
    told = said("redis://127.0.0.1:1", UnreachableError)
    assert "at redis://127.0.0.1:1: connection refused; start one there" in told
    assert "no Redis can be reached at unix:///nowhere.sock: No such file" in said(
        "unix:///nowhere.sock", UnreachableError
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("Error 111 connecting to h:1. Connect call failed ('127.0.0.1', 1)", "connection refused"),
        ("Error 111 connecting to 10.0.0.9:1. Connect call failed ('10.0.0.9', 1)", "connection refused"),
        (
            "Error connecting to h:1. Multiple exceptions: [Errno 111] Connect call failed ('::1', 1)",
            "connection refused",
        ),
        ("Error -2 connecting to nohost:1. Name or service not known", "Name or service not known"),
        ("no answer within 0.5 s", "no answer within 0.5 s"),
    ],
)
def test_a_reason_is_without_numbers_and_without_what_the_address_says(words: str, why: str) -> None:
    assert advice.reason(words) == why


@pytest.fixture(scope="module")
def locked() -> Iterator[RedisServer]:
    with RedisServer(requirepass=PASSWORD) as server:
        server.execute("ACL", "SETUSER", "ali", "on", ">cave", "+@all", "~*")
        yield server


@pytest.mark.parametrize(
    ("login", "told"),
    [
        ("", "wants a password; put it into the address: redis://:password@host:port"),
        (":wrong@", "put the right one into the address: redis://:password@host:port"),
        ("ali:wrong@", "put the right one into the address: redis://ali:password@host:port"),
        ("wrong@", "refuses a login without a password (invalid username-password pair or user is disabled); "
         "put both into the address: redis://user:password@host:port"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("database", [0, 1])
def test_a_password_is_asked_for_as_the_server_wants_it(
    login: str, told: str, database: int, locked: RedisServer
) -> None:
    text = said(f"redis://{login}127.0.0.1:{locked.port}/{database}", BusUnfitError)
    assert text.endswith(told)
    assert "wrong" not in text


def test_a_password_that_no_server_needs_is_to_be_taken_out(redis_server: RedisServer) -> None:
    text = said(f"redis://:wrong@127.0.0.1:{redis_server.port}/0", BusUnfitError)
    assert text.endswith("needs no password; take it out of the address")
    assert "wrong" not in text
