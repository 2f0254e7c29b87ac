"""Displays: a picture on a terminal, lines in a pipe, nothing at all; and a terminal left as it was."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from actors.display import Display, JsonLines, Picture, PlainLines, Silent, make_display
from actors.printer import Printer
from contracts.view import RunFacts, RunView
from tests.esper.report.made_up import a_report, a_view

FACTS = RunFacts("mnist1d", "heuristic", 20, "runs", epochs=10)
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def a_life(display: Display, hand: Hand) -> None:
    """A run of a hundred boundaries, a second apart."""
    display.start(FACTS)
    for epoch in range(100):
        hand.now_s += 1.0
        display.update(msgspec.structs.replace(a_view(20), epoch=epoch))
    display.event("a1f0: BP009 at body.relu1", "germinated")
    display.event("a1f0: gain +0.3", "fossilized", epoch=7)
    display.finish(a_report(10))
    display.close()


def a_terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=40)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_quiet_shows_nothing() -> None:
    out = io.StringIO()
    display = make_display(json=True, quiet=True, out=out)
    assert isinstance(display, Silent)
    a_life(display, Hand())
    assert out.getvalue() == ""


def test_without_a_stream_nothing_is_shown() -> None:
    closed = io.StringIO()
    closed.close()
    for out in (None, closed):
        assert isinstance(make_display(json=False, quiet=False, out=out), Silent)


def test_a_pipe_gets_plain_lines_and_json_if_asked() -> None:
    assert isinstance(make_display(json=False, quiet=False, out=io.StringIO()), PlainLines)
    assert isinstance(make_display(json=True, quiet=False, out=io.StringIO()), JsonLines)


def test_plain_lines_say_every_event_and_the_state_now_and_then() -> None:
    out, hand = io.StringIO(), Hand()
    a_life(PlainLines(out, hand), hand)
    lines = out.getvalue().splitlines()
    assert lines[0] == "Esper  mnist1d · policy heuristic · seed 20 · 10 epochs · runs"
    assert sum("train loss" in line for line in lines) == 20
    assert "epoch 99  germinated  a1f0: BP009 at body.relu1" in lines
    assert "epoch 7  fossilized  a1f0: gain +0.3" in lines
    assert lines[-1] == "report  runs/mnist1d-20/report.html"
    assert "\x1b" not in out.getvalue()


def test_a_long_epoch_is_reported_as_still_going_on_but_seldom() -> None:
    out, hand = io.StringIO(), Hand()
    display = PlainLines(out, hand)
    display.start(FACTS)
    for _ in range(100):
        hand.now_s += 1.0
        display.update(a_view(20))
    display.close()
    assert sum("train loss" in line for line in out.getvalue().splitlines()) == 4


def test_json_lines_are_one_object_each() -> None:
    out, hand = io.StringIO(), Hand()
    a_life(JsonLines(out, hand), hand)
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {entry["kind"] for entry in said} == {"start", "progress", "event", "finish"}
    assert (said[0]["workload"], said[0]["epochs"]) == ("mnist1d", 10)
    assert said[-1]["final"]["fresh_accuracy"] == 0.8978
    assert said[-1]["compare"]["brought"]["params"] == 876
    assert said[-1]["folder"] == "runs/mnist1d-20"


@pytest.mark.parametrize("lines", [PlainLines, JsonLines])
def test_a_run_begins_once(lines: type[PlainLines | JsonLines]) -> None:
    out = io.StringIO()
    display = lines(out, Hand())
    display.start(FACTS)
    display.start(msgspec.structs.replace(FACTS, folder="elsewhere"))
    display.finish(a_report(3))
    told = out.getvalue().splitlines()
    assert sum("heuristic" in line for line in told) == 1
    assert "elsewhere" not in out.getvalue()


def test_a_picture_is_begun_once() -> None:
    console = a_terminal()
    display = Picture(console)
    display.start(FACTS)
    display.update(a_view())
    display.start(FACTS)
    display.close()
    assert shown(console).count(HIDE_CURSOR) == 1
    assert shown(console).rindex("45 %") > shown(console).rindex("loading torch")


def test_json_does_not_know_parameters_before_anything_was_trained() -> None:
    out, hand = io.StringIO(), Hand()
    display = JsonLines(out, hand)
    display.start(FACTS)
    hand.now_s += 10.0
    display.update(RunView(FACTS))
    hand.now_s += 10.0
    display.update(a_view(20))
    display.close()
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [entry["params"] for entry in said if entry["kind"] == "progress"] == [None, 934]


def test_the_picture_is_drawn_at_the_start_and_makes_room_for_the_summary() -> None:
    console = a_terminal()
    display = Picture(console)
    display.start(FACTS)
    assert "loading torch" in shown(console)
    display.update(a_view())
    display.event("d410: BP004", "germinated")
    display.finish(a_report())
    assert "d410: BP004" in shown(console)
    assert "14.3 points above" in " ".join(shown(console).split())
    assert shown(console).rindex(SHOW_CURSOR) > shown(console).rindex(HIDE_CURSOR)


def test_closing_gives_the_terminal_back_and_may_be_done_twice() -> None:
    console, before = a_terminal(), (sys.stdout, sys.stderr)
    display = Picture(console)
    display.close()
    display.start(FACTS)
    display.close()
    display.close()
    assert shown(console).count(SHOW_CURSOR) == shown(console).count(HIDE_CURSOR) == 1
    assert (sys.stdout, sys.stderr) == before


CHILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
from actors.display import make_display
from contracts.view import RunFacts, RunView
facts = RunFacts("mnist1d", "heuristic", 0, "runs", epochs=9)
display = make_display(json=False, quiet=False, out=sys.stdout)
display.start(facts)
assert "torch" not in sys.modules, "the display loads torch"
print("READY", flush=True)
if sys.argv[1] == "crash":
    raise RuntimeError("boom")
while True:
    signal_comes = time.sleep(0.01)
"""


