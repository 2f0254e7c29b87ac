"""What the consumers of this process have done, by event id, so that nothing is done twice."""

from collections import OrderedDict
from typing import Final

_SAME_S: Final = 1e-3


class Settled:
    """The last `ids_max` of one group.

    A message that comes again is one of three: the same publication (its acknowledgement was lost), one that
    a publisher or the bus gave to a server that lost its data, or a dead letter that somebody wants done
    again. Only the last is new.
    """

    __slots__ = ("_done", "_era", "_ids_max")

    def __init__(self, ids_max: int) -> None:
        self._ids_max = ids_max
        # When it was published, and how many servers ago.
        self._done: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        self._era = 0

    def __len__(self) -> int:
        return len(self._done)

    def new_server(self) -> None:
        """What comes from now on may have been done under the one before."""
        self._era += 1

    def add(self, topic: str, event_id: str, published_s: float) -> None:
        done, key = self._done, (topic, event_id)
        if key in done:
            del done[key]
        elif len(done) >= self._ids_max:
            done.popitem(last=False)
        done[key] = (published_s, self._era)

    def knows(self, topic: str, event_id: str, published_s: float) -> bool:
        """Whether this was done here before."""
        done = self._done.get((topic, event_id))
        if done is None:
            return False
        done_s, era = done
        return era < self._era or abs(done_s - published_s) < _SAME_S
