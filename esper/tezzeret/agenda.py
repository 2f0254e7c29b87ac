"""What is made next: a queue in order of likely use, with retries, breakers and a careful mode.

             ┌────────────── rests, then tried again ◀─────────────┐
    want ─▶ waiting ──begin──▶ busy ──done──▶ finished             │
                                 └──failed──▶ tries left? ──yes────┘
                                                 └──no──▶ given up, with every other draw of its design

A breaker for each blueprint leaves a blueprint out that fails again and again. One for the compiler as a
whole opens when several *different* blueprints fail in a row: the fault is then not theirs, and until a probe
succeeds the plain module is taken, marked as an emergency, for blueprints that never failed themselves.
A process that can't be had is a failure of the compiler alone: nothing is said of any blueprint, and where
there will never be one the plain module is taken from then on. Time is passed in, in seconds.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from contracts.kernels import KernelSpec, Strategy
from esper.breaker import Breaker


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The agenda's bounds."""

    strategy: Strategy = Strategy.STANDARD
    at_most: int = 2
    """Kernels made at a time."""
    second_from: int = 6
    """Kernels that must wait for two to be made at a time: another process takes seconds to start. Until
    the first one is made it is alone in any case, so that nothing competes with it."""
    attempts_max: int = 3
    backoff_s: tuple[float, ...] = (0.5, 4.0)
    """Rest before the second, third, ... attempt; the last repeats."""
    jitter: float = 0.25
    """Share by which a rest is longer or shorter, at random."""


class Task(NamedTuple):
    """One kernel to make, and how."""

    spec: KernelSpec
    strategy: Strategy


class Progress(msgspec.Struct, frozen=True):
    """How far it is; every kernel that was wanted is in exactly one of done, left and failed."""

    done: int = 0
    left: int = 0
    failed: int = 0
    busy: tuple[str, ...] = ()
    """Blueprints whose kernels are being made; part of `left`."""
    left_out: dict[str, str] = {}
    """Blueprints that failed too often, with the last reason."""


@dataclass(slots=True)
class _Item:
    spec: KernelSpec
    design: str
    attempts: int = 0
    not_before_s: float = 0.0
    task: Task | None = None


@dataclass(slots=True)
class _Record:
    """One blueprint's."""

    breaker: Breaker
    reason: str = ""
    """Of the newest failure."""
    failed_ever: bool = False


@dataclass(slots=True)
class _Counts:
    done: int = 0
    failed: int = 0


