"""What an operator wants. Of the grafting engine: each such order takes the policy's place at one boundary.

It is a command like any other: the engine judges it, and what it said is what the operator is told. Orders
about the emergency level are followed at once, and put down at once.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, TypeAlias

from msgspec.structs import replace

from actors.runtime import Threads
from contracts.emergency import BreakerOrder, EmergencyState, SeedOrder
from contracts.messages import (
    AdaptationCommand,
    CircuitBreakerState,
    CommandCircuitBreaker,
    CommandType,
    WallNs,
)
from esper.kasmina.admissible import OPERATOR
from esper.tamiyo.action import Cull, Pause, command_for
from esper.tolaria.emergency import Emergencies

WAITING_MAX: Final = 16
ANSWERS_MAX: Final = 64
REASON: Final = "asked for by the operator"
PUT_DOWN_S: Final = 1.5
"""Longest wait for the disk to take an order."""
LOST_BY_A_KILL: Final = "a kill before the next checkpoint would undo it"
Wanted: TypeAlias = SeedOrder | BreakerOrder
STATES: Final = {
    "open": CircuitBreakerState.OPEN,
    "close": CircuitBreakerState.CLOSED,
    "try": CircuitBreakerState.HALF_OPEN,
}


class Notebook:
    """Where an operator's orders about the emergency level are put down at once, the newest in place of those
    before it; lives on the event loop."""

    def __init__(
        self, emergencies: Emergencies, write: Callable[[EmergencyState], None], threads: Threads
    ) -> None:
        """`write` raises `OSError`."""
        self._emergencies = emergencies
        self._write = write
        self._threads = threads
        self._written = emergencies.state().orders
        self._one_by_one = asyncio.Lock()
        self._writing: asyncio.Future[None] | None = None
        """What a disk that was too slow may still be at: nothing newer is written beside it."""

    async def put_down(self) -> str:
        """Have the newest order on disk; what to tell if that can't be done, empty if it is."""
        try:
            async with asyncio.timeout(PUT_DOWN_S), self._one_by_one:
                if self._writing is not None:
                    await asyncio.wait({self._writing})
                state = self._emergencies.state()
                if state.orders != self._written:
                    self._writing = asyncio.ensure_future(self._threads.run(lambda: self._write(state)))
                    self._writing.add_done_callback(_heard_out)
                    await asyncio.shield(self._writing)
                    self._written = state.orders
        except OSError as error:
            return f"{LOST_BY_A_KILL}: {error.strerror or 'it is not on disk in time'}"
        return ""


def _heard_out(writing: "asyncio.Future[None]") -> None:
    """Who waited for it may have given up; then its error is nobody's."""
    if not writing.cancelled():
        writing.exception()


class Orders:
    """The orders of one run; lives on the event loop."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._waiting: deque[tuple[str, Wanted]] = deque()
        self._answers: OrderedDict[str, tuple[bool, str]] = OrderedDict()

    def put(self, order: Wanted, now_ns: WallNs) -> str:
        """The id of the command that it will be; empty if too many wait already."""
        if len(self._waiting) >= WAITING_MAX:
            return ""
        command_id = f"{self._run_id}-o{now_ns}-{len(self._waiting)}"
        self._waiting.append((command_id, order))
        return command_id

    def next(self, now_ns: WallNs, deadline_ms: int) -> AdaptationCommand | None:
        """The command of the oldest order, issued now; None if nobody wants anything."""
        if not self._waiting:
            return None
        command_id, order = self._waiting.popleft()
        return command_of(order, command_id, now_ns, deadline_ms)

    def settled(self, command_id: str, applied: bool, refusal: str) -> None:
        """The engine has judged a command, of whomever."""
        self._answers[command_id] = applied, refusal
        while len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)

    def answer(self, command_id: str) -> tuple[bool, str] | None:
        """Whether it was carried out, and if not why; None while that is not known."""
        return self._answers.get(command_id)


def command_of(order: Wanted, command_id: str, now_ns: WallNs, deadline_ms: int) -> AdaptationCommand:
    """The command that an order is."""
    if isinstance(order, BreakerOrder):
        return AdaptationCommand(
            command_id,
            CommandType.CIRCUIT_BREAKER,
            now_ns,
            OPERATOR,
            execution_deadline_ms=deadline_ms,
            payload=CommandCircuitBreaker(STATES[order.wanted], REASON),
            annotations={"action": "breaker", "operation": order.operation, "reason": REASON},
        )
    out = order.operation in ("cull", "terminate")
    action = (
        Cull(order.seed_id, reason=REASON)
        if out
        else Pause(order.seed_id, resume=order.operation == "resume", reason=REASON)
    )
    command = command_for(action, command_id, OPERATOR, now_ns, deadline_ms)
    if order.operation == "terminate":
        notes = command.annotations | {"action": "terminate", "terminate": "true"}
        return replace(command, annotations=notes)
    return command
