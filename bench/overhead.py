"""What growing costs a training loop: the same loop in plain PyTorch and under Esper, in turn in one process.

Both sides train the same host with the same fused Adam in 40-step epochs of 100 examples, add up the
loss, and validate after each epoch on all 2,000 examples; both have the interpreter set up alike. Esper's
side has all its actors, the event log, its moments and the boundaries, whose time counts. `bench.alternating`
says how the two take turns.

The ratio of a block is to the mean of the plain ones on both sides of it. How a process happens to lie in
memory and on the processors moves its ratios a little for as long as it lives: so there are several fresh
processes. `ratio` is the median of the processes' medians, `ratio_low` and `ratio_high` its 95 % interval,
`cpu_ratio` the same as `ratio` of the processor time of the whole process, which waits for nobody.

A seed brings work of its own: its passes beside the host's, and what is measured of it. `flops_ratio` says
how much more work an epoch with it is than one without, validation included on both sides:
(host's steps + validation + shadow + gauge + counterfactual) / (host's steps + validation).
`ratio_to_flops` is what is left when the time's ratio is divided by that. A small seed's work is mostly not
FLOPs but calls of small operations, so its figure has no budget.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

import msgspec
import torch
from torch.nn import functional as F

from bench.alternating import BLOCK, Alternating, Block
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
PAIRS = {Size.SMALL: 1, Size.FULL: 24}
"""Of blocks with dormant sites, in one process; with a seed, half as many."""
STEPS = {Size.SMALL: 4, Size.FULL: 40}
"""Of an epoch."""
PROCESSES = {Size.SMALL: 1, Size.FULL: 9}
PROCESS_S = 300.0
"""Seconds that one may take."""
SEEDS = {"one_seed": ("BP003", 300), "one_small_seed": ("BP001", 300)}
"""Blueprint and most parameters of the seed, by case; BP001 has one parameter a channel."""


class OneIsolatedSeed(NeverGrow):
    """Germinates one seed at the first site, which then learns in isolation to the end."""

    def __init__(self, blueprint_id: str, params_max: int) -> None:
        self._blueprint_id = blueprint_id
        self._params_max = params_max

    def act(self, state: SystemState, view: GrowthView) -> Action:
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


class Ratios(msgspec.Struct):
    """One case in one process: each block's ratio to the plain ones around it."""

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
    """What one process measures: each case in a run of its own."""
    torch.set_num_threads(1)
    runs = {"dormant": _alternating(size, NeverGrow(), PAIRS[size])}
    for name, seed in SEEDS.items():
        runs[name] = _alternating(size, OneIsolatedSeed(*seed), max(1, PAIRS[size] // 2))
    plain_s = median(block.wall_s / BLOCK for block in runs["dormant"].plain_blocks)
    ratios = {name: _ratios(one.esper_blocks, one.plain_blocks) for name, one in runs.items()}
    return Sitting(plain_s, ratios, {name: _an_epoch(one) for name, one in runs.items()})


def _an_epoch(one: Alternating) -> dict[str, int]:
    """FLOPs of an epoch, by account."""
    epochs = BLOCK * len(one.esper_blocks)
    return {account: flops // epochs for account, flops in one.spent.items()}


def _ratios(blocks: Sequence[Block], plain: Sequence[Block]) -> Ratios:
    around = list(zip(blocks, plain[:-1], plain[1:], strict=True))
    return Ratios(
        [2 * one.wall_s / (before.wall_s + after.wall_s) for one, before, after in around],
        [2 * one.cpu_s / (before.cpu_s + after.cpu_s) for one, before, after in around],
    )


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


def _alternating(size: Size, policy: NeverGrow, pairs: int) -> Alternating:
    """A run in which `policy` decides, and between its blocks plain PyTorch."""
    config = mnist1d(f"train.epoch_steps={STEPS[size]}", policy="none", epochs=Alternating.epochs(pairs))
    parts = make_parts(config, policy)
    plain = _plain(config)
    plain()  # warms up
    both = Alternating(parts.trainer, plain)
    real_run(parts, training=both, meet=both.meet)
    assert len(both.esper_blocks) == pairs, "the run ended early"
    return both


def _plain(config: Config) -> Callable[[], None]:
    """Trains and validates for an epoch, in the plainest loop that does the same as Esper's."""
    task = find_workload("mnist1d").task(0)
    model, train, validation = task.model, task.train, task.validation
    optimizer = torch.optim.Adam(model.parameters(), lr=config.train.learning_rate, fused=True)

    def epoch() -> None:
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

    return epoch


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(sit(Size(sys.argv[1]))))
