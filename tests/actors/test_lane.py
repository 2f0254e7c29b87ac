"""Claims about the thread in which training runs."""

import queue
import threading
import weakref
from functools import partial

from actors.lane import JobFailed, ThreadLane


def test_jobs_run_one_after_the_other_in_one_thread_that_is_not_ours() -> None:
    lane, outcomes, idents = ThreadLane("lane"), queue.SimpleQueue[object](), set[int]()

    def job(number: int) -> int:
        idents.add(threading.get_ident())
        return number

    for number in range(20):
        lane.submit(partial(job, number), outcomes.put)
    assert [outcomes.get(timeout=60) for _ in range(20)] == list(range(20))
    assert len(idents) == 1
    assert threading.get_ident() not in idents
    assert lane.close(60)


def test_a_job_that_raises_is_delivered_and_the_next_one_runs() -> None:
    lane, outcomes = ThreadLane("lane"), queue.SimpleQueue[object]()

    def fail() -> object:
        raise ArithmeticError("no")

    lane.submit(fail, outcomes.put)
    lane.submit(lambda: 7, outcomes.put)
    failed = outcomes.get(timeout=60)
    assert isinstance(failed, JobFailed)
    assert isinstance(failed.error, ArithmeticError)
    assert outcomes.get(timeout=60) == 7
    assert lane.close(60)


def test_the_lane_is_prepared_in_its_own_thread_before_the_first_job() -> None:
    prepared: list[int] = []
    lane = ThreadLane("lane", lambda: prepared.append(threading.get_ident()))
    outcomes = queue.SimpleQueue[object]()
    lane.submit(threading.get_ident, outcomes.put)
    assert [outcomes.get(timeout=60)] == prepared
    assert lane.close(60)


def test_closing_says_whether_the_running_job_has_ended() -> None:
    lane, going = ThreadLane("lane"), threading.Event()
    lane.submit(lambda: going.wait(60), lambda _: None)
    assert not lane.close(0.01)
    going.set()
    assert lane.close(60)


def test_what_a_job_held_is_let_go_when_it_is_done_and_not_when_the_next_one_comes() -> None:
    class Load:
        """Something large."""

    lane, load, gone = ThreadLane("lane"), Load(), threading.Event()
    weakref.finalize(load, gone.set)
    lane.submit(partial(id, load), lambda _: None)
    del load
    assert gone.wait(60)
    assert lane.close(60)
