"""What a step and a forward pass of the network cost as it is now, counted once each time it changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor, nn

from esper.tolaria.flops import Account, Counting, FlopLedger, count_forward, count_step
from esper.tolaria.pulse import beat
from esper.tolaria.task import LossFn

T = TypeVar("T")
SHADOW = "shadow"
"""The work of one batch on a seed's shadow path."""


@dataclass(frozen=True)
class Counts:
    """What has been counted of the network in one version; -1 is none."""

    version: int = -1
    step: int = 0
    forward_batch: int = 0
    by_seed: Mapping[tuple[str, str], int] = field(default_factory=dict)


class CostBook:
    """FLOPs by the version of the network that the caller states; `batch` is one training mini-batch.

    Counting takes real passes on throw-away copies. Those of a network that has changed are booked as
    GAUGE; the first count is of the host, whether anything grows on it or not, and is not booked.
    """

    def __init__(
        self, model: nn.Module, batch: tuple[Tensor, Tensor], loss_fn: LossFn, ledger: FlopLedger
    ) -> None:
        self._model = model
        self._inputs, self._targets = batch
        self._loss_fn = loss_fn
        self._ledger = ledger
        self._version = -1
        self._step = 0
        self._forward_batch = 0
        self._by_seed: dict[tuple[str, str], int] = {}

    def turn_to(self, version: int) -> None:
        """Count anew if the network has changed since (some milliseconds for a small one)."""
        if not self.outdated(version):
            return
        first = self._version < 0
        self._step = count_step(self._model, self._inputs, self._targets, self._loss_fn)
        self._forward_batch = count_forward(self._model, self._inputs)
        self._by_seed.clear()
        self._version = version
        if not first:
            self._ledger.add(Account.GAUGE, self.count)

    def outdated(self, version: int) -> bool:
        """The network has changed since it was last counted."""
        return version != self._version

    @property
    def count(self) -> int:
        """What the newest count itself took; 0 before the first."""
        return self._step + self._forward_batch

    @property
    def step(self) -> int:
        """One training step on a mini-batch."""
        return self._step

    def forward(self, examples: int) -> int:
        """A forward pass in eval mode over `examples` examples; the cost is linear in them."""
        return self._forward_batch * examples // len(self._inputs)

    def of_seed(self, work: str, seed_id: str, run: Callable[[], T]) -> tuple[T, int]:
        """The result of `run`, some `work` on a seed, and its FLOPs: counted the first time, then known."""
        beat()
        flops = self._by_seed.get((work, seed_id))
        if flops is not None:
            return run(), flops
        with Counting() as count:
            result = run()
        self._by_seed[work, seed_id] = count.flops
        return result, count.flops

    def of_passes(self, work: str, seed_id: str, run: Callable[[], int]) -> int:
        """FLOPs of `run`, which says how many passes of one cost it took; the first counts such a pass."""
        beat()
        flops = self._by_seed.get((work, seed_id))
        if flops is not None:
            return flops * run()
        with Counting() as count:
            passes = run()
        spent: int = count.flops
        if passes:
            self._by_seed[work, seed_id] = spent // passes
        return spent

    def known(self, work: str, seed_id: str) -> int | None:
        """FLOPs of a seed's `work` if it has been counted."""
        return self._by_seed.get((work, seed_id))

    def state(self) -> Counts:
        """What is known by now, copied."""
        return Counts(self._version, self._step, self._forward_batch, dict(self._by_seed))

    def restore(self, counts: Counts) -> None:
        """Go back to what `state()` gave."""
        self._version, self._step = counts.version, counts.step
        self._forward_batch = counts.forward_batch
        self._by_seed = dict(counts.by_seed)
