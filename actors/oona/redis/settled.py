"""What the consumers of this process have done, by event id, so that nothing is done twice."""

from collections import OrderedDict
from typing import Final, NamedTuple

_SAME_S: Final = 1e-3


class Done(NamedTuple):
    """One message that was acknowledged: when it was published, and how many servers ago."""

    published_s: float
    era: int


class Settled:
    """The last `ids_max` of one group.

    A message that comes again is one of three: the same publication (its acknowledgement was lost), one that
    a publisher or the bus gave to a server that lost its data, or a dead letter that somebody wants done
    again. Only the last is new.
    """

    __slots__ = ("_done", "_era", "_ids_max")

    def __init__(self, ids_max: int) -> None:
        self._ids_max = ids_max
        self._done: OrderedDict[tuple[str, str], Done] = OrderedDict()
        self._era = 0

    def __len__(self) -> int:
        return len(self._done)

    def new_server(self) -> None:
        """What comes from now on may have been done under the one before."""
        self._era += 1

    def add(self, topic: str, event_id: str, published_s: float) -> None:
        self._done[topic, event_id] = Done(published_s, self._era)
        self._done.move_to_end((topic, event_id))
        if len(self._done) > self._ids_max:
            self._done.popitem(last=False)

    def knows(self, topic: str, event_id: str, published_s: float) -> bool:
        """Whether this was done here before."""
        done = self._done.get((topic, event_id))
        return done is not None and (done.era < self._era or abs(done.published_s - published_s) < _SAME_S)
