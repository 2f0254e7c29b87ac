"""Which run an observer follows."""

import pytest

from contracts.registry import ListedRun, RunEntry
from contracts.report import Ending
from contracts.view import RunFacts
from esper.observer.choice import NoSuchRun, chosen, state


def a_run(run_id: str, *, alive: bool = True, ended: Ending | None = None) -> ListedRun:
    return ListedRun(RunEntry(run_id, RunFacts("w", "p", 0, "runs"), 0, ended=ended), alive)


RUNS = [a_run("c", alive=False), a_run("b2"), a_run("b1"), a_run("a", alive=False, ended=Ending("halted"))]


def test_without_a_wish_the_newest_that_lives_is_taken() -> None:
    assert chosen(RUNS, None) is RUNS[1]
    assert chosen([RUNS[0], RUNS[3]], None) is None
    assert chosen([], None) is None


@pytest.mark.parametrize(("wanted", "index"), [("b2", 1), ("b1", 2), ("c", 0), ("a", 3)])
def test_a_run_is_found_by_its_id_however_it_is(wanted: str, index: int) -> None:
    assert chosen(RUNS, wanted) is RUNS[index]


def test_the_whole_id_goes_before_the_beginning_of_another() -> None:
    runs = [a_run("run-2"), a_run("run")]
    assert chosen(runs, "run") is runs[1]
    assert chosen(runs, "run-") is runs[0]


@pytest.mark.parametrize("path", ["runs/b1", "runs/b1/", "./b1/", "/elsewhere/runs/b1"])
def test_the_path_of_a_runs_folder_names_it_by_its_last_part(path: str) -> None:
    assert chosen(RUNS, path) is RUNS[2]
    with pytest.raises(NoSuchRun):
        chosen(RUNS, "b1/runs")


def test_of_several_that_begin_so_the_only_one_that_lives_is_meant() -> None:
    runs = [a_run("r3", alive=False, ended=Ending()), a_run("r2"), a_run("r1", alive=False)]
    assert chosen(runs, "r") is runs[1]
    with pytest.raises(NoSuchRun, match="several runs begin with 'r'"):
        chosen([runs[0], runs[2]], "r")


def test_more_than_one_and_none_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        NoSuchRun, match=r"several runs begin with 'b'; name one: b2 \(running\), b1 \(running\)"
    ):
        chosen(RUNS, "b")
    with pytest.raises(NoSuchRun, match=r"no run 'x'; there are: c \(silent\), .*a \(halted\)"):
        chosen(RUNS, "x")
    with pytest.raises(NoSuchRun, match="no run has been here"):
        chosen([], "x")


def test_a_run_is_running_silent_or_as_it_ended() -> None:
    assert [state(run) for run in RUNS] == ["silent", "running", "running", "halted"]
