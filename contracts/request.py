"""A message that is owed an answer, with the answer's type known to the type checker."""

from typing import Generic, TypeVar

R = TypeVar("R", covariant=True)


class Request(Generic[R]):
    """Mix-in for a message whose handler returns an `R`.

    `await ref.ask(Evaluate(state), deadline_s=0.012)` is then an `AdaptationCommand` to the type
    checker, because `Evaluate` is a `Request[AdaptationCommand]`.
    """

    __slots__ = ()
