"""Which handler takes which message: read once from the annotations when an actor class is made.

An actor class whose handlers and declared messages disagree is a `TypeError` at its definition, not a
surprise at the first message.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

from contracts.request import Request

# A handler takes its actor and its message. Their types differ from entry to entry of the table that
# holds them, which is what `Any` stands for; the table is filled from the annotations, checked below.
Handler = Callable[[Any, Any], Coroutine[Any, Any, object]]
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, object]])

_MARK = "__takes_messages__"


def handles(method: F) -> F:
    """Mark an async method as the handler of the messages named in its one parameter's annotation.

    The handler of a `Request[R]` is annotated to return `R`, every other to return None.
    """
    setattr(method, _MARK, True)
    return method


def handler_names(actor: type) -> dict[type, str]:
    """Message type → name of the method that handles it; `TypeError` if a handler is not sound."""
    found: dict[type, str] = {}
    for name in _marked(actor):
        for message in _messages(actor, name):
            if message in found:
                raise TypeError(
                    f"{actor.__qualname__} handles {message.__qualname__} twice: {found[message]} and {name}"
                )
            found[message] = name
    return found


def check_declared(actor: type, declared: object, found: Mapping[type, str]) -> None:
    """Raise `TypeError` unless the messages in `Actor[…]` are those that have a handler."""
    wanted = _alternatives(declared)
    if wanted is None:
        return
    missing = [message.__qualname__ for message in wanted if message not in found]
    extra = [message.__qualname__ for message in found if message not in wanted]
    if missing:
        raise TypeError(f"{actor.__qualname__} takes {', '.join(missing)} but has no handler for it; add one")
    if extra:
        raise TypeError(
            f"{actor.__qualname__} handles {', '.join(extra)} without taking it; add it to Actor[…]"
        )


def _marked(actor: type) -> list[str]:
    """Names of handler methods, base classes first; an override counts as its base's handler."""
    names: dict[str, None] = {}
    for base in reversed(actor.__mro__):
        for name, value in vars(base).items():
            if getattr(value, _MARK, False):
                names[name] = None
    return list(names)


def _messages(actor: type, name: str) -> list[type]:
    method = getattr(actor, name)
    where = f"{actor.__qualname__}.{name}"
    if not inspect.iscoroutinefunction(method):
        raise TypeError(f"{where} can't handle messages: it is not async; write `async def {name}`")
    hints = _hints(method, where)
    reply = hints.pop("return", _MISSING)
    if len(hints) != 1 or method.__code__.co_argcount != 2 or method.__code__.co_kwonlyargcount:
        raise TypeError(f"{where} takes one annotated message besides self, for example `message: Observe`")
    messages = _alternatives(next(iter(hints.values())))
    if messages is None:
        raise TypeError(f"{where} takes a message class or a union of them, not a type variable")
    for message in messages:
        _check_reply(where, message, reply)
    return messages


_MISSING = object()


def _check_reply(where: str, message: type, reply: object) -> None:
    owed = reply_type(message)
    if reply == owed:
        return
    if isinstance(reply, type) and isinstance(owed, type) and issubclass(reply, owed):
        return
    given = "nothing annotated" if reply is _MISSING else f"-> {_name(reply)}"
    raise TypeError(f"{where} must be annotated `-> {_name(owed)}` for {message.__qualname__}, not {given}")


def reply_type(message: type) -> object:
    """`R` if the message is a `Request[R]`, else `NoneType`: a tell is owed nothing."""
    for base in message.__mro__:
        for generic in vars(base).get("__orig_bases__", ()):
            if get_origin(generic) is Request:
                return _resolved(get_args(generic)[0], base)
    return types.NoneType


def _resolved(reply: object, where: type) -> object:
    """`reply` with a forward reference looked up in the module that wrote it, and None as its type."""
    annotated = types.SimpleNamespace(__annotations__={"reply": reply})
    return typing.get_type_hints(annotated, globalns=vars(sys.modules[where.__module__]))["reply"]


def _hints(method: Callable[..., object], where: str) -> dict[str, object]:
    try:
        return typing.get_type_hints(method)
    except NameError as error:
        raise TypeError(
            f"the annotations of {where} can't be read: {error}; import the type at run time, at module level"
        ) from error


def _alternatives(annotation: object) -> list[type] | None:
    """The classes in a union or a single class; None where a type variable leaves it open."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    if any(isinstance(part, TypeVar) for part in parts):
        return None
    for part in parts:
        if not isinstance(part, type):
            raise TypeError(f"{part!r} is no message class; messages are dispatched by their exact class")
    return list(parts)


def _name(annotation: object) -> str:
    if annotation is types.NoneType:
        return "None"
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
