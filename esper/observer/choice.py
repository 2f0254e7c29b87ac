"""Which run is meant."""

from collections.abc import Sequence
from pathlib import PurePath

from contracts.registry import ListedRun


class NoSuchRun(ValueError):
    """None, or more than one, is called so; the message names those that there are."""


def chosen(runs: Sequence[ListedRun], wanted: str | None) -> ListedRun | None:
    """The run of this id, or whose id begins so; without a wish the newest that lives, None if none does.

    Of a path to a run's folder the last part counts. Where several ids begin so, the only one that lives
    is meant. `runs` are given newest first.

    Raises:
        NoSuchRun: no run is called so, or several are.
    """
    if wanted is None:
        return next((run for run in runs if _lives(run)), None)
    wanted = PurePath(wanted).name or wanted
    exact = [run for run in runs if run.entry.run_id == wanted]
    found = exact or [run for run in runs if run.entry.run_id.startswith(wanted)]
    living = [run for run in found if _lives(run)]
    if len(found) == 1 or len(living) == 1:
        return (living or found)[0]
    if found:
        raise NoSuchRun(f"several runs begin with {wanted!r}; name one: {_named(found)}")
    there = f"there are: {_named(runs)}" if runs else "no run has been here in the last day"
    raise NoSuchRun(f"there is no run {wanted!r}; {there}")


def chosen_or_newest(runs: Sequence[ListedRun], wanted: str | None) -> ListedRun:
    """The same, and without a wish the newest that is over if none lives.

    Raises:
        NoSuchRun: no run is called so, several are, or there is none at all.
    """
    run = chosen(runs, wanted) or next(iter(runs), None)
    if run is None:
        raise NoSuchRun("no run has been there in the last day; start one with the same --bus")
    return run


def _lives(run: ListedRun) -> bool:
    return run.alive and run.entry.ended is None


def _named(runs: Sequence[ListedRun]) -> str:
    return ", ".join(f"{run.entry.run_id} ({state(run)})" for run in runs)


def state(run: ListedRun) -> str:
    """How it is with a run, in a word."""
    if run.entry.ended is not None:
        return run.entry.ended.kind
    return "running" if run.alive else "silent"
