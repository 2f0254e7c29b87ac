"""The end of an epoch: validation, then what is due of the seeds whose fate is undecided."""

import logging
import math
from collections.abc import Collection

import torch
from torch.nn.modules.batchnorm import _NormBase

from esper.kasmina.slot import is_grown
from esper.tolaria.blame import may_be_a_seeds
from esper.tolaria.errors import TrainingDiverged
from esper.tolaria.growth import Seed
from esper.tolaria.loop import Crew
from esper.tolaria.machine import Machine
from esper.tolaria.measure import Measured, measure
from esper.tolaria.results import EpochResult
from esper.tolaria.snapshot import Position
from esper.tolaria.trial import WRONG

log = logging.getLogger(__name__)


def review(machine: Machine, crew: Crew, aside: Collection[str], at: Position) -> Measured:
    """Validate, then measure what is due of open seeds while the budget lasts; not of those set aside.

    Raises:
        TrainingDiverged: a step left something in the host that is not finite, which no step after it saw.
    """
    task, inspection, growth, purse = machine.task, machine.inspection, machine.parts.growth, machine.purse
    model = machine.parts.grafts.model
    measured = measure(model, machine.validation, task.loss_fn, task.accuracy_fn)
    _check_statistics(machine, at.step)
    if not math.isfinite(measured.loss):
        _check_host(machine, at.step)
    for watched in crew.watched:
        inspection.take_over(growth.seeds[watched.seed_id], watched)
    cost = inspection.cost(machine.costs.step, purse.forward)
    compared = False
    for seed in growth.open_seeds():
        if cost <= purse.left and seed.record.seed_id not in aside:
            compared |= _inspect(machine, seed, at.epoch, measured)
    machine.safe_point.look()
    purse.book_validation(compared)
    return measured


def _check_statistics(machine: Machine, step: int) -> None:
    """One huge example is enough to make a running variance infinite for good, which no loss need show."""
    for name, module in machine.parts.grafts.model.named_modules():
        if isinstance(module, _NormBase) and not is_grown(name):
            for key, buffer in module.named_buffers(recurse=False):
                if not torch.isfinite(buffer).all():
                    raise TrainingDiverged(step, f"host's {name}.{key}", taken=True)


def _check_host(machine: Machine, step: int) -> None:
    """See that it is only validation that is not finite: a damaged host is nothing to go on from.

    A buffer may well hold infinity, as a mask does, but nothing means NaN.
    """
    for name, parameter in machine.parts.grafts.host_named_parameters():
        if not torch.isfinite(parameter).all():
            raise TrainingDiverged(step, f"host's {name}", taken=True)
    for name, buffer in machine.parts.grafts.model.named_buffers():
        if not is_grown(name) and torch.isnan(buffer).any():
            raise TrainingDiverged(step, f"host's {name}", taken=True)


def as_reviewed(machine: Machine, last: EpochResult | None) -> Measured:
    """What the last full epoch ended with; NaN before the first."""
    if last is None:
        return Measured(math.nan, None, 0)
    return Measured(last.val_loss, last.val_accuracy, len(machine.validation))


def _inspect(machine: Machine, seed: Seed, epoch: int, measured: Measured) -> bool:
    """Whether it was compared; one that raises is not sound, which the next boundary acts on."""
    try:
        return machine.inspection.inspect(seed, epoch, measured)
    except WRONG as error:
        if not may_be_a_seeds(error, [machine.parts.grafts.module(seed.record.seed_id)]):
            raise
        log.warning("%s fails when it is measured", seed.record.seed_id, exc_info=error)
        seed.measured(finite=False)
        return False
