"""Dead letters as a person reads them; whatever others wrote in them is text, and no more."""

import io
from collections.abc import Callable
from typing import Final

import msgspec
import pytest
from rich.console import Console

from contracts.letters import LetterFacts, LetterInspected, LettersListed
from esper.report.letters import inspected, table

A_LETTER: Final = LetterFacts(
    letter_id="t/g/\x07e",
    topic="t",
    group="g",
    event_id="\x07e",
    priority="high",
    attempts=5,
    error="[red]boom",
    died_s=1_000_000_000.0,
    kind="",
    unreadable="SignatureRefused: bad\x9b2J",
)


def drawn(render: Callable[[Console], None]) -> str:
    """As a terminal of 100 columns shows it."""
    out = io.StringIO()
    render(Console(file=out, force_terminal=True, width=100, color_system=None))
    return out.getvalue()


def test_a_terminal_gets_a_table_and_nothing_in_it_is_taken_for_a_command() -> None:
    text = drawn(lambda console: console.print(table(LettersListed("run-1", (A_LETTER,)))))
    assert text.splitlines()[0].strip() == "dead letters in run-1"
    assert text.splitlines()[1].split()[:3] == ["letter", "priority", "attempts"]
    assert "t/g/?e" in text
    wide = msgspec.structs.replace(A_LETTER, letter_id="adaptation-command/nissa/one", error="why " * 30)
    assert wide.letter_id in drawn(lambda console: console.print(table(LettersListed("run-1", (wide,)))))
    assert "[red]boom" in text
    assert "2001-09-09" in text
    assert "\x07" not in text


@pytest.mark.parametrize("died_s", [float("inf"), float("nan"), -1e300])
def test_a_letter_of_no_time_that_can_not_be_read_is_shown_all_the_same(died_s: float) -> None:
    letter = msgspec.structs.replace(A_LETTER, died_s=died_s)
    lines = inspected(LetterInspected("run-1", letter, None))
    assert lines[2] == "given up  — UTC after 5 attempts"
    assert lines[-1] == "message   can't be read: SignatureRefused: bad\x9b2J"
