"""report.html: complete, self-contained, small, and safe against the names in it."""

import math
import re
from html.parser import HTMLParser
from typing import Literal

import msgspec
import pytest

from contracts.growth import Operation, OperationFigures
from contracts.report import (
    Ending,
    EpochFacts,
    FinalFacts,
    GraftFacts,
    KernelFacts,
    Report,
    ResumeFacts,
    RollbackFacts,
    StageFacts,
)
from esper.report import charts
from esper.report.headline import result, sentence
from esper.report.page import page
from tests.esper.report.made_up import a_report

VOID = {"meta", "br", "link", "input", "img"}


class Nesting(HTMLParser):
    """Fails where a tag is closed that was not opened last; collects the text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parsed(report: Report) -> Nesting:
    reader = Nesting()
    reader.feed(page(report))
    reader.close()
    assert not reader.open
    return reader


def empty() -> Report:
    """A run that was stopped before its first epoch was over."""
    return msgspec.structs.replace(
        a_report(3, compared=False),
        epochs=(),
        grafts=(),
        probes=(),
        alerts=(),
        flops={},
        final=FinalFacts(None, None, None, None, 338, 0),
        boundary=msgspec.structs.replace(a_report(3).boundary, total=None),
        ended=Ending("interrupted", "stopped by a signal"),
    )


@pytest.mark.parametrize("report", [a_report(1), a_report(200), a_report(40, compared=False), empty()])
def test_every_page_is_well_formed(report: Report) -> None:
    assert "svg" in parsed(report).tags or not report.epochs


def test_the_title_is_the_result() -> None:
    report = a_report(60)
    assert sentence(report) == (
        "mnist1d grew from 338 to 1,214 parameters and reached 89.8 % on fresh data, "
        "14.3 points above the same host ungrown at equal training FLOPs."
    )
    assert f"<title>{sentence(report)}</title>" in page(report)


def test_everything_that_was_recorded_is_said() -> None:
    said = " ".join(" ".join(parsed(a_report(120)).words).split())
    for words in (
        "body.relu1 BP009",
        "gated_linear",
        "gain −0.0041 over 8 epochs",
        "site body.relu3 is embargoed until epoch 48",
        "rms ratio 12.4 is above 10",
        "training_latency_high",
        "entropy 0.02 is below 0.05",
        "budget 18 ms",
        "probes 4.30 GFLOP (14.3 %)",
        "1 boundary went on without a decision",
        "workload = &quot;mnist1d&quot;".replace("&quot;", '"'),
        "2.13.0+cpu",
        "ungrown 75.5 %",
    ):
        assert words in said, words


def test_ways_back_and_resumes_are_told_with_their_reasons() -> None:
    report = msgspec.structs.replace(
        a_report(60),
        rollbacks=(RollbackFacts(31, 29, "full", "the loss <exploded>", 412.0),),
        resumes=(ResumeFacts(12), ResumeFacts(40, ("run.threads was 1 and is 2: last bits",))),
        operations=(OperationFigures(Operation.INSERT, 7, 3, 2, 4, 61.0, "open", 33),),
    )
    said = " ".join(" ".join(parsed(report).words).split())
    assert "31 29 disk 412 ms the loss <exploded>" in said
    assert "12 nothing that a number depends on" in said
    assert "40 run.threads was 1 and is 2: last bits" in said
    assert "insert 7 3 2 4 61.0 ms open, tried again in epoch 33" in said
    assert "Went back" not in page(a_report(60))


def test_an_interrupted_run_says_so() -> None:
    assert "Interrupted: stopped by a signal" in page(empty())
    assert sentence(empty()) == "Interrupted at epoch 0: mnist1d stayed at 338 parameters."


@pytest.mark.parametrize("kind", ["interrupted", "halted"])
def test_the_title_of_a_run_that_was_cut_short_says_where(kind: Literal["interrupted", "halted"]) -> None:
    cut = msgspec.structs.replace(a_report(60), ended=Ending(kind, "stopped by a signal"))
    assert sentence(cut) == f"{kind.capitalize()} at epoch 59: {result(cut)}"
    assert f"<title>{sentence(cut)}</title>" in page(cut)


def test_a_run_that_is_complete_is_not_called_interrupted_for_its_comparison() -> None:
    ended = Ending("interrupted", "the run itself is complete, its comparison was stopped", complete=True)
    cut = msgspec.structs.replace(a_report(60), ended=ended)
    assert sentence(cut) == result(cut) == sentence(a_report(60))
    assert "Interrupted: the run itself is complete, its comparison was stopped" in page(cut)


def shortened(report: Report, steps: int) -> Report:
    """The same with as many steps in its last epoch, and all of them in the others."""
    usual = report.config.train.epoch_steps
    epochs = [msgspec.structs.replace(facts, steps=usual) for facts in report.epochs]
    epochs[-1] = msgspec.structs.replace(epochs[-1], steps=steps)
    return msgspec.structs.replace(report, epochs=tuple(epochs))


def test_the_training_loss_of_a_shorter_last_epoch_is_drawn_apart_and_explained() -> None:
    whole, cut = shortened(a_report(60), 40), shortened(a_report(60), 12)
    accuracy, _, loss, over_flops = charts.curves(cut)
    for drawing in (loss, over_flops):
        assert drawing.note.startswith("Epoch 59 had 12 of 40 steps.")
        assert ("box dot shorter", "training, shorter epoch") in drawing.keys
        (dots,) = re.findall(r'd="([^"]*)" class="dots shorter"', drawing.svg)
        assert dots.count("M") == 1
    assert accuracy.note == ""
    (curve,) = re.findall(r'd="([^"]*)" class="curve training"', loss.svg)
    (before,) = re.findall(r'd="([^"]*)" class="curve training"', charts.curves(whole)[2].svg)
    assert before.count(",") == curve.count(",") + 1
    assert "shorter" not in charts.curves(whole)[2].svg
    assert charts.curves(whole)[2].note == charts.curves(a_report(60))[2].note == ""


def test_two_seeds_of_one_blueprint_have_names_of_their_own_in_drawings() -> None:
    first = a_report().grafts[0]
    grafts = tuple(msgspec.structs.replace(first, seed_id=f"relu1#{n}", site="relu1") for n in (0, 1))
    report = msgspec.structs.replace(a_report(), grafts=grafts)
    drawing = charts.timelines(report)
    assert drawing is not None
    for svg in (drawing.svg, charts.curves(report)[0].svg):
        assert "relu1#0 BP009" in svg
        assert "relu1#1 BP009" in svg


def test_a_validation_that_nothing_went_by_is_not_among_what_was_spent() -> None:
    report = a_report(20)
    spent = {"train": report.final.train_flops - 100, "probe": 100, "validation": 3_000_000}
    drawing = charts.flops(msgspec.structs.replace(report, flops=spent))
    assert drawing is not None
    assert "Validation took 3.00 MFLOP beside that" in drawing.note
    assert not any("validation" in said for _, said in drawing.keys)
    counted = charts.flops(msgspec.structs.replace(report, flops={**spent, "train": 5}))
    assert counted is not None
    assert counted.note == ""
    assert any("validation" in said for _, said in counted.keys)


def test_the_page_asks_nothing_of_the_network() -> None:
    text = page(a_report(60))
    assert not re.search(r"(src|href)\s*=|url\(|@import|<script|https?://", text)


@pytest.mark.parametrize("epochs", [2_000, 10_000])
def test_a_long_run_stays_under_a_megabyte(epochs: int) -> None:
    assert len(page(a_report(epochs)).encode()) < 1_000_000


def test_names_are_escaped() -> None:
    evil = '"><script>alert(1)</script>&'
    graft = GraftFacts(evil, evil, evil, "culled", (StageFacts("GERMINATED", 1),), 3, 0.1, reason=evil)
    report = msgspec.structs.replace(a_report(20), workload=evil, grafts=(graft,), versions={evil: evil})
    text = page(report)
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)") >= 5


def test_curves_over_epochs_and_flops_have_the_ungrown_host_and_a_mark_for_each_seed() -> None:
    drawings = charts.curves(a_report(100))
    assert [drawing.title for drawing in drawings] == [
        "Validation accuracy over epochs",
        "Validation accuracy over training FLOPs",
        "Loss over epochs",
        "Loss over training FLOPs",
    ]
    for drawing in drawings:
        assert "curve ungrown" in drawing.svg
        assert drawing.svg.count("dotted mark") == 4


def test_an_epoch_that_was_not_measured_is_a_gap() -> None:
    svg = charts.curves(a_report(100))[2].svg
    (grown,) = re.findall(r'd="([^"]*)" class="curve grown"', svg)
    assert grown.count("M") == 2


def test_no_coordinate_is_ever_not_a_number() -> None:
    wild = tuple(EpochFacts(e, 10.0 ** (e % 9), None if e % 2 else 1e-9, math.nan, 0.1) for e in range(30))
    measured = tuple(msgspec.structs.replace(facts, val_accuracy=None) for facts in wild)
    text = page(msgspec.structs.replace(a_report(30), epochs=measured))
    assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', text)


def test_a_seed_has_a_box_for_each_stage_it_spent_time_in() -> None:
    drawing = charts.timelines(a_report(200))
    assert drawing is not None
    assert drawing.svg.count('class="box FOSSILIZED"') == 3
    assert drawing.svg.count('class="box CULLED"') == 1
    assert 'class="box DORMANT"' not in drawing.svg


def test_the_bar_of_flops_shares_the_whole_width() -> None:
    drawing = charts.flops(a_report(20))
    assert drawing is not None
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', drawing.svg)]
    assert sum(widths) == pytest.approx(520, abs=1.0)


def test_each_graft_says_where_it_came_from_and_what_was_amiss_with_kernels_is_told() -> None:
    first = a_report().grafts[0]
    grafts = tuple(msgspec.structs.replace(first, kernel=kernel) for kernel in ("00ff.kernel", ""))
    own, wrong = {"BP051": "it is in no file"}, {"BP032": "its gradients differ"}
    kernels = KernelFacts(1, 1, 9, {"BP036": "it <hung>"}, 2, own, wrong)
    resumes = (ResumeFacts(7, (), ("a#1 is taken out",)),)
    told = "".join(
        parsed(msgspec.structs.replace(a_report(), grafts=grafts, kernels=kernels, resumes=resumes)).words
    )
    assert told.count("from the store") == 2, "once a graft, once in the sum"
    assert told.count("built on the spot") == 2
    assert "2 damaged ones set aside to be made again" in told
    assert "BP036 was left out: it <hung>" in told
    assert "BP051 was never compiled: it is in no file" in told
    assert "Native code of BP032 was not kept: its gradients differ" in told
    assert "a#1 is taken out" in told
