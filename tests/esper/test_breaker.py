"""The breaker opens after failures in a row, rests, and goes by one probe."""

from esper.breaker import Breaker, BreakerState


def opened(at: float) -> Breaker:
    breaker = Breaker(failures_max=3, rest=30)
    for _ in range(3):
        breaker.failed(at)
    return breaker


def test_it_opens_at_the_third_failure_in_a_row() -> None:
    breaker = Breaker(failures_max=3, rest=30)
    breaker.failed(0)
    breaker.failed(0)
    breaker.succeeded()
    breaker.failed(1)
    breaker.failed(1)
    assert breaker.permits(1, 7) == 7
    breaker.failed(1)
    assert (breaker.state(1), breaker.permits(1, 7)) == (BreakerState.OPEN, 0)


def test_after_the_rest_one_probe_is_let_through() -> None:
    breaker = opened(at=5)
    assert (breaker.permits(34.9, 7), breaker.retry_in(34.9) > 0) == (0, True)
    assert (breaker.state(35), breaker.permits(35, 7)) == (BreakerState.HALF_OPEN, 1)
    breaker.began()
    assert breaker.permits(35, 7) == 0


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = opened(at=5)
    breaker.began()
    breaker.succeeded()
    assert (breaker.state(36), breaker.failures, breaker.retry_in(36)) == (BreakerState.CLOSED, 0, 0)


def test_a_probe_that_fails_opens_it_again() -> None:
    breaker = opened(at=5)
    breaker.began()
    breaker.failed(40)
    assert breaker.permits(69.9, 1) == 0
    assert breaker.permits(70, 1) == 1


def test_a_probe_without_a_result_leaves_room_for_another() -> None:
    breaker = opened(at=5)
    breaker.began()
    breaker.withdrawn()
    assert breaker.permits(35, 1) == 1


def test_a_failure_of_an_earlier_try_does_not_prolong_the_rest() -> None:
    breaker = opened(at=5)
    breaker.failed(20)
    assert breaker.permits(35, 1) == 1
