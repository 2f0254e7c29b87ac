"""An operator sets a breaker: a CIRCUIT_BREAKER command, `annotations["operation"]` saying whose.

CLOSED lets the operation through again, HALF_OPEN lets the next try decide, OPEN holds it refused until it is
set otherwise.
"""

from contracts.growth import Operation
from contracts.messages import AdaptationCommand, CircuitBreakerState, CommandCircuitBreaker
from esper.breaker import BreakerState
from esper.kasmina.admissible import check_operator
from esper.kasmina.draft import Refused
from esper.kasmina.guard import NEVER_REFUSED
from esper.kasmina.plan import Setting

_STATES = {
    CircuitBreakerState.CLOSED: BreakerState.CLOSED,
    CircuitBreakerState.OPEN: BreakerState.OPEN,
    CircuitBreakerState.HALF_OPEN: BreakerState.HALF_OPEN,
}
SETTABLE = tuple(operation for operation in Operation if operation not in NEVER_REFUSED)


def setting_of(command: AdaptationCommand) -> Setting:
    """What a CIRCUIT_BREAKER command asks for.

    Raises:
        Refused: an operator did not issue it, it names no breaker or no state, or what takes a seed out.
    """
    check_operator(command, "set breakers")
    if not isinstance(command.payload, CommandCircuitBreaker):
        raise Refused("a CIRCUIT_BREAKER command needs the desired state as its payload")
    state = _STATES.get(command.payload.desired_state)
    if state is None:
        raise Refused(f"a breaker can be {', '.join(one.name for one in _STATES)}, not UNKNOWN")
    name = command.annotations.get("operation", "")
    operation = next((one for one in SETTABLE if one.value == name), None)
    if operation is None:
        raise Refused(
            f"there is no breaker {name!r} to set; annotations['operation'] names one of "
            f"{', '.join(SETTABLE)}: what takes a seed out is never refused"
        )
    return Setting(operation, state)
