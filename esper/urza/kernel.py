"""A kernel as Kasmina takes it: a module of its own, with what is known about its design."""

from dataclasses import dataclass
from itertools import chain

from torch import nn

from contracts.kernels import Certificate
from esper.urza.names import ArtifactRef


@dataclass(frozen=True, slots=True)
class Kernel:
    """Fetched and verified."""

    module: nn.Module
    certificate: Certificate
    ref: ArtifactRef

    @property
    def nbytes(self) -> int:
        """Bytes of the module's parameters and buffers."""
        return sum(one.nbytes for one in chain(self.module.parameters(), self.module.buffers()))
