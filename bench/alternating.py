"""Plain PyTorch and Esper in turn within one run: a few epochs of its own, a few of the plain network.

    Esper's block: epochs and boundaries with all that goes on beside them │ the event loop stands still
                                                                            │ plain block, in the same thread

Both are a fifth of a second long, so that a machine whose speed drifts or jumps is as quick for the one as
for the other. Nothing of Esper runs while the plain network trains: what was told of a block's last boundary
waits for the loop and is done in the next block, and within the block's last epoch the journal is asked to
write what it would have grouped for a while longer. What little comes after that is written before the plain
block begins, in nobody's time. On the other hand what goes by the clock goes on: checkpoints and timers that
fall due meanwhile are all done in Esper's time, about twice as many as an epoch has otherwise.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from actors.company import Company
from actors.nissa.journal import Journal
from contracts.growth import ProbePlan, ProbeReport
from esper.kasmina.plan import GraftPlan
from esper.tolaria.results import Applied, Assembled, EpochResult, FinalFigures
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.trainer import Trainer

BLOCK = 4
"""Epochs of a block; even, as a seed is compared every second epoch."""
SETTLE = 3
"""First epochs of a run, which are not timed; a seed that the policy wants is in place by then."""
TOLD_S = 0.025
"""Seconds after which what was told of a boundary has reached the journal, and an epoch still lasts."""
STANDS_S = 10.0
"""Seconds that the event loop may take to stand still."""


@dataclass(frozen=True)
class Block:
    """Seconds that one block took: of the clock, and of the process on all processors."""

    wall_s: float
    cpu_s: float


def _now() -> Block:
    return Block(time.perf_counter(), time.process_time())


def _since(began: Block) -> Block:
    now = _now()
    return Block(now.wall_s - began.wall_s, now.cpu_s - began.cpu_s)


@dataclass
class Alternating:
    """The trainer, as its lane uses it; `plain` trains and validates the plain network for one epoch."""

    trainer: Trainer
    plain: Callable[[], None]
    esper_blocks: list[Block] = field(default_factory=list)
    plain_blocks: list[Block] = field(default_factory=list)
    """One before each block of Esper's, and one behind the last."""
    spent: Counter[str] = field(default_factory=Counter)
    """FLOPs of Esper's blocks, by account."""
    _epochs: int = 0
    _began: Block | None = None
    _at_first: dict[str, int] = field(default_factory=dict)
    _journal: Journal | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _errand: asyncio.Task[None] | None = None

    @staticmethod
    def epochs(pairs: int) -> int:
        """Epochs of a run with so many blocks of Esper's; before the last one is the last plain block."""
        return SETTLE + pairs * BLOCK + 1

    def meet(self, company: Company, journal: Journal) -> None:
        """The run that it works for, on the running loop."""
        self._journal, self._loop = journal, asyncio.get_running_loop()

    @property
    def finished(self) -> bool:
        return self.trainer.finished

    def run_epoch(self) -> EpochResult:
        timed = self._epochs - SETTLE
        if timed >= 0 and timed % BLOCK == 0:
            self._change_sides()
        elif timed >= 0 and timed % BLOCK == BLOCK - 1:
            self._tell_loop(self._write_soon)
        self._epochs += 1
        return self.trainer.run_epoch()

    def _change_sides(self) -> None:
        """One block of Esper's is over; a plain one, and the next begins."""
        if self._began is not None:
            self.esper_blocks.append(_since(self._began))
            self.spent = Counter(self.trainer.ledger.accounts()) - Counter(self._at_first)
        else:
            self._at_first = self.trainer.ledger.accounts()
        with self._loop_stands():
            began = _now()
            for _ in range(BLOCK):
                self.plain()
            self.plain_blocks.append(_since(began))
            self._began = _now()

    @contextmanager
    def _loop_stands(self) -> Iterator[None]:
        stands, goes_on = threading.Event(), threading.Event()

        async def stand() -> None:
            await self._write()
            stands.set()
            goes_on.wait()

        self._tell_loop(lambda: self._begin(stand()))
        try:
            assert stands.wait(STANDS_S), "the event loop does not stand still"
            yield
        finally:
            goes_on.set()

    def _write_soon(self) -> None:
        """Once the boundary before this epoch has been told."""
        assert self._loop is not None
        self._loop.call_later(TOLD_S, lambda: self._begin(self._write()))

    async def _write(self) -> None:
        assert self._journal is not None
        await self._journal.settle()

    def _begin(self, errand: Coroutine[None, None, None]) -> None:
        self._errand = asyncio.ensure_future(errand)

    def _tell_loop(self, act: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(act)

    def apply(self, plan: GraftPlan) -> Applied:
        return self.trainer.apply(plan)

    def probe(self, plan: ProbePlan, tell: Callable[[int, int], None]) -> ProbeReport:
        return self.trainer.probe(plan, tell)

    def assemble(self) -> Assembled:
        return self.trainer.assemble()

    def keep(self, restored: Snapshot | None = None) -> Snapshot:
        return self.trainer.keep(restored)

    def restore(self, snapshot: Snapshot, *, behind_break: bool) -> EpochResult | None:
        return self.trainer.restore(snapshot, behind_break=behind_break)

    def final(self) -> FinalFigures:
        return self.trainer.final()

    def stop(self) -> None:
        self.trainer.stop()
