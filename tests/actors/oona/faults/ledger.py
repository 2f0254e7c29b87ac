"""What became of every message, by its id, kept by the test itself and closed at its end.

An effect happens with every handling that ends in an acknowledgement; nothing here makes one of two. The
promise: what was acknowledged to the publisher has its effect, and no process has it twice. Another process
may have it once more, where an acknowledgement or the server's data was lost in between: such are counted
apart, for there a consumer's own store, by event id, makes one of two. What was refused never has an effect.
Where the answer was lost it may have happened, once at most. A message handed over with `publish_nowait` is
promised as long as its process lives, unless the outbox says that it let it go.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import ClassVar, TypeAlias

import msgspec

from actors.oona.bus import Outcome, Receipt
from actors.oona.errors import RefusedError, UncertainError

SIGNED = ", signed"
"""Behind a scenario's name where its messages are."""


class Counts(msgspec.Struct, kw_only=True):
    """One ledger, closed; or the sum of several."""

    scenarios: int = 0
    published: int = 0
    acknowledged: int = 0
    refused: int = 0
    """In the end; many more were refused and tried again."""
    uncertain: int = 0
    refusals: int = 0
    """Answers, for whatever reason."""
    doubts: int = 0
    """Answers that left it open."""
    delivered: int = 0
    effects: int = 0
    """Handlings that ended in an acknowledgement, but for those that follow."""
    elsewhere: int = 0
    """The same message, done by another process before."""
    excused: int = 0
    """Promised, and let go or given up by a stated rule."""
    lost: int = 0
    doubled: int = 0

    def add(self, other: "Counts") -> None:
        for field in self.__struct_fields__:
            setattr(self, field, getattr(self, field) + getattr(other, field))

    def __str__(self) -> str:
        return self._listed(self.__struct_fields__[1:])

    @property
    def brief(self) -> str:
        return self._listed(
            ("published", "acknowledged", "delivered", "effects", "elsewhere", "lost", "doubled")
        )

    def _listed(self, fields: Iterable[str]) -> str:
        return ", ".join(f"{field} {getattr(self, field)}" for field in fields)


Closed: TypeAlias = dict[str, dict[int, Counts]]
"""By scenario and seed."""


def put(closed: Closed, scenario: str, seed: int, counts: Counts) -> None:
    closed.setdefault(scenario, {}).setdefault(seed, Counts()).add(counts)


def told(closed: Closed) -> Iterator[str]:
    """A line for each scenario with its seeds, and one for all."""
    total = Counts()
    for scenario, seeds in sorted(closed.items()):
        counts = Counts()
        for each in seeds.values():
            counts.add(each)
        total.add(counts)
        yield f"fault test {scenario}: seeds {_ranges(sorted(seeds))}; {counts.brief}"
    if closed:
        yield f"fault tests: {total.scenarios} runs of {len(closed)} scenarios; {total}"


def _ranges(numbers: Sequence[int]) -> str:
    """`0-3 7`."""
    first = [n for n in numbers if n - 1 not in numbers]
    last = [n for n in numbers if n + 1 not in numbers]
    return " ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(first, last, strict=True))


class FaultLedger:
    """The message ids of one scenario. An effect is what `n` stands for."""

    closed: ClassVar["Closed"] = {}
    """All that were closed in this process."""

    def __init__(self, scenario: str, seed: int) -> None:
        self.scenario = scenario
        self.seed = seed
        self.name = f"{scenario} seed={seed}"
        self.numbers: dict[str, int] = {}
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.uncertain: set[str] = set()
        self.refusals = self.doubts = 0
        self.delivered: Counter[str] = Counter()
        self._done: Counter[tuple[object, str]] = Counter()
        self._done_ids: set[str] = set()

    def hand_over(self, n: int) -> str:
        """The event id under which `n` is published, however often."""
        event_id = f"w{n}"
        self.numbers[event_id] = n
        return event_id

    def answered(self, event_id: str, answer: Receipt | RefusedError) -> None:
        """What the publisher was told. The last word counts; no refusal makes certain what is uncertain."""
        self.refusals += isinstance(answer, RefusedError)
        self.doubts += isinstance(answer, UncertainError)
        if isinstance(answer, UncertainError):
            self.uncertain.add(event_id)
        elif isinstance(answer, RefusedError):
            if event_id not in self.uncertain:
                self.refused.add(event_id)
        else:
            assert answer.event_id == event_id
            assert answer.outcome is not Outcome.UNROUTED
            self.acknowledged.add(event_id)
            self.refused.discard(event_id)
            self.uncertain.discard(event_id)

    def came(self, event_id: str, n: int) -> None:
        """A delivery."""
        assert self.numbers[event_id] == n, f"{event_id} came with the content of another: {n}"
        self.delivered[event_id] += 1

    def did(self, event_id: str, by: object) -> None:
        """The effect of a delivery, which is acknowledged with it. `by` is the process, or its bus."""
        self._done[by, event_id] += 1
        self._done_ids.add(event_id)

    @property
    def missing(self) -> set[str]:
        """Promised, and without an effect so far."""
        return self.acknowledged - self._done_ids

    def done_twice(self) -> list[str]:
        """Ids whose effect one process had more than once, or that stand for what another stood for."""
        first: dict[int, str] = {}
        again = [each for each in self._done_ids if first.setdefault(self.numbers[each], each) != each]
        return again + [each for (_, each), count in self._done.items() for _ in range(count - 1)]

    def repeats(self) -> int:
        """Deliveries beyond the first of each message."""
        return sum(count - 1 for count in self.delivered.values())

    def close(self, excused: Collection[str] = (), excused_max: int = 0) -> Counts:
        """Nothing is lost, nothing doubled.

        `excused` are ids that may have no effect, as dead letters or because their topic lets them go; where
        only their number is known, `excused_max`."""
        missing = self.missing - set(excused)
        doubled = self.done_twice()
        elsewhere = len(self._done) - len(self._done_ids)
        counts = Counts(
            scenarios=1,
            published=len(self.numbers),
            acknowledged=len(self.acknowledged),
            refused=len(self.refused),
            uncertain=len(self.uncertain),
            refusals=self.refusals,
            doubts=self.doubts,
            delivered=sum(self.delivered.values()),
            effects=self._done.total() - elsewhere,
            elsewhere=elsewhere,
            excused=len(self.missing) - len(missing) + min(excused_max, len(missing)),
            lost=max(0, len(missing) - excused_max),
            doubled=len(doubled),
        )
        print(f"{self.name}: {counts}")
        put(FaultLedger.closed, self.scenario, self.seed, counts)
        assert counts.lost == 0, f"{self.name}: lost {sorted(missing)[:10]} of {len(missing)}"
        assert counts.doubled == 0, f"{self.name}: done twice {sorted(doubled)[:10]} of {len(doubled)}"
        came = {each for each in self.refused if self.delivered[each]}
        assert not came, f"{self.name}: refused, and yet delivered: {sorted(came)[:10]}"
        return counts
