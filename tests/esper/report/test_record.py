"""What is taken down is what happened, and a checkpoint can carry it."""

import math
import random

import msgspec

from contracts.growth import GateVerdict, SeedRecord
from contracts.lifecycle import Gate, Stage
from contracts.report import (
    AlertFacts,
    BoundaryFacts,
    EpochFacts,
    PolicyUpdateFacts,
    ResumeFacts,
    RollbackFacts,
)
from esper.report.record import Recorded, Recorder
from tests.esper.report.made_up import a_probe, a_report

GERMINATED = SeedRecord("a", "relu1", Stage.GERMINATED, "BP009", 298)


def test_each_stage_is_kept_once_with_the_epoch_it_began_in() -> None:
    recorder = Recorder()
    for epoch, stage in enumerate((Stage.GERMINATED, Stage.TRAINING, Stage.TRAINING, Stage.BLENDING)):
        recorder.seed(msgspec.structs.replace(GERMINATED, stage=stage), epoch)
    graft = recorder.recorded.grafts["a"]
    assert [(entry.stage, entry.epoch) for entry in graft.stages] == [
        ("GERMINATED", 0), ("TRAINING", 1), ("BLENDING", 3),
    ]  # fmt: skip
    assert graft.outcome == "unfinished"


def test_a_culled_seed_stays_culled_and_keeps_reason_and_size_while_its_site_rests() -> None:
    recorder = Recorder()
    recorder.seed(GERMINATED, 1)
    recorder.seed(msgspec.structs.replace(GERMINATED, stage=Stage.CULLED), 2, reason="it hurt")
    for epoch, stage in enumerate((Stage.EMBARGOED, Stage.RESETTING, Stage.DORMANT), start=3):
        recorder.seed(SeedRecord("a", "relu1", stage), epoch)
    graft = recorder.recorded.grafts["a"]
    assert (graft.outcome, graft.reason, graft.params) == ("culled", "it hurt", 298)
    assert graft.stages[-1].stage == "DORMANT"


def test_what_came_after_the_moment_that_was_gone_back_to_is_not_in_the_record_but_its_alerts_are() -> None:
    recorder = Recorder()
    for number in (1, 2, 3):
        recorder.epoch(EpochFacts(number, 1.0, 1.0, 0.5, 0.01))
        if number == 1:
            kept = recorder.recorded.copied()
        recorder.applied("WAIT")
        recorder.seed(msgspec.structs.replace(GERMINATED, seed_id=f"a#{number}"), number)
    recorder.alert(AlertFacts("not_finite", 3, "NaN"))
    facts = RollbackFacts(3, 1, "fast", "NaN", 2.0)
    recorder.rolled_back(kept, facts)
    recorded = recorder.recorded
    assert [one.epoch for one in recorded.epochs] == [1]
    assert (recorded.grafts, recorded.applied) == ({}, {})
    assert [one.name for one in recorded.alerts] == ["not_finite"]
    assert recorded.rollbacks == [facts]
    recorder.epoch(EpochFacts(2, 1.0, 1.0, 0.5, 0.01))
    assert len(kept.epochs) == 1, "the moment stays as it was"


def test_a_dormant_site_is_no_graft() -> None:
    recorder = Recorder()
    recorder.seed(SeedRecord("a", "relu1", Stage.DORMANT), 0)
    assert not recorder.recorded.grafts


def test_a_fossil_taken_down_by_the_operator_is_terminated() -> None:
    recorder = Recorder()
    for stage in (Stage.FOSSILIZED, Stage.TERMINATED):
        recorder.seed(msgspec.structs.replace(GERMINATED, stage=stage), 4)
    assert recorder.recorded.grafts["a"].outcome == "terminated"


def test_the_newest_finite_gain_counts() -> None:
    recorder = Recorder()
    recorder.gain("a", 1.0)
    assert not recorder.recorded.grafts
    recorder.seed(GERMINATED, 1)
    for gain in (0.1, 0.2, None, math.nan):
        recorder.gain("a", gain)
    assert recorder.recorded.grafts["a"].gain == 0.2


def test_what_is_no_finite_number_is_recorded_as_not_measured() -> None:
    recorder = Recorder()
    recorder.epoch(EpochFacts(0, math.nan, math.inf, -math.inf, 0.01, BoundaryFacts(1, 1, 1, 3)))
    (facts,) = recorder.recorded.epochs
    assert (facts.train_loss, facts.val_loss, facts.val_accuracy) == (None, None, None)


