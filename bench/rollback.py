"""Going back to an earlier boundary: from memory (`fast`), and from a checkpoint on disk (`full`).

A host of 0.1, 1 and 10 million parameters with Adam and a live seed. Between two rollbacks the seed is taken
out and an epoch trained, so that each has to put the module back as well as the numbers. `full` is all of it:
find the newest checkpoint, verify its digests, read it, build the seed anew, restore. After each the network
is compared with what was kept, bit for bit; that is not timed.
"""

import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

from bench.measure import Budget, Size, percentiles
from contracts.budgets import PerformanceBudgets
from contracts.config import Config, RunConfig, TrainConfig
from contracts.growth import Candidate, SeedRecord, SiteInfo
from contracts.lifecycle import Stage
from esper.checkpoint.store import Checkpoint, CheckpointStore
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.graft import Grafts
from esper.kasmina.plan import GraftPlan, Insert, Remove, SetAlpha
from esper.kasmina.sites import find_sites
from esper.tolaria.record import from_record, to_record
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.task import Task, Tensors
from esper.tolaria.trainer import Trainer

WIDTHS = {"0.1M": 290, "1M": 980, "10M": 3_140}
"""Of the host's square layer, by parameters."""
SIZES = {Size.SMALL: ("0.1M",), Size.FULL: tuple(WIDTHS)}
ROUNDS = {Size.SMALL: 3, Size.FULL: 30}
WARM = 2
"""Rollbacks before the first that is measured."""
FEATURES, CLASSES, BATCH, STEPS = 64, 10, 8, 2
SITE, SEED_ID, BLUEPRINT = "1", "1#0", "BP008"
_LIMITS = PerformanceBudgets()
BUDGETS = tuple(
    Budget(f"{way}.{size}.p99_ms", limit)
    for way, limit in (("fast", _LIMITS.fast_rollback_ms), ("full", 1e3 * _LIMITS.full_rollback_seconds))
    for size in WIDTHS
)


@dataclass(frozen=True)
class Rig:
    """A trainer with a live seed, and what it is brought back to."""

    trainer: Trainer
    model: nn.Module
    record: SeedRecord
    kept: Snapshot

    def wander(self) -> None:
        """Away from what was kept: the seed goes, and an epoch is trained."""
        gone = Remove(self.record, rollback=False)
        self.trainer.apply(GraftPlan("out", (gone,)))
        self.trainer.run_epoch()
        assert not self.is_back()

    def is_back(self) -> bool:
        """Every tensor of network and optimizer has the bits that were kept."""
        now = self.trainer.keep()
        return _bits(now) == _bits(self.kept)


def run(size: Size) -> dict[str, object]:
    """Latency of both ways back, by the host's size."""
    fast: dict[str, object] = {}
    full: dict[str, object] = {}
    parameters: dict[str, object] = {}
    digest = 0
    for name in SIZES[size]:
        rig = _rig(WIDTHS[name])
        parameters[name] = rig.trainer.params
        fast[name] = _measured(rig, ROUNDS[size], partial(rig.trainer.restore, rig.kept))
        with tempfile.TemporaryDirectory() as folder:
            store = CheckpointStore(Path(folder), keep=1)
            record, tensors = to_record(rig.kept)
            store.save(Checkpoint(1, record, tensors))
            rounds = max(1, ROUNDS[size] // 3)
            full[name] = _measured(rig, rounds, partial(_from_disk, rig, store))
        digest = zlib.crc32(repr(_bits(rig.trainer.keep())).encode(), digest)
    return {"fast": fast, "full": full, "parameters": parameters, "digest": f"{digest:08x}"}


def _measured(rig: Rig, rounds: int, go_back: Callable[[], object]) -> dict[str, object]:
    took_s = []
    for _ in range(WARM + rounds):
        rig.wander()
        started = perf_counter()
        go_back()
        took_s.append(perf_counter() - started)
        assert rig.is_back(), "the run is not what it was"
    return percentiles(took_s[WARM:]).figures("ms")


def _from_disk(rig: Rig, store: CheckpointStore) -> None:
    found = store.newest().checkpoint
    assert found is not None
    rig.trainer.restore(from_record(found.record, found.tensors, rig.trainer.rebuild))


def _rig(width: int) -> Rig:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(FEATURES, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, CLASSES),
        )
        data = Tensors(torch.randn(4 * BATCH, FEATURES), torch.randint(CLASSES, (4 * BATCH,)))
    task = Task(model, data, data, data, nn.functional.cross_entropy)
    sites = find_sites(model, (SITE,), data.inputs[:2])
    config = Config(
        run=RunConfig(epochs=1_000_000),
        train=TrainConfig(batch_size=BATCH, epoch_steps=STEPS, learning_rate=1e-4),
    )
    trainer = Trainer(task, Grafts(model, sites), config, "bench", build=CATALOGUE.build)
    seed, module = _seed(sites[0])
    trainer.run_epoch()
    trainer.apply(GraftPlan("in", (Insert(seed, module), SetAlpha(seed, 1.0))))
    trainer.run_epoch()
    return Rig(trainer, model, seed, trainer.keep())


def _seed(site: SiteInfo) -> tuple[SeedRecord, nn.Module]:
    settings = CATALOGUE.get(BLUEPRINT).fit(site, 8 * site.channels)
    assert settings is not None
    candidate = Candidate(site.name, BLUEPRINT, settings)
    module = CATALOGUE.build(site, candidate, torch.Generator().manual_seed(0))
    record = SeedRecord(SEED_ID, site.name, Stage.PROBATIONARY, BLUEPRINT, parameters=settings, alpha=1.0)
    return record, module


def _bits(snapshot: Snapshot) -> dict[str, int]:
    """A checksum of each tensor of network and optimizer."""
    tensors = dict(snapshot.network.tensors)
    for name, entries in snapshot.optimizer.entries.items():
        tensors |= {
            f"{name}/{key}": value for key, value in entries.items() if isinstance(value, torch.Tensor)
        }
    return {name: zlib.crc32(tensor.contiguous().numpy().tobytes()) for name, tensor in tensors.items()}
