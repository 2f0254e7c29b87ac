"""What became of every message, by its id, kept by the test itself and closed at its end.

The promise: what was acknowledged to the publisher has its effect, and no effect happens twice. What was
refused never has one. Where the answer was lost the effect may have happened, once at most. A message handed
over with `publish_nowait` is promised as long as its process lives, unless the outbox says that it let it go.
"""

from collections import Counter
from collections.abc import Collection
from typing import ClassVar

import msgspec

from actors.oona.bus import Outcome, Receipt
from actors.oona.errors import RefusedError, UncertainError


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
    excused: int = 0
    """Promised, and let go or given up by a stated rule."""
    lost: int = 0
    doubled: int = 0

    def add(self, other: "Counts") -> None:
        for field in self.__struct_fields__:
            setattr(self, field, getattr(self, field) + getattr(other, field))

    def __str__(self) -> str:
        return ", ".join(f"{field} {getattr(self, field)}" for field in self.__struct_fields__[1:])


class FaultLedger:
    """The message ids of one scenario. An effect is what `n` stands for; ids tell repeats apart."""

    total: ClassVar[Counts] = Counts()
    """Of all ledgers that were closed in this process."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = f"{name} seed={seed}"
        self.numbers: dict[str, int] = {}
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.uncertain: set[str] = set()
        self.refusals = self.doubts = 0
        self.delivered: Counter[str] = Counter()
        self.effects: Counter[int] = Counter()
        self._applied: set[str] = set()

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
        """A delivery: its effect happens unless this id has had it."""
        assert self.numbers[event_id] == n, f"{event_id} came with the content of another: {n}"
        self.delivered[event_id] += 1
        if event_id not in self._applied:
            self._applied.add(event_id)
            self.effects[n] += 1

    @property
    def missing(self) -> set[str]:
        """Promised, and without an effect so far."""
        return {each for each in self.acknowledged if not self.effects[self.numbers[each]]}

    def repeats(self) -> int:
        """Deliveries beyond the first of each message."""
        return sum(count - 1 for count in self.delivered.values())

    def close(self, excused: Collection[str] = (), excused_max: int = 0) -> Counts:
        """Nothing is lost, nothing doubled.

        `excused` are ids that may have no effect, as dead letters or because their topic lets them go; where
        only their number is known, `excused_max`."""
        missing = self.missing - set(excused)
        counts = Counts(
            scenarios=1,
            published=len(self.numbers),
            acknowledged=len(self.acknowledged),
            refused=len(self.refused),
            uncertain=len(self.uncertain),
            refusals=self.refusals,
            doubts=self.doubts,
            delivered=sum(self.delivered.values()),
            effects=sum(self.effects.values()),
            excused=len(self.missing) - len(missing) + min(excused_max, len(missing)),
            lost=max(0, len(missing) - excused_max),
            doubled=sum(count - 1 for count in self.effects.values() if count),
        )
        print(f"{self.name}: {counts}")
        FaultLedger.total.add(counts)
        assert counts.lost == 0, f"{self.name}: lost {sorted(missing)[:10]} of {len(missing)}"
        assert counts.doubled == 0, f"{self.name}: {[n for n, c in self.effects.items() if c > 1][:10]}"
        came = {each for each in self.refused if self.delivered[each]}
        assert not came, f"{self.name}: refused, and yet delivered: {sorted(came)[:10]}"
        return counts
