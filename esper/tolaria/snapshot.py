"""A run at one moment: all that training goes on from, bit for bit, as values that never change."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn
from torch.optim import Optimizer

from contracts.growth import ProbeReport
from esper.kasmina.graft import Grafts
from esper.kasmina.isolation import IsolationState
from esper.tolaria.costs import Counts
from esper.tolaria.flops import FlopLedger
from esper.tolaria.groups import OptimizerState
from esper.tolaria.growth import Growth, Seed
from esper.tolaria.level import LevelState
from esper.tolaria.loader import Loader, LoaderState
from esper.tolaria.network import Network
from esper.tolaria.randomness import Stream
from esper.tolaria.rates import Rates, RatesState
from esper.tolaria.results import EpochResult
from esper.tolaria.streams import GlobalStreams


@dataclass(frozen=True)
class Parts:
    """Everything of a run that changes while it trains."""

    grafts: Grafts
    optimizer: Optimizer
    rates: Rates
    loader: Loader
    growth: Growth
    ledger: FlopLedger
    stream: Stream


@dataclass(frozen=True)
class Position:
    """Where the run is."""

    epoch: int = 0
    step: int = 0
    params: int = 0
    """Parameters of the network, seeds in place included."""
    rescues: int = 0
    """Times that an epoch was trained again without a seed."""
    last: EpochResult | None = None
    evidence: ProbeReport | None = None
    level: LevelState = field(default_factory=LevelState)
    grad_norm: float = 0.0
    """Of the newest step that was sampled."""
    shape: int = 0
    """Grafts and removals so far."""
    version: int = 0
    """Changes of the forward pass so far."""
    counts: Counts = field(default_factory=Counts)
    """FLOPs of the network as they were known."""
    noticed: frozenset[str] = frozenset()
    """Notices that hold and were told."""


@dataclass(frozen=True)
class Snapshot:
    """A run between two epochs; nothing in it changes when the run goes on.

    `modules` are the seeds' own, the very objects: what they hold beyond tensors and extra state goes on with
    the run. They are not written to disk, but built anew.
    """

    network: Network
    modules: Mapping[str, nn.Module]
    optimizer: OptimizerState
    rates: RatesState
    loader: LoaderState
    seeds: Mapping[str, Seed]
    accounts: Mapping[str, int]
    isolation: IsolationState
    stream: Tensor
    global_streams: GlobalStreams
    position: Position
    teacher: Mapping[str, Tensor] | None = None
    """Tensors of the copy that live seeds' training holds to, if there is one; nothing changes in them."""

    @cached_property
    def nbytes(self) -> int:
        """Size of its copies in bytes; the way back to before a graft is counted with each snapshot."""
        undone = sum(seed.undo.nbytes for seed in self.seeds.values() if seed.undo is not None)
        return self.network.nbytes + self.optimizer.nbytes + undone
