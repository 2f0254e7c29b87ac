"""What it takes to go on with a run: from its folder to the moment at which the next decision is due.

A run on MNIST-1D grows and leaves checkpoints; then each round does what a new process does once it has
loaded torch: put the parts together, find and verify the newest checkpoint, read it, give everyone its memory
back, and restore the trainer. `bytes` is the size of that checkpoint. The run is then resumed and trained to
its end: `equal` is the share of rounds that end with the numbers of a run that nobody broke off.
"""

import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch

from bench.measure import Budget, Size, percentiles
from esper.assembly import Parts, assemble_parts
from esper.folder import CONFIG
from esper.place import old_place
from esper.report.build import REPORT, read
from esper.session import grow
from esper.settings import load
from esper.workloads.registry import find_workload

BUDGETS = (Budget("total.p50_ms", 2_000.0), Budget("equal", 1.0, "at_least"))
EPOCHS = {Size.SMALL: 8, Size.FULL: 40}
STEPS = {Size.SMALL: 4, Size.FULL: 40}
"""Of an epoch."""
ROUNDS = {Size.SMALL: 1, Size.FULL: 10}
WAITS = ("budgets.tamiyo_inference_ms=60000", "budgets.epoch_boundary_ms=60000")
"""A decision that comes late would be another decision."""
SETTINGS = (*WAITS, "checkpoint.every_s=0", "checkpoint.keep=1000", "kernels.prefetch=false")


def run(size: Size) -> dict[str, object]:
    """Milliseconds of each part of a resume, over rounds that each begin at another epoch."""
    torch.set_num_threads(1)
    epochs, rounds = EPOCHS[size], ROUNDS[size]
    with tempfile.TemporaryDirectory() as folder:
        whole = _grown(Path(folder), size, None)
        expected = _numbers(whole)
        took: dict[str, list[float]] = {"assemble": [], "open": [], "restore": [], "total": []}
        equal, size_bytes = 0, 0
        for turn in range(rounds):
            cut = epochs * (turn + 1) // (rounds + 1)
            broken = _grown(Path(folder), size, None)
            size_bytes = _cut_back(broken, cut)
            _measure(broken, took)
            equal += _numbers(_grown(Path(folder), size, broken)) == expected
    parts = {name: percentiles(samples).figures("ms") for name, samples in took.items()}
    return {**parts, "bytes": size_bytes, "equal": equal / rounds, "rounds": rounds}


def _grown(out: Path, size: Size, resume: Path | None) -> Path:
    workload = find_workload("mnist1d")
    settings = (*SETTINGS, f"run.out={out}", "run.policy=random", f"train.epoch_steps={STEPS[size]}")
    return grow(
        workload.task(0),
        sites=list(workload.sites),
        epochs=EPOCHS[size],
        max_params=workload.max_params,
        settings=settings,
        resume=resume,
    ).folder


def _cut_back(folder: Path, epoch: int) -> int:
    """Take away what a run that was killed after `epoch` would not have; the size of what is then newest."""
    (folder / REPORT).unlink()
    for file in (folder / "checkpoints").iterdir():
        if int(file.stem) > epoch:
            file.unlink()
    newest = max(int(file.stem) for file in (folder / "checkpoints").glob("*.json"))
    return sum(file.stat().st_size for file in (folder / "checkpoints").glob(f"{newest:08}.*"))


def _measure(folder: Path, took: dict[str, list[float]]) -> None:
    """One resume, up to where it would decide; nothing is written."""
    config, moments_s = load(folder / CONFIG), [time.perf_counter()]

    def assemble(run_id: str) -> Parts:
        parts = assemble_parts(config, find_workload("mnist1d").task(0), run_id)
        moments_s.append(time.perf_counter())
        return parts

    with old_place(folder, config, assemble) as place:
        moments_s.append(time.perf_counter())
        assert place.start is not None
        place.parts.trainer.restore(place.start.snapshot)
        place.parts.trainer.assemble()
        moments_s.append(time.perf_counter())
    for name, (before, after) in zip(("assemble", "open", "restore"), pairwise(moments_s), strict=True):
        took[name].append(after - before)
    took["total"].append(moments_s[-1] - moments_s[0])


def _numbers(folder: Path) -> list[object]:
    report = read(folder / REPORT)
    return [
        [(one.train_loss, one.val_loss, one.params, one.train_flops) for one in report.epochs],
        report.final,
    ]
