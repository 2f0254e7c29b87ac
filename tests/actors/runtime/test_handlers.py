"""An actor class whose handlers and messages disagree is refused at its definition."""

import msgspec
import pytest

from actors.runtime import Actor, handles
from actors.runtime.handlers import reply_type
from contracts.request import Request


class Ping(msgspec.Struct, frozen=True):
    pass


class Reading(msgspec.Struct, frozen=True):
    value: float = 0.0


class Exact(Reading, frozen=True):
    pass


class Measure(msgspec.Struct, Request[Reading], frozen=True):
    pass


class Later(msgspec.Struct, Request["Reading"], frozen=True):
    pass


class Nothing(msgspec.Struct, Request[None], frozen=True):
    pass


def test_a_request_knows_its_reply() -> None:
    assert reply_type(Measure) is Reading
    assert reply_type(Later) is Reading
    assert reply_type(Nothing) is type(None)
    assert reply_type(Ping) is type(None)


def test_handlers_are_found_by_their_annotation() -> None:
    class Both(Actor[Ping | Measure | Later]):
        @handles
        async def ping(self, message: Ping) -> None: ...

        @handles
        async def measure(self, message: Measure | Later) -> Reading:
            return Exact()

    assert Both.handler_names == {Ping: "ping", Measure: "measure", Later: "measure"}


def test_a_subclass_may_override_a_handler_and_add_one() -> None:
    class Base(Actor[Ping]):
        @handles
        async def ping(self, message: Ping) -> None: ...

    class More(Base, Actor[Ping | Measure]):
        async def ping(self, message: Ping) -> None: ...

        @handles
        async def measure(self, message: Measure) -> Exact:
            return Exact()

    assert More.handler_names == {Ping: "ping", Measure: "measure"}


def test_a_request_handler_that_returns_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match=r"measure must be annotated `-> Reading` for Measure, not -> int"):

        class Wrong(Actor[Measure]):
            @handles
            async def measure(self, message: Measure) -> int:
                return 1


def test_a_tell_handler_that_returns_something_is_refused() -> None:
    with pytest.raises(TypeError, match=r"ping must be annotated `-> None` for Ping, not -> int"):

        class Wrong(Actor[Ping]):
            @handles
            async def ping(self, message: Ping) -> int:
                return 1


def test_a_handler_without_a_return_annotation_is_refused() -> None:
    with pytest.raises(TypeError, match="nothing annotated"):

        class Wrong(Actor[Ping]):
            @handles
            async def ping(self, message: Ping):  # type: ignore[no-untyped-def]
                return None


def test_a_message_without_a_handler_is_refused() -> None:
    with pytest.raises(TypeError, match="takes Measure but has no handler for it"):

        class Wrong(Actor[Ping | Measure]):
            @handles
            async def ping(self, message: Ping) -> None: ...


def test_a_handler_for_a_message_that_is_not_taken_is_refused() -> None:
    with pytest.raises(TypeError, match="handles Measure without taking it"):

        class Wrong(Actor[Ping]):
            @handles
            async def ping(self, message: Ping) -> None: ...

            @handles
            async def measure(self, message: Measure) -> Reading:
                return Reading()


def test_two_handlers_for_one_message_are_refused() -> None:
    with pytest.raises(TypeError, match="handles Ping twice: one and two"):

        class Wrong(Actor[Ping]):
            @handles
            async def one(self, message: Ping) -> None: ...

            @handles
            async def two(self, message: Ping) -> None: ...


def test_a_handler_that_is_not_async_is_refused() -> None:
    with pytest.raises(TypeError, match="not async; write `async def ping`"):

        class Wrong(Actor[Ping]):
            @handles  # type: ignore[type-var]
            def ping(self, message: Ping) -> None: ...


def test_a_handler_with_more_than_one_parameter_is_refused() -> None:
    with pytest.raises(TypeError, match="takes one annotated message besides self"):

        class Wrong(Actor[Ping]):
            @handles
            async def ping(self, message: Ping, extra: int) -> None: ...


def test_an_annotation_that_cannot_be_read_is_refused_with_its_name() -> None:
    with pytest.raises(TypeError, match="'Missing' is not defined; import the type at run time"):

        class Wrong(Actor[Ping]):
            @handles
            async def ping(self, message: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821
