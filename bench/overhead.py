"""What growing costs a training loop: the same loop in plain PyTorch and under Esper, in turn.

Both sides train the same host with the same fused Adam in 40-step epochs of 100 examples, add up the
loss, and validate after each epoch on all 2,000 examples; both have the interpreter set up alike. Esper's
side has all its actors, the event log and the boundaries. Epochs are timed from boundary to boundary, so
that neither side's start and end counts.

    plain · dormant · plain · one seed · plain · one small seed · plain …

Runs are short and each has a plain run on both sides: its ratio is to their mean, so that a drift of the
machine's speed cancels. How a process happens to lie in memory and on the processors moves its ratios by
some hundredths for as long as it lives: so the rounds are made in several fresh processes. `ratio` is the
median of the processes' medians, `ratio_low` and `ratio_high` its 95 % interval, `cpu_ratio` the same as
`ratio` of the processor time of the whole process, which waits for nobody.

A seed brings work of its own: its passes beside the host's, and what is measured of it. `flops_ratio` says
how much more work an epoch with it is than one without, validation included on both sides:
(host's steps + validation + shadow + gauge + counterfactual) / (host's steps + validation).
`ratio_to_flops` is what is left when the time's ratio is divided by that. A small seed's work is mostly not
FLOPs but calls of small operations, so its figure has no budget.
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import msgspec
import torch
from torch.nn import functional as F

from actors.runtime.interpreter import shared_interpreter
from bench.interval import median_interval
from bench.measure import Budget, Size
from bench.real_run import make_parts, mnist1d, real_run
from contracts.config import Config
from contracts.growth import Candidate, GrowthView, Path
from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import SystemState
from esper.karn.catalogue import CATALOGUE
from esper.tamiyo.action import Action, Advance, Germinate, Wait
from esper.tamiyo.baselines import NeverGrow
from esper.workloads.registry import find_workload

BUDGETS = (
    Budget("dormant.ratio", 1.03),
    Budget("one_seed.ratio_to_flops", 1.03),
)
EPOCHS = {Size.SMALL: 7, Size.FULL: 13}
"""Of one run; an even number of them is timed, as a seed is compared every second epoch."""
STEPS = {Size.SMALL: 4, Size.FULL: 40}
"""Of an epoch."""
ROUNDS = {Size.SMALL: 1, Size.FULL: 4}
"""Of one process."""
PROCESSES = {Size.SMALL: 1, Size.FULL: 9}
PROCESS_S = 300.0
"""Seconds that one may take."""
SETTLE = 3
"""First boundaries of each run before which nothing is timed; the seed is in place by then."""
SEEDS = {"one_seed": ("BP003", 300), "one_small_seed": ("BP001", 300)}
"""Blueprint and most parameters of the seed, by case; BP001 has one parameter a channel."""


@dataclass(frozen=True)
class Epoch:
    """Mean seconds of a run's timed epochs: of the clock, and of the process on all processors."""

    wall_s: float
    cpu_s: float


@dataclass
class Stamps:
    """When the boundaries of a run were."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def stamp(self) -> None:
        self.wall_s.append(time.perf_counter())
        self.cpu_s.append(time.process_time())

    def epoch(self) -> Epoch:
        return Epoch(_mean_step(self.wall_s), _mean_step(self.cpu_s))


class Watch(NeverGrow):
    """Waits at every boundary and notes when that was."""

    def __init__(self) -> None:
        self.stamps = Stamps()
        self.flops: list[dict[str, int]] = []  # spent so far, by account

    def act(self, state: SystemState, view: GrowthView) -> Action:
        self.stamps.stamp()
        self.flops.append(view.flops)
        return Wait()

    def spent(self) -> Counter[str]:
        """FLOPs of the timed epochs by account."""
        return Counter(self.flops[-1]) - Counter(self.flops[SETTLE])


class OneIsolatedSeed(Watch):
    """Germinates one seed at the first site, which then learns in isolation to the end."""

    def __init__(self, blueprint_id: str, params_max: int) -> None:
        super().__init__()
        self._blueprint_id = blueprint_id
        self._params_max = params_max

    def act(self, state: SystemState, view: GrowthView) -> Action:
        super().act(state, view)
        if not view.active:
            site = view.sites[0].site
            blueprint = CATALOGUE.get(self._blueprint_id)
            settings = blueprint.fit(site, self._params_max)
            assert settings is not None
            candidate = Candidate(site.name, self._blueprint_id, settings, blueprint.params(site, settings))
            return Germinate(candidate, Path(training_epochs=1_000_000))
        seed = view.active[0].record
        if seed.stage is Stage.GERMINATED:
            return Advance(seed.seed_id, SeedOperation.START_TRAINING)
        return Wait()


@dataclass
class Case:
    """The runs of one case, and for each the plain runs around it."""

    epochs: list[Epoch] = field(default_factory=list)
    plain: list[Epoch] = field(default_factory=list)

    def add(self, epoch: Epoch, before: Epoch, after: Epoch) -> None:
        around = Epoch((before.wall_s + after.wall_s) / 2, (before.cpu_s + after.cpu_s) / 2)
        self.epochs.append(epoch)
        self.plain.append(around)

    def ratios(self) -> "Ratios":
        pairs = list(zip(self.epochs, self.plain, strict=True))
        return Ratios(
            [here.wall_s / plain.wall_s for here, plain in pairs],
            [here.cpu_s / plain.cpu_s for here, plain in pairs],
        )


class Ratios(msgspec.Struct):
    """One case in one process: each run's ratio to the plain runs around it."""

    wall: list[float]
    cpu: list[float]


