"""One boundary's decision: close the windows that are due, ask the policy, issue the command."""

import msgspec

from contracts.growth import GrowthView, ProbePlan
from contracts.messages import AdaptationCommand, FieldReport, SystemState, WallNs
from esper.tamiyo.action import command_for
from esper.tamiyo.observation import Observation
from esper.tamiyo.policy import Policy


class Decision(msgspec.Struct, frozen=True):
    """What a boundary gets from the controller."""

    command: AdaptationCommand
    reports: tuple[FieldReport, ...] = ()
    """Field reports on the commands whose windows closed at this boundary."""


class Controller:
    """The policy with its open windows; survives a restart of the actor that asks it."""

    def __init__(self, policy: Policy, run_id: str, window_epochs: int) -> None:
        self.policy = policy
        self._run_id = run_id
        self._issued = 0
        self._observation = Observation(run_id, policy.version, window_epochs)

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        """What the policy wants measured before it decides again."""
        return self.policy.survey(state, view)

    def decide(self, state: SystemState, view: GrowthView, now_ns: WallNs) -> Decision:
        """The command for this boundary, watched from now on."""
        reports = self._observation.close_due(state, view, now_ns)
        action = self.policy.act(state, view)
        self._issued += 1
        command = command_for(action, f"{self._run_id}-c{self._issued}", f"tamiyo/{self.policy.name}", now_ns)
        self._observation.open(command, state, view)
        return Decision(command, reports)

    def judge(self, command_id: str, applied: bool, reason: str) -> None:
        """Learn what became of a command."""
        self._observation.judge(command_id, applied, reason)

    def close(self, state: SystemState, view: GrowthView, now_ns: WallNs) -> tuple[FieldReport, ...]:
        """The run ends: reports on every command still under observation."""
        return self._observation.close_all(state, view, now_ns)
