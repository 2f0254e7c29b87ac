"""The policy of a drill: has one blueprint tried in quarantine; if it passes, grows it on the isolated path.

It takes the seed along whenever its time is served and never takes it out: that is for the checks to do.
"""

from dataclasses import dataclass

from contracts.growth import Candidate, GrowthView, Path, ProbePlan
from contracts.messages import SystemState
from esper.drill.report import TrialReport
from esper.tamiyo.action import Action, Germinate, Wait
from esper.tamiyo.passage import due


@dataclass
class TrialDesk:
    """Where a trial is asked for and its report is laid down."""

    wanted: bool = False
    report: TrialReport | None = None


class DrillPolicy:
    """Asks for the trial of `candidate` at the end of epoch `at`, and germinates it once."""

    name = "drill"
    version = "drill-1"
    reads_validation = False

    def __init__(self, candidate: Candidate, path: Path, at: int, desk: TrialDesk) -> None:
        self._candidate = candidate
        self._path = path
        self._at = at
        self._desk = desk
        self._germinated = False

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        if self._germinated:
            return due(view) or Wait("nothing is due")
        if view.epoch < self._at:
            return Wait("not yet")
        self._desk.wanted = True
        report = self._desk.report
        if report is None:
            return Wait("the trial is still to come")
        if not report.passed:
            return Wait(f"the trial was not passed: {report.check}")
        self._germinated = True
        return Germinate(self._candidate, self._path, "it has passed its trial", drill=True)
