"""How urgent a message is, and the two lanes that urgency sorts it into."""

import enum
from typing import Final


class Priority(enum.IntEnum):
    """LOW to CRITICAL have the numbers of the wire's MessagePriority; EMERGENCY travels there as CRITICAL."""

    LOW = 1
    NORMAL = 2
    HIGH = 3
    CRITICAL = 4
    EMERGENCY = 5


class Lane(enum.Enum):
    """A share of a queue with a bound of its own; the urgent lane is always delivered first."""

    URGENT = "urgent"
    NORMAL = "normal"


# Place of a priority in its lane's order of delivery; what was rerouted comes after what is urgent by itself.
RANK: Final = {
    Priority.EMERGENCY: 0,
    Priority.CRITICAL: 1,
    Priority.HIGH: 0,
    Priority.NORMAL: 1,
    Priority.LOW: 2,
}
REROUTED_RANK: Final = 2
RANKS: Final = 3
LOWEST_URGENT: Final = Priority.CRITICAL
