"""What the consumers of this process have done and have in hand, by event id; so nothing is done twice."""

import enum
from collections import OrderedDict
from typing import Final, Protocol

from contracts.signing.admission import Admission
from contracts.signing.memory import Key

_SAME_S: Final = 1e-3


class Held(Protocol):
    """What a consumer has in hand."""

    @property
    def name(self) -> Key: ...
    @property
    def key(self) -> str: ...
    @property
    def published_s(self) -> float: ...
    @property
    def due_s(self) -> float: ...


class Claim(enum.Enum):
    """What comes of it when a consumer wants to begin on a message."""

    TAKEN = enum.auto()
    DONE = enum.auto()
    TWIN = enum.auto()


# By name: to look a member up on its enum takes longer than most of what is done with it.
TAKEN, DONE, TWIN = Claim


class Settled:
    """The last `ids_max` of one group.

    A message that comes again is one of three: the same publication (its acknowledgement was lost), one that
    a publisher or the bus gave to a server that lost its data, or a dead letter that somebody wants done
    again. Only the last is new.

    When it was published is the server's word. What was signed is therefore done once by its id alone, for as
    long as admission remembers it; of that, a dead letter is done again only where it was not done before.
    """

    __slots__ = ("_admission", "_done", "_era", "_group", "_held", "_ids_max")

    def __init__(self, ids_max: int, group: str = "", admission: Admission | None = None) -> None:
        self._ids_max = ids_max
        self._group = group
        self._admission = admission
        # When it was published, and how many servers ago.
        self._done: OrderedDict[Key, tuple[float, int]] = OrderedDict()
        self._era = 0
        self._held: dict[Key, Held] = {}

    def __len__(self) -> int:
        return len(self._done)

    def new_server(self) -> None:
        """What comes from now on may have been done under the one before."""
        self._era += 1

    def add(self, name: Key, published_s: float) -> None:
        """It is done, and so in nobody's hands any longer."""
        done = self._done
        if name in done:
            del done[name]
        elif len(done) >= self._ids_max:
            done.popitem(last=False)
        done[name] = (published_s, self._era)
        self._held.pop(name, None)
        admission = self._admission
        if admission is not None and admission.keyring is not None:
            admission.done(self._group, name)

    def knows(self, name: Key, published_s: float) -> bool:
        """Whether this was done here before."""
        done = self._done.get(name)
        if done is not None and (done[1] < self._era or abs(done[0] - published_s) < _SAME_S):
            return True
        admission = self._admission
        return (
            admission is not None and admission.keyring is not None and admission.is_done(self._group, name)
        )

    def take(self, delivery: Held, now_s: float) -> Claim:
        """Begin on it, unless it is done, or in somebody's hands as another entry: until it is known what
        becomes of that, nobody is given this one."""
        name = delivery.name
        if self.knows(name, delivery.published_s):
            return DONE
        held = self._held.get(name)
        if held is not None and held.key != delivery.key and held.due_s > now_s:
            return TWIN
        self._held[name] = delivery
        return TAKEN

    def let_go(self, delivery: Held) -> None:
        """Nobody works on it any longer."""
        if self._held.get(delivery.name) is delivery:
            del self._held[delivery.name]
