"""Makes a policy's wishes into commands."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from contracts.budgets import PerformanceBudgets
from contracts.growth import Candidate, GrowthView, ProbePlan
from contracts.messages import AdaptationCommand, SystemState, WallNs
from esper.tamiyo.action import command_for
from esper.tamiyo.policy import BadMemory, Policy, Remembers

Forecast: TypeAlias = Callable[[GrowthView], tuple[Candidate, ...]]


def nothing_foreseen(view: GrowthView) -> tuple[Candidate, ...]:
    """The forecast of a controller that makes none."""
    return ()


class ControllerMemory(msgspec.Struct, frozen=True):
    """What a controller goes on from."""

    policy: str
    version: str
    issued: int
    memory: bytes | None = None
    """The policy's own; None if it has none to give."""


class Controller:
    """The policy and the number of commands issued; survives a restart of the actor that asks it.

    Its commands are to be executed within `deadline_ms`, the time that a boundary may take. While growth is
    conservative `fallback` decides, if there is one; it remembers nothing.
    """

    def __init__(
        self,
        policy: Policy,
        run_id: str,
        foresee: Forecast = nothing_foreseen,
        deadline_ms: int = PerformanceBudgets().epoch_boundary_ms,
        fallback: Policy | None = None,
    ) -> None:
        self.policy = policy
        self._remembers = policy if isinstance(policy, Remembers) else None
        """Found once: such a look takes longer than what the policy then says."""
        self.foresee = foresee
        """What the policy may germinate next, the likeliest first."""
        self._run_id = run_id
        self._deadline_ms = deadline_ms
        self._fallback = fallback
        self._issued = 0

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        """What the policy wants measured before it decides again."""
        return self._deciding(view).survey(state, view)

    def decide(self, state: SystemState, view: GrowthView, now_ns: WallNs) -> AdaptationCommand:
        """The command for this boundary."""
        policy = self._deciding(view)
        action = policy.act(state, view)
        self._issued += 1
        command_id = f"{self._run_id}-c{self._issued}"
        return command_for(action, command_id, f"tamiyo/{policy.name}", now_ns, self._deadline_ms)

    def remember(self) -> ControllerMemory:
        """What the next decision depends on, but the state and the view."""
        policy = self.policy
        memory = self._remembers.memory() if self._remembers is not None else None
        return ControllerMemory(policy.name, policy.version, self._issued, memory)

    def recall(self, memory: ControllerMemory) -> None:
        """Go on from what `remember` gave; the ids of commands that were issued are not used again.

        Raises:
            BadMemory: it is another policy's, or none that this one can take over. The policy goes on with
                what it knew.
        """
        policy = self.policy
        self._issued = max(self._issued, memory.issued)
        if (policy.name, policy.version) != (memory.policy, memory.version):
            raise BadMemory(
                f"the memory is of the policy {memory.policy} ({memory.version}); "
                f"{policy.name} ({policy.version}) goes on without it"
            )
        if self._remembers is not None:
            if memory.memory is None:
                raise BadMemory(f"nothing was remembered of {policy.name}; it goes on with what it knew")
            self._remembers.take_over(memory.memory)

    def _deciding(self, view: GrowthView) -> Policy:
        return self._fallback if view.conservative and self._fallback is not None else self.policy
