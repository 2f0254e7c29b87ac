"""What every policy offers to the controller."""

from typing import Protocol, runtime_checkable

from contracts.growth import GrowthView, ProbePlan
from contracts.messages import SystemState
from esper.tamiyo.action import Action


class BadMemory(ValueError):
    """What a policy was to take over is no memory of its own; it goes on with what it knew."""


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


@runtime_checkable
class Remembers(Protocol):
    """A policy whose memory can be copied and taken up again, in this process or in another.

    One that does not offer this is run all the same. After a resume it begins as a new one does, in the
    middle of a run; after a rollback it still knows what was undone. The numbers are then not those of a run
    that was never interrupted, unless it decides by the state and the view alone.
    """

    def memory(self) -> bytes:
        """All that its next answers depend on, but the state and the view; it goes on unchanged."""

    def take_over(self, memory: bytes) -> None:
        """Go on from what `memory` gave.

        Raises:
            BadMemory: it is no memory of this policy. Nothing has changed.
        """
