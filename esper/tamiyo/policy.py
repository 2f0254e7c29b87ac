"""What every policy offers to the controller."""

from typing import Protocol

from contracts.growth import GrowthView, ProbePlan
from contracts.messages import SystemState
from esper.tamiyo.action import Action


class Policy(Protocol):
    """Decides, from what was measured, what to do at a boundary. Holds its own memory between calls."""

    @property
    def name(self) -> str:
        """Its name on the command line."""

    @property
    def version(self) -> str:
        """Written into every field report, so that an outcome can be traced to what decided it."""

    @property
    def reads_validation(self) -> bool:
        """Whether it decides by validation figures: their FLOPs then count as spent on growth."""

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        """What should be measured before the next decision, or None."""

    def act(self, state: SystemState, view: GrowthView) -> Action:
        """What to do now."""
