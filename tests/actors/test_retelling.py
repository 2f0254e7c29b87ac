"""An observed run, retold as its own display would tell it, as JSON lines, or not at all."""

import io
import json
import os

import pytest
from msgspec.structs import replace
from rich.console import Console

from actors.display import Picture
from actors.retelling import JsonRetelling, Retelling, Shown, closing_line, make_retelling
from contracts.registry import ControlFacts, Pulse, RunEntry
from contracts.report import Ending, EpochFacts
from contracts.view import Event, RunFacts, RunView
from esper.report import words
from tests.esper.report.made_up import a_view

ENTRY = RunEntry("mnist1d-s20", RunFacts("mnist1d", "heuristic", 20, "runs", epochs=10), 0)
OVER = RunEntry(
    "mnist1d-s20", ENTRY.facts, 0, ended=Ending("interrupted", "stopped by a signal"), closing="It grew."
)
EVENT = Event(7, "germinated", "a1f0: BP009 at body.relu1")
FACTS = EpochFacts(7, 0.5, 0.6, 0.7, 0.01, params=338, train_flops=1_000)


def a_life(retelling: Retelling) -> None:
    retelling.note("no run lives there now", "info")
    retelling.start(ENTRY)
    retelling.news(EVENT)
    retelling.news(FACTS)
    retelling.note("the server is back", "info", 7)
    retelling.update(a_view(20))
    retelling.end(OVER, a_view(20), False)
    retelling.close()
    retelling.close()


def test_lines_are_those_of_the_runs_own_display_and_a_closing_one() -> None:
    out = io.StringIO()
    a_life(make_retelling(json=False, quiet=False, out=out))
    assert out.getvalue().splitlines() == [
        "no run lives there now",
        "Esper  mnist1d · policy heuristic · seed 20 · 10 epochs · runs",
        "epoch 7  germinated  a1f0: BP009 at body.relu1",
        "epoch 7  info  the server is back",
        "mnist1d-s20 interrupted (stopped by a signal): It grew.",
    ]


def test_json_is_one_object_a_line_for_every_event_and_epoch() -> None:
    out = io.StringIO()
    retelling = make_retelling(json=True, quiet=False, out=out)
    assert isinstance(retelling, JsonRetelling)
    a_life(retelling)
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["kind"] for line in said] == ["note", "start", "event", "epoch", "note", "end"]
    assert (said[1]["run_id"], said[1]["workload"]) == ("mnist1d-s20", "mnist1d")
    assert (said[2]["event"], said[2]["text"]) == ("germinated", EVENT.text)
    assert (said[3]["epoch"], said[3]["val_loss"], said[3]["params"]) == (7, 0.6, 338)
    assert (said[5]["ended"], said[5]["closing"]) == (
        {"kind": "interrupted", "reason": "stopped by a signal", "complete": False},
        "It grew.",
    )
    newest = a_view(20).epochs[-1]
    assert (said[5]["epoch"], said[5]["val_accuracy"], said[5]["params"]) == (
        newest.epoch,
        newest.val_accuracy,
        newest.params,
    )
    assert (said[5]["ungrown"], said[5]["incomplete"]) == (None, False)


def test_json_knows_no_figures_of_a_run_of_which_nothing_was_kept() -> None:
    out = io.StringIO()
    retelling = make_retelling(json=True, quiet=False, out=out)
    retelling.end(OVER, RunView(OVER.facts), True)
    said = json.loads(out.getvalue())
    assert (said["epoch"], said["val_accuracy"], said["params"]) == (None, None, None)
    assert said["incomplete"] is True


def test_lines_say_where_a_run_is_that_is_joined_late_and_nothing_of_one_that_begins() -> None:
    late, early = io.StringIO(), io.StringIO()
    for out, view in ((late, a_view(20)), (early, RunView(ENTRY.facts))):
        retelling = make_retelling(json=False, quiet=False, out=out)
        retelling.start(ENTRY)
        retelling.here(view)
        retelling.news(EVENT)
        retelling.close()
    header, where, event = late.getvalue().splitlines()
    assert where.startswith("epoch 20  probing")
    assert early.getvalue().splitlines() == [header, event]


@pytest.mark.parametrize("once", [True, False])
def test_what_is_known_of_the_end_is_said_of_a_run_that_is_over(once: bool) -> None:
    pulse = Pulse(9, control=ControlFacts(338, 10**9, replace(FACTS, epoch=30)), epoch=25)
    out = io.StringIO()
    retelling = make_retelling(json=False, quiet=False, out=out)
    tell = retelling.once if once else retelling.end
    tell(replace(OVER, pulse=pulse), a_view(20), True)
    assert out.getvalue().splitlines()[-3:] == [
        "what the bus kept ends at epoch 20",
        f"ungrown host  epoch 30  val loss 0.6000  val accuracy {words.percent(0.7)}  338 parameters",
        "mnist1d-s20 interrupted (stopped by a signal): It grew.",
    ]


@pytest.mark.parametrize("missing", [True, False])
def test_a_picture_of_a_run_that_fell_silent_says_where_what_was_kept_ends(missing: bool) -> None:
    out = io.StringIO()
    make_retelling(json=False, quiet=False, out=out).once(ENTRY, a_view(20), missing)
    assert ("what the bus kept ends at epoch 20" in out.getvalue()) == missing
    assert "finished" not in out.getvalue().splitlines()[-1]


def test_a_picture_once_is_the_whole_of_it() -> None:
    plain, lines = io.StringIO(), io.StringIO()
    make_retelling(json=False, quiet=False, out=plain).once(ENTRY, a_view(20), False)
    assert "Esper mnist1d" in plain.getvalue()
    assert "body.relu1" in plain.getvalue()
    assert "is not over" not in plain.getvalue()
    make_retelling(json=True, quiet=False, out=lines).once(ENTRY, a_view(20), False)
    (line,) = lines.getvalue().splitlines()
    assert json.loads(line)["picture"]["params"] == a_view(20).params


def test_on_a_terminal_the_last_picture_stays_and_the_closing_line_follows() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=40)
    a_life(Shown(Picture(console), out))
    text = out.getvalue()
    assert text.index("no run lives there now") < text.index("Esper ")
    assert text.rindex("It grew.") > text.rindex("\x1b[?25h"), "below the picture, the cursor shown again"


def test_quiet_says_nothing() -> None:
    out = io.StringIO()
    for as_json in (False, True):
        retelling = make_retelling(json=as_json, quiet=True, out=out)
        a_life(retelling)
        retelling.once(ENTRY, a_view(20), False)
        assert not retelling.unheard
    assert out.getvalue() == ""


@pytest.mark.parametrize("as_json", [False, True])
def test_a_reader_who_has_gone_is_noticed_and_does_no_harm(as_json: bool) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as out:
        retelling = make_retelling(json=as_json, quiet=False, out=out)
        retelling.start(ENTRY)
        assert not retelling.unheard
        os.close(reading)
        while not retelling.unheard:
            retelling.news(EVENT)
        a_life(retelling)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (ENTRY, "mnist1d-s20 is not over"),
        (OVER, "mnist1d-s20 interrupted (stopped by a signal): It grew."),
        (RunEntry("r", ENTRY.facts, 0, ended=Ending()), "r finished"),
    ],
)
def test_the_closing_line_says_how_it_ended_and_what_came_of_it(entry: RunEntry, said: str) -> None:
    assert closing_line(entry) == said
