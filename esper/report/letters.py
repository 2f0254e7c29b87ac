"""Dead letters as a person reads them: a table on a terminal, plain lines in a pipe, or JSON.

Whoever reaches the server can write there, so control characters are not shown.
"""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TextIO

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contracts.letters import LetterFacts, LetterInspected, LettersAnswer, LettersHandled, LettersListed
from esper.report import words

_HEAD = ("letter", "priority", "attempts", "died (UTC)", "message", "why")
ID_WIDTH_MAX = 48
"""Columns that ids take at the cost of the reasons; a longer one is folded."""
_DONE = {"replay": "queued again", "drop": "dropped"}


def tell(answer: LettersAnswer, *, json: bool, out: TextIO) -> None:
    """Print it; what was not done goes to stderr as well."""
    if json:
        out.write(msgspec.json.format(msgspec.json.encode(answer)).decode() + "\n")
        return
    match answer:
        case LettersListed():
            _tell_list(answer, Console(file=out))
        case LetterInspected():
            out.writelines(f"{words.plain(line)}\n" for line in inspected(answer))
        case LettersHandled():
            for kept in answer.kept:
                print(f"esper: {words.plain(kept.reason)}", file=sys.stderr)
            out.write(f"{handled(answer)}\n")


def _tell_list(answer: LettersListed, console: Console) -> None:
    if not console.is_terminal:
        for line in lines(answer.letters):
            print(line, file=console.file)
    elif answer.letters:
        console.print(table(answer))
    else:
        console.print(Text(f"no dead letters in {answer.run_id}"))


def lines(letters: Iterable[LetterFacts]) -> list[str]:
    """One line a letter, its id first."""
    return ["  ".join(_cells(letter)) for letter in letters]


def table(answer: LettersListed) -> Table:
    """The same in columns, ids and reasons folded to the width there is."""
    shown = Table(*_HEAD, title=Text(f"dead letters in {answer.run_id}"), title_justify="left", box=None)
    for column in shown.columns:
        column.overflow = "fold"
    longest = max((len(letter.letter_id) for letter in answer.letters), default=0)
    shown.columns[0].min_width = min(longest, ID_WIDTH_MAX)
    for letter in answer.letters:
        shown.add_row(*(Text(cell) for cell in _cells(letter)))
    return shown


def inspected(answer: LetterInspected) -> list[str]:
    """All that is known of one letter, its message as JSON."""
    letter = answer.letter
    found = [
        f"letter    {letter.letter_id}",
        f"topic     {letter.topic}, group {letter.group}, {letter.priority} priority",
        f"given up  {_when(letter.died_s)} UTC after {words.counted(letter.attempts, 'attempt', 'attempts')}",
        f"why       {letter.error or words.ABSENT}",
    ]
    if letter.unreadable:
        return [*found, f"message   can't be read: {letter.unreadable}"]
    text = msgspec.json.format(msgspec.json.encode(answer.message)).decode()
    return [*found, f"message   {letter.kind}", *text.splitlines()]


def handled(answer: LettersHandled) -> str:
    """How many letters it was done with."""
    number = words.counted(len(answer.done), "letter", "letters")
    of = f" of {words.count(len(answer.done) + len(answer.kept))}" if answer.kept else ""
    return f"{number}{of} {_DONE[answer.what]} in {answer.run_id}"


def _cells(letter: LetterFacts) -> Sequence[str]:
    message = letter.kind or "unreadable"
    cells = (
        letter.letter_id,
        letter.priority,
        str(letter.attempts),
        _when(letter.died_s),
        message,
        letter.error or letter.unreadable,
    )
    return tuple(map(words.plain, cells))


def _when(died_s: float) -> str:
    try:
        return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=died_s):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError):  # no time that a server of ours would say
        return words.ABSENT
