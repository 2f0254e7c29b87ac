"""What waits for a batch keeps its order, but for consumers, who pass publishers."""

from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import given

from actors.oona.redis.call import Call, Order
from actors.oona.redis.waiting import Waiting

OPS_MAX = 3


class Operation(Call):
    """Number, and whether it is hasty or patient."""

    __slots__ = ("hasty", "number", "patient", "size", "weight")

    def __init__(self, number: int, kind: str, size: int = 0, weight: int = 1) -> None:
        self.number = number
        self.hasty = kind == "hasty"
        self.patient = kind == "patient"  # type: ignore[misc]
        self.size = size
        self.weight = weight


class Unwanted(Operation):
    __slots__ = ()

    def wanted(self) -> bool:
        return False


def waiting(kinds: Sequence[str]) -> Waiting:
    line = Waiting(OPS_MAX)
    for number, kind in enumerate(kinds):
        line.add(Operation(number, kind))
    return line


def numbers(calls: Sequence[Call]) -> list[int]:
    return [call.number for call in calls if isinstance(call, Operation)]


def all_of(line: Waiting) -> list[int]:
    taken: list[int] = []
    while calls := line.take(bytes_max=100):
        taken += numbers(calls)
    return taken


def test_what_fits_into_one_batch_goes_in_the_order_of_submission() -> None:
    assert all_of(waiting(["patient", "patient", "hasty"])) == [0, 1, 2]


def test_a_consumer_does_not_wait_for_more_publishers_than_go_with_one_batch() -> None:
    assert all_of(waiting(["patient"] * 4 + ["hasty", "patient", "hasty"])) == [4, 6, 0, 1, 2, 3, 5]


def test_nothing_passes_what_is_neither_hasty_nor_patient() -> None:
    assert all_of(waiting(["patient"] * 4 + ["firm", "hasty"])) == [0, 1, 2, 3, 4, 5]


def test_once_it_is_gone_it_holds_nobody_up_any_longer() -> None:
    line = waiting(["firm", *["patient"] * 6])
    assert numbers(line.take(bytes_max=100)) == [0, 1, 2]
    line.add(Operation(7, "hasty"))
    assert numbers(line.take(bytes_max=100)) == [7, 3, 4]


def test_a_batch_is_bounded_in_operations_and_bytes_but_takes_at_least_one() -> None:
    line = Waiting(OPS_MAX)
    for number, (size, weight) in enumerate([(200, 1), (60, 1), (60, 1), (0, 2), (0, 3), (0, 1)]):
        line.add(Operation(number, "patient", size, weight))
    batches = [numbers(line.take(bytes_max=100)) for _ in range(5)]
    assert batches == [[0], [1], [2, 3], [4], [5]]
    assert not line


def test_who_is_no_longer_wanted_is_left_out() -> None:
    line = Waiting(OPS_MAX)
    for number in range(5):
        line.add(Operation(number, "patient") if number % 2 else Unwanted(number, "firm"))
    assert all_of(line) == [1, 3]


def test_the_oldest_order_is_forgotten_first() -> None:
    line = waiting(["patient"] * 2)
    orders = [Order(("a",)), Order(("b",))]
    for order in orders:
        line.add(order)
    assert line.forget_oldest_order() is orders[0]
    assert line.forget_oldest_order() is orders[1]
    assert line.forget_oldest_order() is None
    line.add(Operation(2, "patient"))
    line.add(Operation(3, "hasty"))
    assert all_of(line) == [3, 0, 1, 2], "the orders are not waited for any longer"


def test_who_may_not_stay_is_given_back_in_order() -> None:
    line = waiting(["patient"] * 4 + ["hasty"])
    assert numbers(line.keep(lambda call: isinstance(call, Operation) and call.number % 2 == 0)) == [1, 3]
    assert all_of(line) == [4, 0, 2]


@given(st.lists(st.sampled_from(["hasty", "patient", "firm", "take"]), max_size=60))
def test_only_what_is_hasty_passes_and_only_what_is_patient_is_passed(steps: list[str]) -> None:
    line = Waiting(OPS_MAX)
    kinds: dict[int, str] = {}
    gone: list[int] = []
    for number, step in enumerate(steps):
        if step == "take":
            gone += numbers(line.take(bytes_max=100))
        else:
            kinds[number] = step
            line.add(Operation(number, step))
    gone += all_of(line)
    assert sorted(gone) == sorted(kinds), "none is lost"
    for place, later in enumerate(gone):
        for earlier in gone[place + 1 :]:
            if earlier < later:
                assert (kinds[later], kinds[earlier]) == ("hasty", "patient")
