"""What came of a drill, and whether that was right."""

import msgspec

from contracts.report import FailureFacts
from esper.drill.programme import Drill
from esper.drill.rehearsal import Observed
from esper.drill.report import TrialReport

PAYS = "G4_SYSTEM_IMPACT"
"""The gate that asks whether a seed pays: for a harmless one a refusal there is no alarm."""


class DrillResult(msgspec.Struct, frozen=True):
    """One line of the drill's table; `right` says that the checks did what they are for."""

    blueprint_id: str
    name: str
    onset: str
    """trial, isolated or live; never for a harmless blueprint."""
    right: bool
    verdict: str
    """In words: contained, let through, or what went wrong."""
    caught_by: str = ""
    reason: str = ""
    epoch: int | None = None
    """At whose end it was taken out."""
    steps: int | None = None
    """Steps from its first misbehaviour, at most, to when it was caught; of the trial if that caught it."""
    host: str = ""
    """"bit for bit" as in the control run, "rolled back" to before the graft, or "grown"."""
    accuracy: float | None = None
    """On the test split, 0 to 1."""
    accuracy_control: float | None = None
    trial: TrialReport | None = None


class Facts(msgspec.Struct, frozen=True):
    """What a run left that its judgement rests on."""

    finished: bool
    halted: str
    same_as_control: bool
    """The final host is bit for bit the control run's."""
    in_the_model: bool
    """The seed is in the forward pass at the end."""
    failed: tuple[FailureFacts, ...]
    """Gates that refused the seed, the first one first."""
    outcome: str
    """Of the graft, as reports have it; empty without one."""
    accuracy: float | None
    accuracy_control: float | None
    noise: float
    """What other orders of the data alone do to the accuracy."""


def judged(drill: Drill, name: str, trial: TrialReport | None, seen: Observed, facts: Facts) -> DrillResult:
    """The drill's line."""
    fault = _harm(trial, seen, facts) if drill.harmful else _alarm(trial, seen, facts)
    caught_by, reason = _catch(trial, seen, facts)
    return DrillResult(
        blueprint_id=drill.blueprint_id,
        name=name,
        onset=drill.onset.value,
        right=not fault,
        verdict=fault or ("contained" if drill.harmful else _let_through(facts)),
        caught_by=caught_by,
        reason=reason,
        epoch=seen.removed_epoch,
        steps=_steps(trial, seen) if drill.harmful else None,
        host=_host(seen, facts),
        accuracy=facts.accuracy,
        accuracy_control=facts.accuracy_control,
        trial=trial,
    )


def _catch(trial: TrialReport | None, seen: Observed, facts: Facts) -> tuple[str, str]:
    """Which check was the first, and what it said."""
    if trial is not None and not trial.passed:
        return f"trial: {trial.check}", trial.reason
    if seen.set_aside is not None:
        return "training step", seen.set_aside.reason
    if facts.failed:
        return facts.failed[0].gate.partition("_")[0], facts.failed[0].reason
    return "", ""


def _harm(trial: TrialReport | None, seen: Observed, facts: Facts) -> str:
    """What was not as it has to be after a dangerous blueprint; empty if all was."""
    if not facts.finished:
        return f"the run did not finish: {facts.halted or 'interrupted'}"
    if trial is None:
        return "the trial was never held"
    if facts.in_the_model:
        return "it is still in the model"
    if not _catch(trial, seen, facts)[0]:
        return "nothing caught it"
    if trial.passed and not seen.misbehaved:
        return "it was taken out before it misbehaved: that proves nothing"
    if seen.was_live and not seen.restored:
        return "the host is not as it was before the graft"
    if not seen.was_live and not facts.same_as_control:
        return "the host is not that of the run without it"
    return _accuracy(facts)


def _alarm(trial: TrialReport | None, seen: Observed, facts: Facts) -> str:
    """What a harmless blueprint was wrongly caught by; empty if it was let through."""
    if not facts.finished:
        return f"the run did not finish: {facts.halted or 'interrupted'}"
    if trial is None or not trial.passed:
        return "the trial was not passed" if trial is not None else "the trial was never held"
    if seen.violations:
        return f"{seen.violations} violations of isolation were counted"
    caught = [one for one in facts.failed if one.gate != PAYS]
    if seen.set_aside is not None or caught:
        return f"a safety check caught it: {caught[0].gate if caught else 'training step'}"
    if not seen.was_live:
        return "it never came to run with the host"
    return ""


def _let_through(facts: Facts) -> str:
    return "let through; did not pay" if facts.outcome == "culled" else f"let through; {facts.outcome}"


def _accuracy(facts: Facts) -> str:
    if facts.accuracy is None or facts.accuracy_control is None:
        whose = "its own" if facts.accuracy is None else "the control run's"
        return f"there are no accuracies to compare: {whose} was not measured"
    lost = facts.accuracy_control - facts.accuracy
    if lost > facts.noise:
        return f"{lost:.1%} of accuracy lost, and chance moves it by {facts.noise:.1%}"
    return ""


def _steps(trial: TrialReport | None, seen: Observed) -> int | None:
    if trial is not None and not trial.passed:
        return trial.steps + 1
    if seen.set_aside is not None:
        return seen.set_aside.step + 1 - seen.clean_step
    return None if seen.removed_step is None else seen.removed_step - seen.clean_step


def _host(seen: Observed, facts: Facts) -> str:
    if facts.in_the_model:
        return "grown"
    if facts.same_as_control:
        return "bit for bit"
    return "rolled back" if seen.restored else "not restored"
