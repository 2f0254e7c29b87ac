"""What every back end of the bus must do; its test module subclasses this with a fixture `make_bus`."""

from tests.actors.oona.conformance_bounds import BoundsConformance
from tests.actors.oona.conformance_breakers import BreakerConformance
from tests.actors.oona.conformance_delivery import DeliveryConformance
from tests.actors.oona.conformance_history import HistoryConformance
from tests.actors.oona.conformance_letters import DeadLetterConformance
from tests.actors.oona.conformance_lossy import LossyConformance
from tests.actors.oona.conformance_modes import CloseConformance, ConservativeConformance
from tests.actors.oona.conformance_overflow import OverflowConformance, WaitConformance
from tests.actors.oona.conformance_redelivery import RedeliveryConformance


class BusConformance(
    DeliveryConformance,
    RedeliveryConformance,
    HistoryConformance,
    LossyConformance,
    BreakerConformance,
    BoundsConformance,
    DeadLetterConformance,
    OverflowConformance,
    WaitConformance,
    ConservativeConformance,
    CloseConformance,
):
    """All of it."""