def test_a_refusal_repeated_is_counted_with_the_first() -> None:
    recorder = Recorder()
    for epoch in (3, 4, 5):
        recorder.refused(epoch, "GERMINATE", "relu1", "it rests")
    recorder.refused(6, "GERMINATE", "relu2", "it rests")
    first, second = recorder.recorded.refused
    assert (first.epoch, first.times, second.times) == (3, 3, 1)


def test_verdicts_are_counted_by_gate_and_failures_kept_with_their_reason() -> None:
    recorder = Recorder()
    for passed in (True, True, False, False):
        recorder.verdict(2, "a", GateVerdict(Gate.G1_GRADIENT_HEALTH, passed, "grad norm 0"))
    assert recorder.recorded.passed == {"G1_GRADIENT_HEALTH": 2}
    (failure,) = recorder.recorded.failed
    assert (failure.seed_id, failure.reason, failure.times) == ("a", "grad norm 0", 2)


def test_an_alert_is_cleared_once() -> None:
    recorder = Recorder()
    recorder.alert(AlertFacts("slow", 3, "too slow"))
    recorder.cleared("slow", 5)
    recorder.cleared("slow", 9)
    assert recorder.recorded.alerts[0].cleared_epoch == 5


def test_a_resumed_recorder_goes_on_where_the_checkpoint_was() -> None:
    recorder = Recorder()
    recorder.seed(GERMINATED, 1)
    recorder.epoch(a_report(3).epochs[0])
    carried = msgspec.json.decode(msgspec.json.encode(recorder.recorded), type=Recorded)
    assert carried == recorder.recorded
    resumed = Recorder(carried)
    resumed.seed(msgspec.structs.replace(GERMINATED, stage=Stage.TRAINING), 2)
    assert len(resumed.recorded.grafts["a"].stages) == 2
    assert len(recorder.recorded.grafts["a"].stages) == 1


def test_two_recorders_share_nothing() -> None:
    Recorder().applied("GERMINATE")
    assert Recorder().recorded == Recorded()


def test_a_contender_that_diverged_has_no_loss() -> None:
    import random

    probe = a_probe(3, random.Random(0))
    bad = msgspec.structs.replace(probe.scores[0], loss=math.inf)
    recorder = Recorder()
    recorder.probe(msgspec.structs.replace(probe, scores=(bad, *probe.scores[1:])))
    candidate = recorder.recorded.probes[0].candidates[0]
    assert (candidate.loss, candidate.gain, candidate.sites) == (None, None, ("body.relu1",))


def test_nothing_that_is_recorded_later_shows_in_a_copy() -> None:
    recorder = Recorder()

    def record_everything(epoch: int) -> None:
        recorder.epoch(EpochFacts(epoch, 1.0, math.nan, 0.5, 0.01))
        recorder.seed(msgspec.structs.replace(GERMINATED, seed_id=f"a#{epoch}"), epoch)
        recorder.gain("a#1", 0.1 * epoch)
        recorder.probe(a_probe(epoch, random.Random(epoch)))
        recorder.applied("WAIT")
        recorder.late()
        for word in ("again", f"in {epoch}"):
            recorder.refused(epoch, "CULL", "a#1", word)
            recorder.alert(AlertFacts(word, epoch, "a text"))
            for passed in (True, False):
                recorder.verdict(epoch, "a#1", GateVerdict(Gate.G1_GRADIENT_HEALTH, passed, word))
        recorder.cleared("again", epoch)
        recorder.policy_update(PolicyUpdateFacts(epoch, "none-1", accepted=True))
        recorder.resumed(ResumeFacts(epoch))

    record_everything(1)
    copies, written = [], []
    for epoch in (2, 3):
        copies.append(recorder.recorded.copied())
        written.append(msgspec.msgpack.encode(copies[-1]))
        record_everything(epoch)
        recorder.rolled_back(recorder.recorded.copied(), RollbackFacts(epoch, epoch, "fast", "", 0.0))
    assert [msgspec.msgpack.encode(one) for one in copies] == written
    now, then = recorder.recorded, copies[0]
    untouched = [name for name in Recorded.__struct_fields__ if getattr(now, name) == getattr(then, name)]
    assert untouched == [], "everything was recorded in"
