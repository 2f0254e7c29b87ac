"""The picture of a run on a terminal."""

import io

import msgspec
import pytest
from rich.console import Console

from contracts.growth import Layout, SiteInfo, SiteView
from contracts.report import FinalFacts, KernelFacts
from contracts.view import KernelProgress, RunFacts, RunView
from esper.report.screen import lines, render, summary
from tests.esper.report.made_up import a_report, a_view


def said(view: RunView, rows: int = 50, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as captured:
        console.print(render(view, rows))
    return captured.get()


@pytest.mark.parametrize(
    "words",
    [
        "mnist1d · policy heuristic · seed 20",
        "45 % of 30.0 GFLOP",
        "1 m 16 s left",
        "host 338, now 934, at most 1,300",
        "p99 ",
        "of 18 ms",
        "bus 3 waiting",
        "210 of 600 steps, 6 contenders, BP009 at body.relu1 leads +0.0710",
        "fossilized",
        "blending α 0.40",
        "+0.0412",
        "dormant",
        "! training_latency_high",
        "b77c: gain −0.0041 is below the least gain",
    ],
)
def test_the_picture_says(words: str) -> None:
    assert words in said(a_view())


def test_before_torch_is_loaded_the_picture_says_what_it_waits_for() -> None:
    assert "loading torch" in said(RunView(RunFacts("mnist1d", "heuristic", 0, "runs")))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_wraps(width: int) -> None:
    view = a_view()
    assert len(said(view, 50, width).splitlines()) == len(lines(view))


def test_a_long_folder_cuts_off_neither_the_phase_nor_the_mode() -> None:
    view = a_view()
    facts = msgspec.structs.replace(view.facts, out="somewhere/" * 12)
    view = msgspec.structs.replace(view, facts=facts, phase="training", conservative=True)
    head = said(view, 50, 110).splitlines()[0]
    assert " · seed 20 · training · conservative mode · " in head
    assert head.endswith("…")


def test_a_hundred_sites_fit_on_a_small_terminal() -> None:
    sites = tuple(SiteView(SiteInfo(f"s{n}", Layout.VECTOR, (3,), 3, n)) for n in range(100))
    view = msgspec.structs.replace(a_view(), sites=(*a_view().sites, *sites))
    assert len(lines(view, 24)) <= 24
    assert "more dormant sites" in said(view, 24)
    assert "body.relu2" in said(view, 24)


def test_a_boundary_above_its_budget_is_red() -> None:
    view = a_view()
    assert view.boundary is not None
    slow = msgspec.structs.replace(view, boundary=msgspec.structs.replace(view.boundary, p99_ms=19.0))
    (line,) = [text for text in lines(slow) if text.plain.startswith("boundary")]
    assert any(span.style == "red" for span in line.spans)


def test_kernels_that_are_being_made_have_a_line_until_all_are_ready() -> None:
    made = msgspec.structs.replace(a_view(), kernels=KernelProgress(7, 24))
    (line,) = [text.plain for text in lines(made) if text.plain.startswith("kernels")]
    assert line.endswith("7 of 24 ready for what may be grown next")
    now = msgspec.structs.replace(made, kernels=KernelProgress(7, 24, ("identity", "low rank")))
    (line,) = [text.plain for text in lines(now) if text.plain.startswith("kernels")]
    assert line.endswith("next; now identity, low rank")
    for done in (KernelProgress(24, 24), None):
        shown = lines(msgspec.structs.replace(made, kernels=done))
        assert not any(text.plain.startswith("kernels") for text in shown)


def test_the_summary_puts_the_ungrown_host_beside() -> None:
    found = [line.plain for line in summary(a_report(), "runs/x")]
    assert found[0].startswith("mnist1d grew from 338 to 1,214 parameters")
    (fresh,) = [line for line in found if line.startswith("accuracy, fresh data")]
    assert fresh.split() == ["accuracy,", "fresh", "data", "89.8", "%", "75.5", "%", "+14.3", "points"]
    assert found[-1] == "report  runs/x/report.html"


def test_the_summary_does_without_comparison_and_figures() -> None:
    report = a_report(5, compared=False)
    report = msgspec.structs.replace(report, grafts=(), final=FinalFacts(0.5, None, None, None, 338, 10))
    found = "\n".join(line.plain for line in summary(report, "runs/x"))
    assert "stayed at 338 parameters and reached 50.0 % on validation data." in found
    assert "ungrown" not in found


def test_the_summary_says_which_grafts_came_from_the_store_and_what_was_amiss() -> None:
    own, wrong = {"BP051": "it is in no file"}, {"BP032": "its gradients differ"}
    facts = KernelFacts(1, 1, 25, {"BP036": "it hung"}, 2, own, wrong)
    report = msgspec.structs.replace(a_report(), kernels=facts)
    told = "\n".join(text.plain for text in summary(report, "runs/x"))
    assert (
        "1 of 2 grafts from the store, 1 built on the spot; 25 fetched ahead; 2 damaged ones set aside to be "
        "made again; left out: BP036; never compiled: BP051; native code refused: BP032" in told
    )
    assert "from the store" not in "\n".join(text.plain for text in summary(a_report(), "runs/x"))


def test_two_seeds_of_one_blueprint_can_be_told_apart() -> None:
    first = a_report().grafts[0]
    grafts = tuple(
        msgspec.structs.replace(first, seed_id=f"relu1#{n}", site="relu1", gain=None) for n in (0, 1)
    )
    report = msgspec.structs.replace(a_report(), grafts=grafts)
    told = [line.plain for line in summary(report, "runs/x") if "fossilized" in line.plain]
    assert [line.split()[0] for line in told] == ["relu1#0", "relu1#1"]


def test_the_picture_names_a_seed_by_its_id_and_an_empty_site_by_its_name() -> None:
    rows = [line.split()[:2] for line in said(a_view()).splitlines()]
    assert ["a1f0", "fossilized"] in rows
    assert ["d410", "blending"] in rows
    assert ["body.relu3", "dormant"] in rows


def test_the_picture_names_the_runs_own_folder() -> None:
    facts = RunFacts("mnist1d", "heuristic", 0, "runs", folder="runs/mnist1d-s0")
    assert "seed 0 · starting · runs/mnist1d-s0" in said(RunView(facts))
