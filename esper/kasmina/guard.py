"""A breaker and a stopwatch around every operation of the engine and of the safe point.

An operation that raised, or took longer than its limit, has failed. After failures in a row it is refused for
some epochs, then tried once more. What takes a seed out is never refused: the way out is always open.

One guard serves the engine and the safe point, which run no operation at the same time: the engine plans
between two turns of training, the safe point acts at the beginning of one.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from msgspec.structs import replace

from contracts.config import GuardConfig
from contracts.growth import Operation, OperationFigures
from esper.breaker import Breaker, BreakerMemory, BreakerState
from esper.kasmina.draft import Draft, Refused
from esper.kasmina.plan import Change, Fossilize, Insert, Isolate, Note, Pause, Remove, Resume, SetAlpha

NEVER_REFUSED = frozenset({Operation.CULL, Operation.TERMINATE, Operation.REMOVE})
"""What takes a seed out."""

_GRAFTS = frozenset({Operation.GERMINATE, Operation.INSERT})


@dataclass
class _Entry:
    """One operation's breaker and figures; `touched` once it was run or set here."""

    breaker: Breaker
    count: int = 0
    failures: int = 0
    slow: int = 0
    refused: int = 0
    worst_ms: float = 0.0
    touched: bool = False


class Guard:
    """Breakers by operation. `seconds` is the clock for durations; a breaker's own time is in epochs."""

    def __init__(self, config: GuardConfig, seconds: Callable[[], float] = time.perf_counter) -> None:
        self._config = config
        self._seconds = seconds
        self._entries = {operation: _Entry(self._breaker()) for operation in Operation}
        self._copied_s = 0.0
        self._marked = False
        """A breaker was set, restored or told of a failure: before that all are as new."""

    def refusal(self, operation: Operation, epoch: int) -> str:
        """Why `operation` may not be had in `epoch`; empty if it may."""
        entry = self._entries[operation]
        if operation in NEVER_REFUSED or entry.breaker.permits(epoch, 1):
            return ""
        rest = entry.breaker.retry_in(epoch)
        again = "it is held open until an operator closes it"
        if not math.isinf(rest):
            again = f"it is tried again from epoch {math.ceil(epoch + rest)} on"
        return f"{operation} is refused: it failed {entry.breaker.failures} times in a row; {again}"

    def check(self, operation: Operation, epoch: int) -> None:
        """
        Raises:
            Refused: the breaker of `operation` is open; the message says until when.
        """
        why = self.refusal(operation, epoch)
        if why:
            self._entries[operation].refused += 1
            raise Refused(why)

    @contextmanager
    def run(self, operation: Operation, epoch: int) -> Iterator[None]:
        """Time what is done inside; an error passes through, and a refusal is no failure.

        What was copied inside counts in the figures, and not against the limit.
        """
        entry, began, copied_s = self._entries[operation], self._seconds(), self._copied_s
        entry.breaker.began()
        try:
            yield
        except Refused:
            entry.breaker.withdrawn()
            raise
        except Exception:
            self._note(entry, began)
            self._failed(entry, epoch)
            raise
        limit_ms = self.limit_ms(operation)
        worked_ms = self._note(entry, began) - (self._copied_s - copied_s) * 1e3
        if worked_ms > limit_ms > 0.0:
            entry.slow += 1
            self._failed(entry, epoch)
        else:
            entry.breaker.succeeded()

    @contextmanager
    def copying(self) -> Iterator[None]:
        """Copy the network inside: how long that takes rests on its size, not on the operation."""
        began = self._seconds()
        try:
            yield
        finally:
            self._copied_s += self._seconds() - began

    def put(self, operation: Operation, state: BreakerState, epoch: int) -> None:
        """Set a breaker by hand: closed, ready for one try, or open until it is set otherwise."""
        assert operation not in NEVER_REFUSED, "what takes a seed out has no breaker to open"
        entry = self._entries[operation]
        entry.breaker.put(state, epoch)
        entry.touched = self._marked = True

    def limit_ms(self, operation: Operation) -> float:
        """How long `operation` may take; 0 is without a limit."""
        if operation is Operation.ROLLBACK:
            return self._config.rollback_ms
        return self._config.graft_ms if operation in _GRAFTS else self._config.change_ms

    def figures(self, epoch: int) -> tuple[OperationFigures, ...]:
        """How every operation that was run, refused or set has done, as of `epoch`."""
        return tuple(
            _figures(operation, entry, epoch)
            for operation, entry in self._entries.items()
            if entry.touched or entry.refused
        )

    def memory(self) -> dict[str, BreakerMemory]:
        """What a checkpoint keeps: the breakers that are not as new."""
        if not self._marked:
            return {}
        return {
            operation.value: entry.breaker.memory
            for operation, entry in self._entries.items()
            if not entry.breaker.as_new
        }

    def restore(self, memory: Mapping[str, BreakerMemory]) -> None:
        """Take over what `memory()` said; what was run here since is known better and stays as it is."""
        self._marked = self._marked or bool(memory)
        for operation, entry in self._entries.items():
            if not entry.touched:
                entry.breaker = self._breaker(memory.get(operation.value))

    def _breaker(self, memory: BreakerMemory | None = None) -> Breaker:
        return Breaker(self._config.failures_max, self._config.rest_epochs, memory)

    def _note(self, entry: _Entry, began: float) -> float:
        """Count one run; the milliseconds that it took."""
        took_ms = (self._seconds() - began) * 1e3
        entry.touched = True
        entry.count += 1
        entry.worst_ms = max(entry.worst_ms, took_ms)
        return took_ms

    def _failed(self, entry: _Entry, epoch: int) -> None:
        entry.failures += 1
        self._marked = True
        entry.breaker.failed(epoch)


def operation_of(change: Change) -> Operation | None:
    """What the safe point does for a change; None where it only keeps the books."""
    match change:
        case Insert():
            return Operation.INSERT
        case SetAlpha():
            return Operation.ALPHA
        case Isolate():
            return Operation.ISOLATE
        case Remove():
            return Operation.REMOVE
        case Fossilize():
            return Operation.FOSSILIZE
        case Pause():
            return Operation.PAUSE
        case Resume():
            return Operation.RESUME
        case Note():
            return None


def check_changes(guard: Guard, draft: Draft, epoch: int) -> Draft:
    """`draft` again, if the safe point may make all of its changes.

    Raises:
        Refused: the breaker of one of them is open.
    """
    for operation in dict.fromkeys(filter(None, map(operation_of, draft.changes))):
        guard.check(operation, epoch)
    return draft


def postponed(guard: Guard, due: Draft, epoch: int) -> Draft:
    """Housekeeping without what the safe point may not do now; it comes up again at the next boundary."""
    if not due.changes:
        return due

    def may(change: Change) -> bool:
        operation = operation_of(change)
        return operation is None or not guard.refusal(operation, epoch)

    return replace(due, changes=tuple(change for change in due.changes if may(change)))


def _figures(operation: Operation, entry: _Entry, epoch: int) -> OperationFigures:
    breaker = entry.breaker
    rest = breaker.retry_in(epoch)
    retry = None if breaker.closed or math.isinf(rest) else math.ceil(epoch + rest)
    return OperationFigures(
        operation=operation,
        count=entry.count,
        failures=entry.failures,
        slow=entry.slow,
        refused=entry.refused,
        worst_ms=entry.worst_ms,
        breaker=breaker.state(epoch).value,
        retry_epoch=retry,
    )
