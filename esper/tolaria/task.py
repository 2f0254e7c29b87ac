"""What is trained: a model, its data, and what counts as good."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from esper.tolaria.errors import BadData

EXAMPLES_LOOKED_AT = 64
LossFn: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) → the mean loss over the examples, a tensor of no dimension."""

AccuracyFn: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) → the share that is right, 0 to 1, a tensor of no dimension."""

OptimizerFactory: TypeAlias = Callable[[list[dict[str, Any]]], Optimizer]
"""Parameter groups, as every optimizer of torch takes them → an optimizer of exactly these parameters."""

SchedulerFactory: TypeAlias = Callable[[Optimizer], LRScheduler]
"""An optimizer → a scheduler of its rate; torch's, ReduceLROnPlateau among them, or one's own subclass."""

Every: TypeAlias = Literal["step", "epoch"]
"""When a scheduler goes on."""


@dataclass(frozen=True)
class Tensors:
    """One split of the data: `inputs` (N, ...) and `targets` (N, ...)."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def first(self, examples: int) -> "Tensors":
        """The first `examples` of them, all if there are fewer or if it is 0."""
        if examples == 0 or examples >= len(self):
            return self
        return Tensors(self.inputs[:examples], self.targets[:examples])


@dataclass(frozen=True)
class Task:
    """A model and the data it is trained, steered and judged on.

    `validation` is what decisions are made on; `test` and `fresh` are judged once, at the
    end; before a run begins a few examples of `test` are tried, so that it can be judged at all.
    `fresh` makes the newly generated examples when they are asked for, since making them can take
    seconds; None where the data can't be generated.

    `optimizer` takes the place of the configuration's: its rate and momentum are the host's then, and a
    seed's group gets the hyperparameters of its first group. It may split the parameters into groups of
    its own; the ratios of their rates stay.

    `scheduler` takes the place of `train.schedule`. It is given a stand-in with the host's
    hyperparameters, which does not grow; what it sets there is taken over, times each seed's own factor.
    `scheduler_every` says when it goes on: after every step or every epoch; ReduceLROnPlateau is told each
    epoch's validation loss. A run of `epochs` has `train.epoch_steps` steps in each; how many one of
    `gflop` has shows only as it grows, and the configuration's own schedules end with it. A scheduler
    that is run past its end leaves the rate as it is.

    When a run is resumed both are made anew and go on from what was kept: numbers and text of the
    scheduler, but none of its functions, which come from here again.
    """

    model: nn.Module
    train: Tensors
    validation: Tensors
    test: Tensors
    loss_fn: LossFn
    accuracy_fn: AccuracyFn | None = None
    fresh: Callable[[], Tensors] | None = None
    optimizer: OptimizerFactory | None = None
    scheduler: SchedulerFactory | None = None
    scheduler_every: Every | None = None


def digest_of(data: Tensors) -> str:
    """A digest of a split's shape, types and some of its examples: another for other data, as a rule."""
    digest = hashlib.sha256()
    for values in (data.inputs, data.targets):
        some = values[:: max(1, len(values) // EXAMPLES_LOOKED_AT)].detach().cpu().contiguous()
        digest.update(f"{tuple(values.shape)} {values.dtype}".encode())
        digest.update(some.reshape(-1).view(torch.uint8).numpy().tobytes() if some.numel() else b"")
    return digest.hexdigest()[:16]


def class_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of rows of `outputs` (N, classes) whose largest entry is at `targets` (N,)."""
    return (outputs.argmax(dim=-1) == targets).double().mean()


def check_data(split: str, data: Tensors) -> None:
    """See that `data` can be trained on.

    Raises:
        BadData: it is empty, its lengths differ, or some examples hold NaN or infinity.
    """
    if len(data.inputs) != len(data.targets):
        raise BadData(f"the {split} split has {len(data.inputs)} inputs and {len(data.targets)} targets")
    if len(data) == 0:
        raise BadData(f"the {split} split is empty; it needs at least one example")
    for part, values in (("inputs", data.inputs), ("targets", data.targets)):
        bad = _examples_not_finite(values)
        if bad:
            raise BadData(
                f"{bad} of {len(data)} {part} of the {split} split hold NaN or infinity; "
                "remove or replace them before training"
            )


def _examples_not_finite(values: Tensor) -> int:
    if not (values.is_floating_point() or values.is_complex()):
        return 0
    finite = torch.isfinite(values).reshape(len(values), -1).all(dim=1)
    return len(values) - int(finite.sum())
