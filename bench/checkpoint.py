"""A checkpoint of a network and its Adam: copied at the boundary, written durably, loaded with its digests.

`copy` is what a boundary pays, `Trainer.keep` itself with the last five moments in memory; `first_copy` is
the same while those five come to be, into memory that is new to the process, and `clone` copies the same
tensors into new memory every time. `write` and `load` are a save and the newest good one, beside training.
`torch_save` is plain `torch.save` of the same tensors, which neither survives a power cut nor notices damage;
`torch_save_synced` is the same with an fsync of file and folder; `torch_load` is with `weights_only`. Files
are read from the system's cache. What is loaded is compared with what was saved, bit for bit.
"""

import os
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from bench.large import WIDTHS, large_config, large_parts
from bench.measure import Budget, Size, percentiles, ratio_of, seconds
from contracts.config import CheckpointConfig
from esper.checkpoint.store import Checkpoint, CheckpointStore
from esper.checkpoint.tensors import bits
from esper.tolaria.record import to_record
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.trainer import Trainer

BUDGETS = (
    Budget("copy.10M.p50_ms", 500.0),
    Budget("load.10M.p50_ms", 2_000.0),
)
ROUNDS = {Size.SMALL: {"0.1M": 2}, Size.FULL: {"0.1M": 100, "1M": 40, "10M": 12}}
BOUNDARIES = CheckpointConfig().boundaries
KEEP = 2
COMPARED = {"copy": ("clone",), "write": ("torch_save", "torch_save_synced"), "load": ("torch_load",)}


def run(size: Size) -> dict[str, object]:
    """Each step's latency by the number of parameters, and how much longer than its like it takes."""
    result: dict[str, dict[str, object]] = {}
    digest = 0
    for name, rounds in ROUNDS[size].items():
        trainer = _trained(WIDTHS[name])
        with tempfile.TemporaryDirectory() as folder:
            bench = _Bench(trainer, Path(folder))
            bench.measure(rounds)
        for step, samples_s in bench.took_s.items():
            figures = percentiles(samples_s).figures("ms")
            for other in COMPARED.get(step, ()):
                figures[f"ratio_to_{other}"] = ratio_of(samples_s, bench.took_s[other]).median
            result.setdefault(step, {})[name] = figures
        result.setdefault("size", {})[name] = {"bytes": bench.nbytes, "parameters": trainer.params}
        digest = _digest(bench.tensors, digest)
    return {**result, "digest": f"{digest:08x}"}


def _trained(width: int) -> Trainer:
    """After one epoch, so that the optimizer has its state."""
    trainer = large_parts(width, large_config(epochs=2)).trainer
    trainer.run_epoch()
    return trainer


class _Bench:
    """What is measured of one trainer; `took_s` are the seconds of each step in every round."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.took_s: dict[str, list[float]] = {"first_copy": []}
        self.nbytes = 0
        self._trainer = trainer
        self._moments: deque[Snapshot] = deque()
        self._clones: deque[dict[str, Tensor]] = deque()
        for _ in range(BOUNDARIES + 1):
            self.took_s["first_copy"].append(seconds(self._copy))
        self._record, self.tensors = to_record(self._moments[-1])
        self._store, self._plain = CheckpointStore(folder, KEEP), folder / "plain.pt"

    def measure(self, rounds: int) -> None:
        """One round before warms all up. Every other round goes backwards, and what torch left to the cache
        is flushed in between, so that nobody pays for another's writes.
        """
        store, plain, tensors = self._store, self._plain, self.tensors
        checkpoint = Checkpoint(0, self._record, tensors)
        steps: dict[str, Callable[[], object]] = {
            "copy": self._copy,
            "clone": lambda: self._clones.append({name: value.clone() for name, value in tensors.items()}),
            "write": lambda: store.save(checkpoint),
            "load": store.newest,
            "torch_save": lambda: torch.save(tensors, plain),
            "torch_save_synced": lambda: _save_synced(tensors, plain),
            "torch_load": lambda: torch.load(plain, weights_only=True),
        }
        self.took_s |= {step: [] for step in steps}
        for number in range(rounds + 1):
            for step in steps if number % 2 == 0 else reversed(steps):
                self._trim()
                took = seconds(steps[step])
                if number:
                    self.took_s[step].append(took)
                if step == "torch_save":
                    _sync(plain)
        found = store.newest()
        assert found.checkpoint is not None
        assert not found.passed_over
        assert _digest(found.checkpoint.tensors, 0) == _digest(tensors, 0)
        self.nbytes = store.save(checkpoint).bytes

    def _copy(self) -> None:
        self._moments.append(self._trainer.keep())

    def _trim(self) -> None:
        """As a run does it: beside training."""
        for ring in (self._moments, self._clones):
            while len(ring) > BOUNDARIES:
                ring.popleft()


def _save_synced(tensors: Mapping[str, Tensor], file: Path) -> None:
    torch.save(tensors, file)
    _sync(file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _digest(tensors: Mapping[str, Tensor], start: int) -> int:
    for name in sorted(tensors):
        start = zlib.crc32(bits(tensors[name]).numpy().data, zlib.crc32(name.encode(), start))
    return start
