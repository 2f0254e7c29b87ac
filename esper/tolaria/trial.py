"""Tries a task on a few examples of each split, so that what does not fit is said before a run begins."""

import copy
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from esper.kasmina.aside import call, device_of, evaluating, in_mode
from esper.tolaria.errors import BadData
from esper.tolaria.task import Task, Tensors, check_data

T = TypeVar("T")

EXAMPLES = 2
WRONG = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What code that is given something unfit raises."""
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Types of what may be labels or tokens, which may be out of range."""
SPLITS = {"train": "training", "validation": "validation", "test": "test"}
"""How each split is called in a sentence."""


def try_out(task: Task) -> None:
    """Look at the model, and at what it makes of a few examples of each split: outputs, loss and accuracy.

    Its buffers and every random stream stay as they were. A model without shapes is left alone: a pass
    would give it some.

    Raises:
        BadData: the model can't be trained, or the data don't fit the model, its loss or its accuracy.
    """
    splits = {split: getattr(task, split) for split in SPLITS}
    for split, data in splits.items():
        check_data(split, data)
    if any(is_lazy(parameter) for parameter in task.model.parameters()):
        return
    _check_tensors(task.model)
    for split, data in splits.items():
        _try_split(task, SPLITS[split], _telling(data))
    _check_repeats(task.model, task.train.first(EXAMPLES))


def _try_split(task: Task, name: str, example: Tensors) -> None:
    inputs, targets, accuracy_fn = example.inputs, example.targets, task.accuracy_fn
    at = "" if name == SPLITS["train"] else f" of the {name} data"
    with evaluating(task.model, device_of(inputs)):
        outputs = _tried(f"the model does not accept the {name} inputs", lambda: call(task.model, inputs))
        loss = _tried(
            f"the loss does not accept outputs and targets{at}", lambda: task.loss_fn(outputs, targets)
        )
        _check_loss(loss)
        if accuracy_fn is not None:
            _tried(f"the accuracy{at} is not to be had", lambda: float(accuracy_fn(outputs, targets)))


def _telling(data: Tensors) -> Tensors:
    """Two of the examples; where there are whole numbers, those with the least and the greatest of them."""
    found = [
        int(find(values)) // values[0].numel()
        for values in (data.inputs, data.targets)
        if values.dtype in WHOLE and values.numel()
        for find in (torch.argmin, torch.argmax)
    ]
    several = dict.fromkeys((*found, *range(min(EXAMPLES, len(data)))))
    chosen = torch.tensor(list(several)[: max(EXAMPLES, len(set(found)))])
    return Tensors(data.inputs[chosen], data.targets[chosen])


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


def _check_tensors(model: nn.Module) -> None:
    """See that there is something to train, and that no number in it is broken.

    A buffer may hold infinity: a mask of attention does.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise BadData(
            "the model has no parameter to train; at least one has to have requires_grad, and none has"
        )
    broken = chain(
        _named(model.named_parameters(), lambda values: ~torch.isfinite(values), "NaN or infinity"),
        _named(model.named_buffers(), torch.isnan, "NaN"),
    )
    for name, what in broken:
        raise BadData(f"{name} of the model holds {what}; give it finite numbers to begin with")


def _named(
    tensors: Iterable[tuple[str, Tensor]], bad: Callable[[Tensor], Tensor], what: str
) -> Iterable[tuple[str, str]]:
    return ((name, what) for name, values in tensors if bool(bad(values).any()))


def _check_repeats(model: nn.Module, example: Tensors) -> None:
    """See that two passes of training, all that torch keeps being equal, give the same bits.

    A seed's own passes go through the host too, so a host that counts its passes would not be as without it.
    They are passes of a copy: a layer may set itself up on the first batch that it sees.
    """
    device = device_of(example.inputs)
    try:
        model = copy.deepcopy(model)
    except WRONG:
        return
    outputs: list[object] = []
    for _ in range(2):
        with ExitStack() as stack:
            stack.enter_context(evaluating(model, device))
            stack.enter_context(in_mode(model, training=True))
            try:
                outputs.append(call(model, example.inputs))
            except WRONG:
                return  # too few examples for batch norm, say: training will tell
    one, other = outputs
    if isinstance(one, Tensor) and isinstance(other, Tensor) and not _same(one, other):
        raise BadData(
            "the model computes something else when it is called again on the same input: it keeps a count, "
            "a cache or a random generator of its own; keep state in buffers, and draw from torch's generator"
        )


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True)
