"""Why the bus said no.

`RefusedError` and its kinds: the publisher may try again later, with the same event id. The message is
nowhere, except after `UncertainError`, when nobody can say. `BusUnfitError` is the operator's to mend; the
others are mistakes of the caller.
"""


class BusError(Exception):
    """Anything the bus raises."""


class UnknownTopicError(BusError, ValueError):
    """The topic was never declared."""


class UnknownLetterError(BusError, ValueError):
    """No dead letter of that id is kept, or its group is gone."""


class ClosedError(BusError):
    """The bus or the subscription was closed."""


class RefusedError(BusError):
    """A message was not taken."""


class QueueFullError(RefusedError):
    """A lane of a group is full."""


class ParkingFullError(RefusedError):
    """The queue is full, and as many publishers as may wait are waiting already."""


class WaitExpiredError(RefusedError):
    """The publisher waited for room until its deadline."""


class BreakerOpenError(RefusedError):
    """Too many publishers waited in vain of late, so nobody waits for now."""


class ConservativeModeError(RefusedError):
    """The bus takes urgent traffic only."""


class UnreachableError(RefusedError):
    """The back end can't be reached; the message is nowhere."""


class UncertainError(RefusedError):
    """The back end gave no answer in time: it may have taken the message.

    Published again with the same event id it is a duplicate if it was taken."""


class ServerFullError(RefusedError):
    """The back end's memory is used up; it takes messages again once some were acknowledged."""


class OutboxFullError(RefusedError):
    """As much as this process may keep for the back end is kept already."""


class BusUnfitError(BusError):
    """The back end can't carry a bus as it is set up."""
