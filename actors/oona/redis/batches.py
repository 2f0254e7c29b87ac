"""Operations gathered into numbered batches."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

from actors.oona.errors import UnreachableError
from actors.oona.redis.call import Call
from actors.oona.redis.options import RedisOptions
from actors.oona.redis.waiting import Waiting


class Batch:
    """Operations that go together; the number tells the script whether it has seen them."""

    __slots__ = ("calls", "failures", "introduction", "seq")

    def __init__(self, seq: int, calls: list[Call], introduction: bool) -> None:
        self.seq = seq
        self.calls = calls
        self.introduction = introduction  # part of what a new server is told
        self.failures = 0  # times that the server answered it with an error, or not in time


class Batches:
    """What waits (`waiting`), and the batches that are not answered yet (`todo`), the oldest first.

    The first `under_way` of these were sent and can still be answered; the others are to be sent again.
    """

    def __init__(self, options: RedisOptions) -> None:
        self.waiting = Waiting(options.batch_ops_max)
        self.todo: deque[Batch] = deque()
        self.under_way = 0
        self._options = options
        self._seq = 0

    @property
    def idle(self) -> bool:
        return not self.todo and not self.waiting

    def forget_oldest_order(self) -> None:
        """If too much waits: an acknowledgement or the like; what it would have settled comes again."""
        if len(self.waiting) <= self._options.waiting_ops_max:
            return
        if (call := self.waiting.forget_oldest_order()) is not None:
            call.failed(UnreachableError("too much waits for the server"), sent=False)

    def collect(self) -> bool:
        """Make a batch of what is waiting; False if nothing is."""
        calls = self.waiting.take(self._options.batch_bytes_max)
        if calls:
            self.todo.append(self._numbered(calls))
        return bool(calls)

    def introduce(self, calls: Iterable[Call]) -> None:
        """These go before all else, in place of an earlier introduction; everything gets a new number."""
        todo = [batch for batch in self.todo if not batch.introduction]
        self.todo = deque(self._numbered(piece, introduction=True) for piece in self._pieces(calls))
        self.todo.extend(self._numbered(batch.calls) for batch in todo)
        self.under_way = 0

    def answered(self) -> Batch:
        """The first one is done with."""
        self.under_way -= 1
        return self.todo.popleft()

    def unanswered(self) -> Iterator[Call]:
        return chain.from_iterable(batch.calls for batch in self.todo)

    def _numbered(self, calls: list[Call], introduction: bool = False) -> Batch:
        self._seq += 1
        return Batch(self._seq, calls, introduction)

    def _pieces(self, calls: Iterable[Call]) -> list[list[Call]]:
        """In order, each piece no larger than a batch may be."""
        pieces: list[list[Call]] = []
        size = 0
        for call in calls:
            size += call.size
            if (
                pieces
                and len(pieces[-1]) < self._options.batch_ops_max
                and size <= self._options.batch_bytes_max
            ):
                pieces[-1].append(call)
            else:
                pieces.append([call])
                size = call.size
        return pieces
