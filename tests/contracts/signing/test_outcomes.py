"""A repeated command is answered with its outcome."""

import pytest

from contracts.signing.outcomes import Outcomes


def test_the_first_outcome_stands() -> None:
    outcomes: Outcomes[str] = Outcomes()
    assert outcomes.of("a") is None
    assert outcomes.keep("a", "applied") == "applied"
    assert outcomes.keep("a", "refused") == "applied"
    assert outcomes.of("a") == "applied"


def test_memory_is_bounded_and_repeats_keep_nothing_alive() -> None:
    outcomes: Outcomes[int] = Outcomes(3)
    for n in range(5):
        outcomes.keep(str(n), n)
        assert outcomes.of(str(max(0, n - 2))) == max(0, n - 2)
        outcomes.keep(str(max(0, n - 2)), -1)
    assert len(outcomes) == 3
    assert [outcomes.of(str(n)) for n in range(5)] == [None, None, 2, 3, 4]


def test_no_room_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Outcomes(0)
