"""Why the bus said no.

`RefusedError` and its kinds: the message is nowhere, the publisher may try again later, with the same event
id. The others are mistakes of the caller.
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