@pytest.mark.parametrize("end", ["crash", "interrupt"])
def test_a_run_that_ends_badly_leaves_the_terminal_as_it_was(end: str) -> None:
    master, slave = pty.openpty()
    root = Path(__file__).parents[2]
    environment = os.environ | {"TERM": "xterm", "PYTHONPATH": str(root)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, end], stdout=slave, stderr=slave, env=environment, cwd=root
    )
    os.close(slave)
    seen = b""
    while b"READY" not in seen:
        seen += os.read(master, 4096)
    if end == "interrupt":
        child.send_signal(signal.SIGINT)
    seen += rest_of(master)
    assert child.wait(timeout=120) != 0
    text = seen.decode()
    assert "the display loads torch" not in text
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


def rest_of(master: int) -> bytes:
    """What a terminal still shows until its last writer is gone."""
    seen = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # how Linux says that nobody has the other end any more
            chunk = b""
        if not chunk:
            os.close(master)
            return seen
        seen += chunk


class Stalled(io.StringIO):
    """A reader who takes nothing until told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = threading.Event()
        self.reached = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.reads.wait()
        return super().write(text)


def test_a_reader_who_stalls_holds_nothing_up_and_is_told_what_was_left_out() -> None:
    out = Stalled()
    printer = Printer(out, lines_most=3)
    printer.put("first")
    out.reached.wait()
    for number in range(10):
        printer.put(f"line {number}")
    assert not printer.close(timeout_s=0.0)
    out.reads.set()
    assert printer.close()
    assert out.getvalue().splitlines() == [
        "first", "(7 lines were left out: nobody read them)", "line 7", "line 8", "line 9",
    ]  # fmt: skip


def test_a_reader_who_is_gone_is_not_missed() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as out:
        printer = Printer(out)
        printer.put("hello")
        assert printer.close()
        printer.put("after the end")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk")
def test_a_full_disk_is_not_missed() -> None:
    with open("/dev/full", "w", encoding="utf-8") as out:
        printer = Printer(out)
        printer.put("hello")
        assert printer.close()


def test_a_stream_that_someone_closes_is_not_missed() -> None:
    out = io.StringIO()
    printer = Printer(out)
    out.close()
    printer.put("hello")
    assert printer.close()


def test_a_closed_printer_takes_no_more() -> None:
    out = io.StringIO()
    printer = Printer(out)
    printer.put("one")
    assert printer.close()
    printer.put("two")
    assert out.getvalue() == "one\n"


def test_a_terminal_without_our_signs_gets_question_marks() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    display = make_display(json=False, quiet=False, out=out)
    display.start(FACTS)
    display.close()
    assert raw.getvalue().startswith(b"Esper  mnist1d ? policy heuristic")