@dataclass
class Agenda:
    """Pure: says what to do, and is told what came of it."""

    policy: Policy
    stream: random.Random
    new_breaker: Callable[[], Breaker]
    conservative: bool = False
    """One at a time, and only exported: whoever asks for care has no time for comparisons."""
    _items: dict[str, _Item] = field(default_factory=dict)  # by the spec's key, in order
    _records: dict[str, _Record] = field(default_factory=dict)  # by blueprint
    _failing: set[str] = field(default_factory=set)  # blueprints that failed since the last success
    _counts: _Counts = field(default_factory=_Counts)
    _wide: bool = False  # a second one was begun since the queue was last empty
    _proved: bool = False  # a process made one since the queue was last empty
    _starts_failed: int = 0  # in a row
    _start_not_before_s: float = 0.0
    _processless: bool = False  # for good

    def __post_init__(self) -> None:
        self._compiler = self.new_breaker()

    def want(self, specs: Iterable[KernelSpec]) -> None:
        """Put these ahead of all that waits, in this order; those that wait already move."""
        ahead: dict[str, _Item] = {}
        for spec in specs:
            key = spec.key
            ahead[key] = self._items.get(key) or _Item(spec, spec.design.key)
        self._items = ahead | {key: item for key, item in self._items.items() if key not in ahead}

    def begin(self, now_s: float) -> Task | None:
        """The next thing to make, which is then busy; None if there is none now."""
        waiting = [item for item in self._items.values() if item.task is None]
        busy = len(self._items) - len(waiting)
        if busy >= self._room(len(waiting)) or now_s < self._start_not_before_s:
            return None
        for item in self._startable(waiting, now_s):
            strategy = self._strategy(item, now_s)
            if strategy is None:
                continue
            self._wide = self._wide or busy > 0
            if strategy is not Strategy.EMERGENCY:
                self._compiler.began()
                self._record(item).breaker.began()
            item.task = Task(item.spec, strategy)
            return item.task
        return None

    def rest_s(self, now_s: float) -> float | None:
        """Seconds until `begin` may give something though nothing else happens; None: never."""
        waiting = [item for item in self._items.values() if item.task is None]
        if len(self._items) - len(waiting) >= self._room(len(waiting)):
            return None
        return min((self._rest_s(item, now_s) for item in self._idle(waiting)), default=None)

    def done(self, spec: KernelSpec, *, drawn: bool = False) -> None:
        """A busy one was made; `drawn` without a process, which proves nothing of the compiler."""
        item = self._items.pop(spec.key)
        if drawn:
            self._break_off(item)
        elif not _in_emergency(item):
            self._compiler_did_its_work()
            self._record(item).breaker.succeeded()
            self._proved = True
        if not self._items:
            self._wide = self._proved = False
        self._counts.done += 1

    def withdrawn(self, spec: KernelSpec) -> None:
        """A busy one was broken off, by nobody's fault; it waits where it was."""
        self._break_off(self._items[spec.key])

    def refused(self, spec: KernelSpec) -> None:
        """A busy one may not be made here, which is no failure of its blueprint."""
        self._break_off(self._items.pop(spec.key))
        self._counts.failed += 1

    def unstarted(self, spec: KernelSpec, now_s: float, *, for_good: bool) -> None:
        """There was no process for a busy one, by no fault of its own; it waits where it was.

        `for_good`: nor will there ever be one.
        """
        item = self._items[spec.key]
        assert not _in_emergency(item), "that needs no process"
        self._record(item).breaker.withdrawn()
        self._compiler.failed(now_s)
        item.task = None
        self._starts_failed += 1
        self._processless = self._processless or for_good
        if self._compiler.closed and not self._processless:
            self._start_not_before_s = now_s + self._backoff_s(self._starts_failed)

    def failed(
        self, spec: KernelSpec, reason: str, now_s: float, *, compiler_well: bool
    ) -> tuple[KernelSpec, ...]:
        """A busy one came to nothing. Gives those that are given up by that: none, if it is tried again.

        `compiler_well`: the compiler's process did its work and judged the blueprint; another try would give
        the same, so that there is none.
        """
        item = self._items[spec.key]
        self._note_failure(item, reason, now_s, compiler_well)
        item.task = None
        item.attempts += 1
        if not compiler_well and item.attempts < self.policy.attempts_max:
            item.not_before_s = now_s + self._backoff_s(item.attempts)
            return ()
        return self._give_up(item)

    def progress(self) -> Progress:
        busy = (item.spec.design.blueprint_id for item in self._items.values() if item.task is not None)
        out = {name: one.reason for name, one in self._records.items() if not one.breaker.closed}
        return Progress(self._counts.done, len(self._items), self._counts.failed, tuple(busy), out)

    def _room(self, waiting: int) -> int:
        long = self._wide or waiting >= self.policy.second_from
        if self.conservative or not (self._proved and long):
            return 1
        return self.policy.at_most

    def _idle(self, waiting: list[_Item]) -> list[_Item]:
        """Those of no design that is being made: once that is done, its other draws cost next to nothing.

        Nor those that only a process could make, where there will be none.
        """
        designs = {item.design for item in self._items.values() if item.task is not None}
        return [item for item in waiting if item.design not in designs and self._has_a_way(item)]

    def _has_a_way(self, item: _Item) -> bool:
        return not (self._processless and self._record(item).failed_ever)

    def _startable(self, waiting: list[_Item], now_s: float) -> Iterator[_Item]:
        for item in self._idle(waiting):
            if item.not_before_s <= now_s and self._record(item).breaker.permits(now_s, 1):
                yield item

    def _rest_s(self, item: _Item, now_s: float) -> float:
        record = self._record(item)
        held_up = self._compiler.retry_in(now_s) if record.failed_ever else 0.0
        rested_s = max(item.not_before_s, self._start_not_before_s)
        return max(rested_s - now_s, record.breaker.retry_in(now_s), held_up, 0.0)

    def _strategy(self, item: _Item, now_s: float) -> Strategy | None:
        """How to make it now; None if it has to wait."""
        if self._processless or not self._compiler.permits(now_s, 1):
            return None if self._record(item).failed_ever else Strategy.EMERGENCY
        if self.conservative:
            return Strategy.FAST
        if self.policy.strategy is Strategy.AGGRESSIVE and item.attempts:
            return Strategy.STANDARD  # it may have been the native compiler
        return self.policy.strategy

    def _note_failure(self, item: _Item, reason: str, now_s: float, compiler_well: bool) -> None:
        record, blueprint_id = self._record(item), item.spec.design.blueprint_id
        record.reason, record.failed_ever = reason, True
        if _in_emergency(item):
            return
        record.breaker.failed(now_s)
        self._starts_failed = 0
        if compiler_well:
            self._compiler_did_its_work()
        elif blueprint_id not in self._failing or not self._compiler.closed:
            self._failing.add(blueprint_id)
            self._compiler.failed(now_s)

    def _compiler_did_its_work(self) -> None:
        self._compiler.succeeded()
        self._failing.clear()
        self._starts_failed = 0

    def _break_off(self, item: _Item) -> None:
        if not _in_emergency(item):
            self._compiler.withdrawn()
            self._record(item).breaker.withdrawn()
        item.task = None

    def _backoff_s(self, attempts: int) -> float:
        rests = self.policy.backoff_s
        spread = 1.0 + self.policy.jitter * self.stream.uniform(-1.0, 1.0)
        return rests[min(attempts, len(rests)) - 1] * spread

    def _give_up(self, item: _Item) -> tuple[KernelSpec, ...]:
        lost = tuple(
            one.spec for one in self._items.values() if one.design == item.design and one.task is None
        )
        for spec in lost:
            del self._items[spec.key]
        self._counts.failed += len(lost)
        return lost

    def _record(self, item: _Item) -> _Record:
        blueprint_id = item.spec.design.blueprint_id
        if blueprint_id not in self._records:
            self._records[blueprint_id] = _Record(self.new_breaker())
        return self._records[blueprint_id]


def _in_emergency(item: _Item) -> bool:
    assert item.task is not None, "only what was begun has an outcome"
    return item.task.strategy is Strategy.EMERGENCY
