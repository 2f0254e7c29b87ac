"""Tries a task on two examples, so that what does not fit is said before a run begins."""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor
from torch.nn.parameter import is_lazy

from esper.kasmina.aside import call, device_of, evaluating
from esper.tolaria.errors import BadData
from esper.tolaria.task import Task, check_data

T = TypeVar("T")

EXAMPLES = 2
WRONG = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What code that is given something unfit raises."""


def try_out(task: Task) -> None:
    """One forward pass, loss and accuracy; the model, its buffers and every random stream stay as they were.

    A model without shapes is left alone: the pass would give it some.

    Raises:
        BadData: the training data don't fit the model, its loss or its accuracy.
    """
    check_data("train", task.train)
    if any(is_lazy(parameter) for parameter in task.model.parameters()):
        return
    example = task.train.first(EXAMPLES)
    inputs, targets = example.inputs, example.targets
    with evaluating(task.model, device_of(inputs)):
        outputs = _tried("the model does not accept the training inputs", lambda: call(task.model, inputs))
        loss = _tried("the loss does not accept outputs and targets", lambda: task.loss_fn(outputs, targets))
        _check_loss(loss)
        accuracy_fn = task.accuracy_fn
        if accuracy_fn is not None:
            _tried("the accuracy is not to be had", lambda: float(accuracy_fn(outputs, targets)))


def _tried(what: str, run: Callable[[], T]) -> T:
    try:
        return run()
    except WRONG as error:
        lines = str(error).strip().splitlines()
        raise BadData(f"{what}: {lines[0] if lines else type(error).__name__}") from error


def _check_loss(loss: object) -> None:
    """See that it is one number; an `object`, since a function of someone else's gave it."""
    if not isinstance(loss, Tensor):
        raise BadData(f"the loss is a {type(loss).__name__}; it has to be a tensor with one number")
    if loss.numel() != 1:
        raise BadData(f"the loss has shape {tuple(loss.shape)}; it has to be one number, the examples' mean")
