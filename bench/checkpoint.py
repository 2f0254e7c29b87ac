"""A checkpoint of a network and its Adam: copied at the boundary, written durably, loaded with its digests.

`copy` is what a boundary pays; `write` and `load` are a save and the newest good one, beside training.
`torch_save` is plain `torch.save` of the same tensors, which neither survives a power cut nor notices damage;
`torch_save_synced` is the same with an fsync of file and folder; `torch_load` is with `weights_only`. Files
are read from the system's cache. What is loaded is compared with what was saved, bit for bit.
"""

import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.measure import Budget, Size, percentiles, ratio_of, seconds
from esper.checkpoint.store import Checkpoint, CheckpointStore
from esper.checkpoint.tensors import bits

BUDGETS = (
    Budget("copy.10M.p50_ms", 500.0),
    Budget("load.10M.p50_ms", 2_000.0),
)
WIDTHS = {"0.1M": 223, "1M": 706, "10M": 2_235}
"""Two square layers of this width have about so many parameters."""
ROUNDS = {Size.SMALL: {"0.1M": 2}, Size.FULL: {"0.1M": 100, "1M": 40, "10M": 12}}
KEEP = 2
RECORD = b'{"stage":"TRAINING"}' * 1_000
COMPARED = {"write": ("torch_save", "torch_save_synced"), "load": ("torch_load",)}


def run(size: Size) -> dict[str, object]:
    """Each step's latency by the number of parameters, and how much longer than torch's own it takes."""
    torch.set_num_threads(1)
    result: dict[str, dict[str, object]] = {}
    digest = 0
    for name, rounds in ROUNDS[size].items():
        tensors = _trained(WIDTHS[name])
        with tempfile.TemporaryDirectory() as folder:
            took_s, size_bytes = _measured(Path(folder), tensors, rounds)
        for step, samples_s in took_s.items():
            figures = percentiles(samples_s).figures("ms")
            for other in COMPARED.get(step, ()):
                figures[f"ratio_to_{other}"] = ratio_of(samples_s, took_s[other]).median
            result.setdefault(step, {})[name] = figures
        result.setdefault("size", {})[name] = {"bytes": size_bytes}
        digest = _digest(tensors, digest)
    return {**result, "digest": f"{digest:08x}"}


def _trained(width: int) -> dict[str, Tensor]:
    """Weights of two layers and the optimizer's state after one step, all by name."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, width), nn.Linear(width, width))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, width)).square().mean().backward()
    optimizer.step()
    tensors: dict[str, Tensor] = dict(model.state_dict())
    for name, parameter in model.named_parameters():
        tensors |= {f"{name}.{key}": value for key, value in optimizer.state[parameter].items()}
    return tensors


def _measured(folder: Path, tensors: Mapping[str, Tensor], rounds: int) -> tuple[dict[str, list[float]], int]:
    """Seconds of each step in every round, and bytes of one checkpoint; one round before warms all up.

    Every other round goes backwards, and what torch left to the cache is flushed in between, so that nobody
    pays for another's writes.
    """
    store, plain = CheckpointStore(folder, KEEP), folder / "plain.pt"
    steps: dict[str, Callable[[], object]] = {
        "copy": lambda: {name: value.clone() for name, value in tensors.items()},
        "write": lambda: store.save(Checkpoint(0, RECORD, tensors)),
        "load": store.newest,
        "torch_save": lambda: torch.save(tensors, plain),
        "torch_save_synced": lambda: _save_synced(tensors, plain),
        "torch_load": lambda: torch.load(plain, weights_only=True),
    }
    took_s: dict[str, list[float]] = {step: [] for step in steps}
    for number in range(rounds + 1):
        for step in steps if number % 2 == 0 else reversed(steps):
            took = seconds(steps[step])
            if number:
                took_s[step].append(took)
            if step == "torch_save":
                _sync(plain)
    found = store.newest()
    assert found.checkpoint is not None
    assert not found.passed_over
    assert _digest(found.checkpoint.tensors, 0) == _digest(tensors, 0)
    return took_s, store.save(Checkpoint(0, RECORD, tensors)).bytes


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
