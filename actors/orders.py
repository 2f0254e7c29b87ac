"""What an operator wants of a seed: each order takes the policy's place at one boundary.

It is a command like any other: the engine judges it, and what it said is what the operator is told.
"""

from collections import OrderedDict, deque
from typing import Final

from contracts.emergency import SeedOrder
from contracts.messages import AdaptationCommand, WallNs
from esper.tamiyo.action import Action, Cull, Pause, command_for

OPERATOR: Final = "operator"
"""Who issues them; `growth.issuers` has to name it."""
WAITING_MAX: Final = 16
ANSWERS_MAX: Final = 64


class Orders:
    """The orders of one run; lives on the event loop."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._waiting: deque[tuple[str, SeedOrder]] = deque()
        self._answers: OrderedDict[str, tuple[bool, str]] = OrderedDict()

    def put(self, order: SeedOrder, now_ns: WallNs) -> str:
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
        return command_for(action_of(order), command_id, OPERATOR, now_ns, deadline_ms)

    def settled(self, command_id: str, applied: bool, refusal: str) -> None:
        """The engine has judged a command, of whomever."""
        self._answers[command_id] = applied, refusal
        while len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)

    def answer(self, command_id: str) -> tuple[bool, str] | None:
        """Whether it was carried out, and if not why; None while that is not known."""
        return self._answers.get(command_id)


def action_of(order: SeedOrder) -> Action:
    """The action that a policy would take for the same."""
    if order.operation == "cull":
        return Cull(order.seed_id, reason="asked for by the operator")
    return Pause(order.seed_id, resume=order.operation == "resume", reason="asked for by the operator")