class Sitting(msgspec.Struct):
    """What one process has measured, by case."""

    plain_epoch_s: float
    ratios: dict[str, Ratios]
    flops: dict[str, dict[str, int]]


def run(size: Size) -> dict[str, object]:
    """Seconds an epoch of all sides, in turn, and their ratios to plain PyTorch."""
    sittings = [_elsewhere(size) for _ in range(PROCESSES[size])]
    flops = {name: Counter(spent) for name, spent in sittings[0].flops.items()}
    dormant = _figures(sittings, "dormant")
    seeded = {name: _seed_figures(_figures(sittings, name), flops[name], flops["dormant"]) for name in SEEDS}
    plain_ms = median(one.plain_epoch_s for one in sittings) * 1e3
    return {"plain": {"epoch_ms": plain_ms}, "dormant": dormant, **seeded}


def sit(size: Size) -> Sitting:
    """The rounds of one process."""
    torch.set_num_threads(1)
    cases = {name: Case() for name in ("dormant", *SEEDS)}
    flops: dict[str, dict[str, int]] = {}
    _plain(size)  # warms up
    plain = [_plain(size)]
    for _ in range(ROUNDS[size]):
        for name, case in cases.items():
            watch = _esper(size, OneIsolatedSeed(*SEEDS[name]) if name in SEEDS else Watch())
            flops[name] = dict(watch.spent())
            plain.append(_plain(size))
            case.add(watch.stamps.epoch(), *plain[-2:])
    plain_s = median(epoch.wall_s for epoch in plain)
    return Sitting(plain_s, {name: case.ratios() for name, case in cases.items()}, flops)


def _elsewhere(size: Size) -> Sitting:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "bench.overhead", size.value]
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=PROCESS_S)
    return msgspec.json.decode(made.stdout, type=Sitting)


def _figures(sittings: Sequence[Sitting], case: str) -> dict[str, object]:
    medians = [median(one.ratios[case].wall) for one in sittings]
    low, high = median_interval(medians)
    every = [ratio for one in sittings for ratio in one.ratios[case].wall]
    return {
        "ratio": median(medians),
        "ratio_low": low,
        "ratio_high": high,
        "spread_ratio": max(medians) - min(medians),
        "cpu_ratio": median(median(one.ratios[case].cpu) for one in sittings),
        "n": len(every),
        "processes": len(sittings),
    }


def _seed_figures(figures: dict[str, object], spent: Counter[str], host: Counter[str]) -> dict[str, object]:
    """`host` is what the same epochs took without a seed: steps and validation."""
    flops_ratio = spent.total() / host.total()
    to_flops = {
        f"{name}_to_flops": value / flops_ratio
        for name, value in figures.items()
        if isinstance(value, float) and name in ("ratio", "ratio_low", "ratio_high")
    }
    flops = {"host": dict(host), "with_seed": dict(spent)}
    return {**figures, "flops": flops, "flops_ratio": flops_ratio, **to_flops}


def _esper(size: Size, watch: Watch) -> Watch:
    """`watch`, after a run in which it made the decisions."""
    real_run(make_parts(_config(size), watch))
    return watch


def _config(size: Size) -> Config:
    return mnist1d(f"train.epoch_steps={STEPS[size]}", policy="none", epochs=EPOCHS[size])


def _plain(size: Size) -> Epoch:
    """An epoch of the plainest loop that does the same."""
    config = _config(size)
    task = find_workload("mnist1d").task(0)
    model, train, validation = task.model, task.train, task.validation
    optimizer = torch.optim.Adam(model.parameters(), lr=config.train.learning_rate, fused=True)
    stamps = Stamps()
    with shared_interpreter():
        for _ in range(EPOCHS[size] - 1):  # the last epoch has no boundary
            model.train()
            order = torch.randperm(len(train.inputs))
            total = 0.0
            for batch in torch.split(order, config.train.batch_size)[: config.train.epoch_steps]:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(train.inputs[batch]), train.targets[batch])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += loss.item()
            model.eval()
            with torch.no_grad():
                outputs = model(validation.inputs)
                F.cross_entropy(outputs, validation.targets).item()
                (outputs.argmax(1) == validation.targets).float().mean().item()
            stamps.stamp()
    return stamps.epoch()


def _mean_step(at_s: Sequence[float]) -> float:
    """Mean seconds between the boundaries of the timed epochs: not all of them measure a seed."""
    return (at_s[-1] - at_s[SETTLE]) / (len(at_s) - 1 - SETTLE)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(sit(Size(sys.argv[1]))))
