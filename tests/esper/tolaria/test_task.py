import pytest
import torch

from esper.tolaria.errors import BadData
from esper.tolaria.task import Tensors, check_data, class_accuracy
from tests.esper.tolaria.world import split, task, trainer


def test_bad_examples_are_counted_and_the_split_named() -> None:
    data = split(1, 10)
    data.inputs[3, 0] = float("nan")
    data.inputs[3, 1] = float("inf")
    data.inputs[7, 2] = -float("inf")
    with pytest.raises(BadData, match="2 of 10 inputs of the train split"):
        check_data("train", data)


def test_bad_targets_are_found_too() -> None:
    targets = torch.zeros(4)
    targets[1] = float("nan")
    with pytest.raises(BadData, match="1 of 4 targets of the test split"):
        check_data("test", Tensors(torch.zeros(4, 2), targets))


@pytest.mark.parametrize(("inputs", "targets", "words"), [(0, 0, "empty"), (3, 2, "3 inputs and 2 targets")])
def test_splits_that_do_not_fit_are_refused(inputs: int, targets: int, words: str) -> None:
    with pytest.raises(BadData, match=words):
        check_data("validation", Tensors(torch.zeros(inputs, 1), torch.zeros(targets)))


def test_whole_numbers_are_always_finite() -> None:
    check_data("train", Tensors(torch.ones(3, 2, dtype=torch.int64), torch.ones(3, dtype=torch.int64)))


def test_a_trainer_refuses_bad_data_before_it_trains() -> None:
    bad = task()
    bad.validation.inputs[0] = float("nan")
    with pytest.raises(BadData, match="validation"):
        trainer(the_task=bad)


def test_the_first_examples_of_a_split_are_all_of_them_for_0() -> None:
    data = split(1, 10)
    assert len(data.first(4)) == 4
    assert data.first(0) is data
    assert data.first(20) is data


def test_accuracy_is_the_share_of_right_classes() -> None:
    outputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    assert class_accuracy(outputs, torch.tensor([0, 1, 1, 1])) == 0.75
