from dataclasses import replace
from itertools import chain

import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.tolaria.loader import Loader, LoaderState
from esper.tolaria.task import Tensors


def numbered(examples: int) -> Tensors:
    return Tensors(torch.arange(examples).float().unsqueeze(1), torch.arange(examples))


def loader(examples: int = 20, batch_size: int = 5, seed: int = 0) -> Loader:
    return Loader(numbered(examples), batch_size, torch.Generator().manual_seed(seed))


def drawn(source: Loader, steps: int) -> list[list[int]]:
    return [targets.tolist() for _, targets in source.batches(steps)]


def test_each_pass_sees_every_example_once_in_a_new_order() -> None:
    batches = drawn(loader(), 8)
    first, second = list(chain(*batches[:4])), list(chain(*batches[4:]))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_inputs_and_targets_stay_together() -> None:
    for inputs, targets in loader().batches(7):
        assert inputs.squeeze(1).tolist() == targets.tolist()


def test_examples_left_over_at_the_end_of_a_pass_are_left_out() -> None:
    batches = drawn(loader(examples=23), 4)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    assert len(set(chain(*batches))) == 20


def test_a_data_set_smaller_than_a_batch_is_one_batch() -> None:
    assert [sorted(batch) for batch in drawn(loader(examples=3), 2)] == [[0, 1, 2], [0, 1, 2]]


@given(st.lists(st.integers(0, 7), max_size=6))
def test_the_order_does_not_depend_on_how_many_steps_are_taken_at_a_time(cuts: list[int]) -> None:
    source = loader(seed=4)
    pieces = [batch for steps in cuts for batch in drawn(source, steps)]
    assert pieces == drawn(loader(seed=4), sum(cuts))


def test_a_batch_that_was_not_asked_for_was_not_used_up() -> None:
    whole, source = drawn(loader(), 6), loader()
    taken = []
    for _, targets in source.batches(6):
        taken.append(targets.tolist())
        if len(taken) == 2:
            break
    assert taken + drawn(source, 4) == whole


def test_it_goes_back_to_where_its_state_was_taken_and_across_the_end_of_a_pass() -> None:
    source = loader()
    drawn(source, 3)
    state = source.state()
    ahead = drawn(source, 6)
    source.restore(state)
    assert drawn(source, 6) == ahead


def test_a_state_that_is_not_of_these_data_is_told_apart_and_its_own_is_not() -> None:
    source = loader()
    assert source.flaw(source.state()) == ""
    drawn(source, 3)
    state = source.state()
    assert source.flaw(state) == ""
    for wrong, said in (
        (replace(state, order=torch.arange(19)), "of 19 examples; there are 20"),
        (replace(state, order=torch.arange(20).float()), "order of the data"),
        (replace(state, order=torch.arange(1, 21)), "examples that there are not"),
        (replace(state, position=5), "batch 5; a pass has 4"),
        (replace(state, position=-1), "batch -1"),
        (replace(state, order=torch.empty(0, dtype=torch.int64), position=1), "batch 1"),
        (replace(state, generator=torch.zeros(8, dtype=torch.uint8)), "RNG"),
    ):
        assert said in source.flaw(wrong)
    assert drawn(source, 2) == drawn(at(state), 2)


def at(state: LoaderState) -> Loader:
    other = loader(seed=9)
    other.restore(state)
    return other


def test_it_draws_nothing_from_the_global_stream() -> None:
    before = torch.get_rng_state()
    drawn(loader(), 9)
    assert torch.equal(before, torch.get_rng_state())
