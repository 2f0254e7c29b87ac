"""The pulse of a training thread: whoever watches it from outside sees that it works, or hangs.

What takes long and does so in pieces (a step, a chunk of validation data, a measurement of a seed) calls
`beat` at each piece. It beats for the trainer that is at work in the calling thread, if there is one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Pulse:
    """Counts the beats of one trainer's work; one thread works, any may look."""

    def __init__(self) -> None:
        self._count = 0
        self._depth = 0

    @property
    def count(self) -> int | None:
        """Rises while there is work and it goes on; None while there is none."""
        return self._count if self._depth else None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """What is done inside beats for this pulse."""
        before = _here.set(self)
        self._depth += 1
        self._count += 1
        try:
            yield
        finally:
            self._depth -= 1
            _here.reset(before)

    def beat(self) -> None:
        """Another piece is begun."""
        self._count += 1


class _HasPulse(Protocol):
    @property
    def pulse(self) -> Pulse: ...


W = TypeVar("W", bound=_HasPulse)


def at_work(method: Callable[Concatenate[W, P], R]) -> Callable[Concatenate[W, P], R]:
    """A method during which its owner's pulse beats."""

    @wraps(method)
    def working(owner: W, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with owner.pulse.at_work():
            return method(owner, *args, **kwargs)

    return working


_here: ContextVar[Pulse | None] = ContextVar("pulse", default=None)


def beat() -> None:
    """Another piece of the present work is begun; nothing where nobody is at work."""
    pulse = _here.get()
    if pulse is not None:
        pulse.beat()
