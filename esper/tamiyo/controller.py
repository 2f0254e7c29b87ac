"""Makes a policy's wishes into commands."""

from collections.abc import Callable
from typing import TypeAlias

from contracts.growth import Candidate, GrowthView, ProbePlan
from contracts.messages import AdaptationCommand, SystemState, WallNs
from esper.tamiyo.action import command_for
from esper.tamiyo.policy import Policy

Forecast: TypeAlias = Callable[[GrowthView], tuple[Candidate, ...]]


def nothing_foreseen(view: GrowthView) -> tuple[Candidate, ...]:
    """The forecast of a controller that makes none."""
    return ()


class Controller:
    """The policy and the number of commands issued; survives a restart of the actor that asks it."""

    def __init__(self, policy: Policy, run_id: str, foresee: Forecast = nothing_foreseen) -> None:
        self.policy = policy
        self.foresee = foresee
        """What the policy may germinate next, the likeliest first."""
        self._run_id = run_id
        self._issued = 0

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        """What the policy wants measured before it decides again."""
        return self.policy.survey(state, view)

    def decide(self, state: SystemState, view: GrowthView, now_ns: WallNs) -> AdaptationCommand:
        """The command for this boundary."""
        action = self.policy.act(state, view)
        self._issued += 1
        return command_for(action, f"{self._run_id}-c{self._issued}", f"tamiyo/{self.policy.name}", now_ns)
