"""Loss and accuracy on a split, in eval mode, with the model left exactly as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from esper.tolaria.pulse import beat
from esper.tolaria.task import AccuracyFn, LossFn, Task, Tensors, check_data

CHUNK_EXAMPLES = 10_000
"""Examples in one forward pass; larger splits take several."""


@dataclass(frozen=True)
class Measured:
    """Means over `examples` examples; `accuracy` is None where the task does not define it."""

    loss: float
    accuracy: float | None
    examples: int


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; afterwards each module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def measure(model: nn.Module, data: Tensors, loss_fn: LossFn, accuracy_fn: AccuracyFn | None) -> Measured:
    """Mean loss and accuracy over all of `data`, every example weighing the same."""
    loss = 0.0
    accuracy = 0.0
    with evaluating(model):
        for inputs, targets in zip(
            torch.split(data.inputs, CHUNK_EXAMPLES), torch.split(data.targets, CHUNK_EXAMPLES), strict=True
        ):
            beat()
            outputs = model(inputs)
            loss += float(loss_fn(outputs, targets)) * len(inputs)
            if accuracy_fn is not None:
                accuracy += float(accuracy_fn(outputs, targets)) * len(inputs)
    examples = len(data)
    return Measured(loss / examples, accuracy / examples if accuracy_fn is not None else None, examples)


@dataclass(frozen=True)
class Judged:
    """A finished network on all the data there are to judge it by."""

    validation: Measured
    test: Measured
    fresh: Measured | None


def judge(model: nn.Module, task: Task) -> Judged:
    """Measure on validation, test and fresh data.

    Raises:
        BadData: the fresh data, made only now, can't be used.
    """
    fresh = None
    if task.fresh is not None:
        beat()
        data = task.fresh()
        beat()
        check_data("fresh", data)
        fresh = measure(model, data, task.loss_fn, task.accuracy_fn)
    return Judged(
        validation=measure(model, task.validation, task.loss_fn, task.accuracy_fn),
        test=measure(model, task.test, task.loss_fn, task.accuracy_fn),
        fresh=fresh,
    )
