"""The way back to before a graft: weights, buffers and optimizer state, and nothing else.

The order of the data, the random streams, the learning rates and the counters go on where they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from esper.tolaria.errors import PlanRefused
from esper.tolaria.network import tensors_of, write
from esper.tolaria.optimizer import NamedState, restore_state, state_by_name


@dataclass(frozen=True)
class Undo:
    """Weights, buffers and optimizer state by name, copied."""

    tensors: Mapping[str, Tensor]
    optimizer: NamedState

    @property
    def nbytes(self) -> int:
        """Size of its tensors in bytes."""
        values = [value for entries in self.optimizer.values() for value in entries.values()]
        kept = (*self.tensors.values(), *values)
        return sum(value.nbytes for value in kept if isinstance(value, Tensor))


def take_undo(model: nn.Module, optimizer: Optimizer) -> Undo:
    """Copy weights, buffers and optimizer state as they are now."""
    tensors = {name: tensor.detach().clone() for name, tensor in tensors_of(model).items()}
    return Undo(tensors, state_by_name(optimizer, list(model.named_parameters())))


def restore_undo(model: nn.Module, optimizer: Optimizer, undo: Undo) -> tuple[str, ...]:
    """Write the copy back into the same tensors; the names of those whose values changed.

    Raises:
        PlanRefused: the network holds other tensors than when the copy was made; nothing was changed.
    """
    present = tensors_of(model)
    if present.keys() != undo.tensors.keys():
        odd = sorted(present.keys() ^ undo.tensors.keys())
        raise PlanRefused(
            f"the network has changed shape since the copy was made ({', '.join(odd[:3])}); "
            "take out what was grafted since, then restore"
        )
    changed = tuple(name for name, kept in undo.tensors.items() if not torch.equal(present[name], kept))
    write(present, {name: undo.tensors[name] for name in changed})
    restore_state(optimizer, list(model.named_parameters()), undo.optimizer)
    return changed
