"""Tends what grows while something is wrong: the policy of conservative mode.

    nothing is germinated, and no seed that the host has not run with yet is let into it
    a live seed on probation that its gates would not let in again is taken out at once
    a probation that ends is decided by the gate alone: what gains stays, what does not is taken out
    while the process has more memory than its budget, the newest seed is taken out, as it may be what holds
    the memory; and the next one only when that one is gone with all that it held

It goes by the figures of the seeds under the tightened gates, and remembers nothing.
"""

from contracts.config import GateConfig
from contracts.growth import GateVerdict, GrowthView, ProbePlan, SeedView, SiteView
from contracts.lifecycle import Gate, SeedOperation, Stage
from contracts.messages import SystemState
from esper.kasmina.gates import breach, judge, tightened
from esper.kasmina.upkeep import BEFORE_CONTACT
from esper.tamiyo.action import Action, Advance, Cull, Wait
from esper.tamiyo.passage import next_step, patience

WATCHED = {Stage.BLENDING: Gate.G2_STABILITY, Stage.PROBATIONARY: Gate.G3_INTERFACE}
"""The gate that a live seed has to be fit for at every boundary, by its stage."""
LEAVING = {Stage.CULLED, Stage.EMBARGOED, Stage.RESETTING}


class Caretaker:
    """Decides in place of the run's policy while growth is conservative."""

    name = "caretaker"
    version = "caretaker-1"
    reads_validation = False

    def __init__(self, gates: GateConfig) -> None:
        self._usual = gates
        self._tight = tightened(gates)

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        """Nothing is to be measured: nothing new is grown."""
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        """What the first seed that is due for something is due for."""
        if view.short_of_memory and view.active and not any(map(_is_leaving, view.sites)):
            newest = max(view.active, key=lambda seed: seed.record.born_epoch)
            return _cull(newest, "the process has more memory than its budget, and this seed is the newest")
        for seed in view.active:
            action = self._tend(seed, view.epoch)
            if action is not None:
                return action
        return Wait("conservative mode: nothing new is grown")

    def _tend(self, seed: SeedView, epoch: int) -> Action | None:
        record = seed.record
        if record.paused or breach(record, seed.figures, self._usual) is not None:
            return None  # it rests, or the engine takes it out by itself
        unfit = breach(record, seed.figures, self._tight) or self._unfit(seed)
        if unfit is not None:
            return _cull(seed, unfit.reason)
        if epoch - record.stage_epoch >= patience(seed):
            return _cull(seed, f"it does not get out of {record.stage.name.lower()}")
        step = next_step(seed, epoch)
        if step is None or record.stage in BEFORE_CONTACT:
            return None
        return self._judge(seed, step) if step.operation is SeedOperation.FOSSILIZE else step

    def _unfit(self, seed: SeedView) -> GateVerdict | None:
        """Why a live seed can't stay where it is, by what was measured of it; None if it can."""
        gate, figures = WATCHED.get(seed.record.stage), seed.figures
        needed = (figures.loss_with, figures.loss_without, figures.starved_tensors)
        if gate is Gate.G2_STABILITY:
            needed = (figures.rms_ratio, figures.finite, 0)
        if gate is None or None in needed:
            return None
        verdict = judge(gate, seed.record, figures, self._tight)
        return None if verdict.passed else verdict

    def _judge(self, seed: SeedView, step: Advance) -> Action | None:
        """At the end of a probation, once its gain has been measured."""
        if seed.figures.gain is None:
            return None
        verdict = judge(Gate.G4_SYSTEM_IMPACT, seed.record, seed.figures, self._tight)
        return step if verdict.passed else _cull(seed, verdict.reason)


def _is_leaving(site: SiteView) -> bool:
    """A seed was taken out a short while ago: moments that the run may go back to still hold its module."""
    return site.seed is not None and site.seed.record.stage in LEAVING


def _cull(seed: SeedView, reason: str) -> Cull:
    """Take it out; what the host has learned beside it stays."""
    return Cull(seed.record.seed_id, reason=f"conservative mode: {reason}")
