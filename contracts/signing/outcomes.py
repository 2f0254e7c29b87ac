"""What became of commands, by id, so that a repeat is answered and not carried out again."""

from typing import Generic, TypeVar

from contracts.signing.admission import FRAMES_MAX

T = TypeVar("T")


class Outcomes(Generic[T]):
    """The outcomes of the last `outcomes_max` commands.

    Repeats don't lengthen an outcome's life, for the reason that they don't lengthen a frame's.
    """

    __slots__ = ("_by_id", "_outcomes_max")

    def __init__(self, outcomes_max: int = FRAMES_MAX) -> None:
        """`ValueError` if `outcomes_max` is less than 1."""
        if outcomes_max < 1:
            raise ValueError(f"outcomes_max is {outcomes_max}; at least 1 outcome must be kept")
        self._outcomes_max = outcomes_max
        self._by_id: dict[str, T] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def of(self, command_id: str) -> T | None:
        """What became of it; None while it is in work, if it never came, or if that was long ago."""
        return self._by_id.get(command_id)

    def keep(self, command_id: str, outcome: T) -> T:
        """Keep the outcome, unless there is one: the first stands. Returns the one that stands."""
        stands = self._by_id.setdefault(command_id, outcome)
        if len(self._by_id) > self._outcomes_max:
            del self._by_id[next(iter(self._by_id))]
        return stands
