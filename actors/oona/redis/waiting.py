"""Operations that wait for a batch: first come, first served, but no consumer waits for all publishers."""

from collections import deque
from collections.abc import Callable
from itertools import chain

from actors.oona.redis.call import Call, Order


class Waiting:
    """In the order of submission, except that what is hasty passes what is patient.

    That is only done when more waits than goes with one batch. What is neither is never passed, and an
    operation never passes one that is as hasty.
    """

    __slots__ = ("_firm", "_hasty", "_in_turn", "_ops_max")

    def __init__(self, ops_max: int) -> None:
        """`ops_max` operations go with one batch."""
        self._ops_max = ops_max
        self._in_turn: deque[Call] = deque()
        self._hasty: deque[Call] = deque()  # passed all that is in turn
        self._firm = 0  # those in turn that may not be passed

    def __len__(self) -> int:
        return len(self._in_turn) + len(self._hasty)

    def add(self, call: Call) -> None:
        if call.hasty and not self._firm and (self._hasty or len(self._in_turn) >= self._ops_max):
            self._hasty.append(call)
        else:
            self._in_turn.append(call)
            if not call.patient:
                self._firm += 1

    def take(self, bytes_max: int) -> list[Call]:
        """Those that go together; who is no longer wanted is left out. A single one may be larger."""
        calls: list[Call] = []
        size = weight = 0
        for line in (self._hasty, self._in_turn):
            while line and weight < self._ops_max:
                call = line[0]
                if call.wanted():
                    size += call.size
                    if calls and size > bytes_max:
                        return calls
                    calls.append(call)
                    weight += call.weight
                line.popleft()
                if not call.patient and line is self._in_turn:
                    self._firm -= 1
        return calls

    def forget_oldest_order(self) -> Order | None:
        """An acknowledgement or the like, if there is one; it waits no more."""
        for line in (self._hasty, self._in_turn):
            for place, call in enumerate(line):
                if isinstance(call, Order):
                    del line[place]
                    self._count()
                    return call
        return None

    def keep(self, whether: Callable[[Call], bool]) -> list[Call]:
        """Keep those; returns the others."""
        others = [call for call in chain(self._hasty, self._in_turn) if not whether(call)]
        self._hasty = deque(call for call in self._hasty if whether(call))
        self._in_turn = deque(call for call in self._in_turn if whether(call))
        self._count()
        return others

    def _count(self) -> None:
        self._firm = sum(not call.patient for call in self._in_turn)
