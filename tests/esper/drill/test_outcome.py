"""A drill's judgement: contained only if caught, taken out, and the host as it has to be."""

import pytest
from msgspec.structs import replace

from contracts.growth import SeedFigures, SeedRecord
from contracts.lifecycle import Gate, Stage
from contracts.report import FailureFacts
from esper.drill.outcome import DrillResult, Facts, judged
from esper.drill.programme import BENIGN, HAZARDS, Drill, Onset, drill_config, onset_passes, programme
from esper.drill.rehearsal import Observed
from esper.drill.report import PASSES_A_STEP, TrialReport, TrialTerms
from esper.drill.table import DrillReport, conclusion, table
from esper.kasmina.gates import judge

PASSED, CAUGHT = TrialReport(True, 8), TrialReport(False, 2, "finite", "NaN")
G1 = FailureFacts(7, "a#0", "G1_GRADIENT_HEALTH", "too large")
G4 = FailureFacts(17, "a#0", "G4_SYSTEM_IMPACT", "gain is too small")
FACTS = Facts(
    finished=True,
    halted="",
    same_as_control=True,
    in_the_model=False,
    failed=(G1,),
    outcome="culled",
    accuracy=0.5,
    accuracy_control=0.51,
    noise=0.02,
)


def seen(**changed: object) -> Observed:
    observed = Observed("a#0", clean_step=100, misbehaved=True, removed_step=140, removed_epoch=7)
    for name, value in changed.items():
        setattr(observed, name, value)
    return observed


def harmful(
    trial: TrialReport | None = PASSED, observed: Observed | None = None, **changed: object
) -> DrillResult:
    drill = Drill("BP045", Onset.ISOLATED)
    return judged(drill, "NaN", trial, observed or seen(), replace(FACTS, **changed))


def harmless(
    trial: TrialReport | None = PASSED, observed: Observed | None = None, **changed: object
) -> DrillResult:
    observed = observed or Observed("a#0", was_live=True)
    facts = replace(FACTS, **{"failed": (), "outcome": "fossilized", "in_the_model": True, **changed})
    return judged(Drill("BP001", Onset.NEVER), "identity", trial, observed, facts)


def test_one_that_a_gate_caught_while_it_was_isolated_is_contained() -> None:
    result = harmful()
    assert (result.right, result.verdict) == (True, "contained")
    assert (result.caught_by, result.steps, result.epoch, result.host) == ("G1", 40, 7, "bit for bit")


def test_one_that_its_trial_caught_is_contained_and_counts_the_trial_s_steps() -> None:
    result = harmful(CAUGHT, Observed(), failed=())
    assert (result.right, result.caught_by, result.steps) == (True, "trial: finite", 3)


def test_one_that_has_been_live_is_contained_if_the_host_was_rolled_back() -> None:
    rolled = harmful(observed=seen(was_live=True, restored=True), same_as_control=False)
    assert (rolled.right, rolled.host) == (True, "rolled back")
    kept = harmful(observed=seen(was_live=True), same_as_control=False)
    assert (kept.right, kept.host) == (False, "not restored")


@pytest.mark.parametrize(
    ("trial", "observed", "changed", "verdict"),
    [
        (PASSED, seen(), {"finished": False, "halted": "diverged"}, "did not finish: diverged"),
        (PASSED, seen(), {"in_the_model": True}, "still in the model"),
        (PASSED, seen(), {"failed": ()}, "nothing caught it"),
        (PASSED, seen(misbehaved=False), {}, "proves nothing"),
        (PASSED, seen(), {"same_as_control": False}, "not that of the run without it"),
        (PASSED, seen(), {"accuracy": 0.4}, "of accuracy lost"),
        (PASSED, seen(), {"accuracy": None}, "no accuracies to compare: its own was not measured"),
        (PASSED, seen(), {"accuracy_control": None}, "no accuracies to compare: the control run's was not"),
        (None, seen(), {}, "never held"),
    ],
)
def test_everything_else_is_not(
    trial: TrialReport | None, observed: Observed, changed: dict[str, object], verdict: str
) -> None:
    result = harmful(trial, observed, **changed)
    assert not result.right
    assert verdict in result.verdict


def test_a_harmless_one_is_let_through_whether_it_pays_or_not() -> None:
    assert harmless().verdict == "let through; fossilized"
    culled = harmless(failed=(G4,), outcome="culled", in_the_model=False)
    assert (culled.right, culled.verdict) == (True, "let through; did not pay")


@pytest.mark.parametrize(
    ("trial", "observed", "changed", "verdict"),
    [
        (CAUGHT, None, {}, "trial was not passed"),
        (PASSED, Observed("a#0", was_live=True, violations=1), {}, "1 violations"),
        (PASSED, None, {"failed": (G1, G4)}, "G1_GRADIENT_HEALTH"),
        (PASSED, Observed("a#0"), {}, "never came to run"),
        (PASSED, None, {"finished": False}, "did not finish"),
    ],
)
def test_an_alarm_over_a_harmless_one_is_a_fault_of_the_checks(
    trial: TrialReport, observed: Observed | None, changed: dict[str, object], verdict: str
) -> None:
    result = harmless(trial, observed, **changed)
    assert not result.right
    assert verdict in result.verdict


def test_a_blueprint_counts_once_and_only_if_all_its_drills_are_right() -> None:
    wrong = harmful(failed=())
    report = DrillReport(0, 36, 0.5, 0.02, (harmful(), wrong, harmless()))
    assert not report.right
    assert conclusion(report).startswith("0 of 1 dangerous blueprints contained, 1 of 1 harmless ones")
    assert DrillReport(0, 36, 0.5, 0.02, (harmful(), harmless())).right
    assert not DrillReport(0, 36, 0.5, 0.02, ()).right
    rows = table(report.results)
    assert len(rows) == 4
    assert all("BP0" in row for row in rows[1:])


def test_the_programme_has_every_dangerous_blueprint_and_ten_harmless_ones() -> None:
    assert (len(HAZARDS), len(BENIGN)) == (8, 10)
    assert {drill.blueprint_id for drill in programme()} == {*HAZARDS, *BENIGN}
    assert all(drill.harmful == (drill.blueprint_id in HAZARDS) for drill in programme())
    assert {drill.blueprint_id for drill in programme(["BP045", "BP001"])} == {"BP045", "BP001"}
    with pytest.raises(ValueError, match="BP009: not drilled; there are BP043"):
        programme(["BP009"])


def test_every_onset_but_the_trial_s_is_beyond_the_trial() -> None:
    config = drill_config("mnist1d", 0)
    in_trial = TrialTerms().steps * PASSES_A_STEP
    assert onset_passes(Onset.TRIAL, config) == 0
    assert in_trial < onset_passes(Onset.ISOLATED, config) < onset_passes(Onset.LIVE, config)


@pytest.mark.parametrize(("ratio", "passes"), [(0.85, True), (1.06, True), (1.23, False), (1.83, False)])
def test_in_drills_g3_lets_pass_what_harmless_ones_came_to_and_no_noise_that_harms(
    ratio: float, passes: bool
) -> None:
    record = SeedRecord("a#0", "a", Stage.SHADOWING)
    figures = SeedFigures("a#0", loss_with=2.0 * ratio, loss_without=2.0, starved_tensors=0)
    gates = drill_config("mnist1d", 0).growth.gates
    assert judge(Gate.G3_INTERFACE, record, figures, gates).passed is passes
