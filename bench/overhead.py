"""What growing costs a training loop: the same loop in plain PyTorch and under Esper, in turn.

Both sides train the same host with the same fused Adam in 40-step epochs of 100 examples, add up the
loss, and validate after each epoch on all 2,000 examples; both have the interpreter set up alike. Esper's
side has all its actors, the event log and the boundaries.
Epochs are timed from boundary to boundary, so that neither side's start and end counts.

A seed brings work of its own: its passes beside the host's, and what is measured of it. `flops_ratio` says
how much more work an epoch with it is than one without, validation included on both sides:
(host's steps + validation + shadow + gauge + counterfactual) / (host's steps + validation).
`ratio_to_flops` is what is left when the time's ratio is divided by that. A small seed's work is mostly not
FLOPs but calls of small operations, so its figure has no budget.
"""

import time
from collections import Counter
from collections.abc import Sequence
from statistics import median

import torch
from torch.nn import functional as F

from actors.runtime.interpreter import shared_interpreter
from bench.measure import Budget, Ratio, Size, ratio_of
from bench.real_run import make_parts, mnist1d, real_run
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
EPOCHS = {Size.SMALL: 6, Size.FULL: 30}
ROUNDS = {Size.SMALL: 1, Size.FULL: 12}
SETTLE = 3
"""First epochs of each run that are not timed; the seed is in place by then."""
SEEDS = {"one_seed": ("BP003", 300), "one_small_seed": ("BP001", 300)}
"""Blueprint and most parameters of the seed, by case; BP001 has one parameter a channel."""


class Watch(NeverGrow):
    """Waits at every boundary and notes when that was."""

    def __init__(self) -> None:
        self.at_s: list[float] = []
        self.flops: list[dict[str, int]] = []  # spent so far, by account

    def act(self, state: SystemState, view: GrowthView) -> Action:
        self.at_s.append(time.perf_counter())
        self.flops.append(view.flops)
        return Wait()

    @property
    def epoch_s(self) -> float:
        return _epoch_s(self.at_s)

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


def run(size: Size) -> dict[str, object]:
    """Seconds an epoch of all sides, in turn, and their ratios to plain PyTorch."""
    torch.set_num_threads(1)
    epochs = EPOCHS[size]
    plain_s: list[float] = []
    dormant: list[Watch] = []
    seeded: dict[str, list[Watch]] = {name: [] for name in SEEDS}
    for _ in range(ROUNDS[size]):
        before_s = _plain(epochs)
        dormant.append(_esper(epochs, Watch()))
        plain_s.append((before_s + _plain(epochs)) / 2)  # on both sides, as the machine's speed drifts
        for name, seed in SEEDS.items():
            seeded[name].append(_esper(epochs, OneIsolatedSeed(*seed)))
    host = dormant[-1].spent()
    return {
        "plain": {"epoch_ms": median(plain_s) * 1e3},
        "dormant": _figures(_to_plain(dormant, plain_s)),
        **{name: _seed_figures(watches, plain_s, host) for name, watches in seeded.items()},
    }


def _to_plain(watches: Sequence[Watch], plain_s: Sequence[float]) -> Ratio:
    return ratio_of([watch.epoch_s for watch in watches], plain_s)


def _figures(ratio: Ratio) -> dict[str, object]:
    return {"ratio": ratio.median, "spread_ratio": ratio.spread, "n": ratio.n}


def _seed_figures(
    watches: Sequence[Watch], plain_s: Sequence[float], host: Counter[str]
) -> dict[str, object]:
    """`host` is what the same epochs took without a seed: steps and validation."""
    ratio, spent = _to_plain(watches, plain_s), watches[-1].spent()
    flops_ratio = spent.total() / host.total()
    return {
        **_figures(ratio),
        "flops": {"host": dict(host), "with_seed": dict(spent)},
        "flops_ratio": flops_ratio,
        "ratio_to_flops": ratio.median / flops_ratio,
    }


def _esper(epochs: int, watch: Watch) -> Watch:
    """`watch`, after a run in which it made the decisions."""
    real_run(make_parts(mnist1d(policy="none", epochs=epochs), watch))
    return watch


def _plain(epochs: int) -> float:
    """Seconds an epoch of the plainest loop that does the same."""
    config = mnist1d(epochs=epochs)
    task = find_workload("mnist1d").task(0)
    model, train, validation = task.model, task.train, task.validation
    optimizer = torch.optim.Adam(model.parameters(), lr=config.train.learning_rate, fused=True)
    at_s: list[float] = []
    with shared_interpreter():
        for _ in range(epochs):
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
            at_s.append(time.perf_counter())
    return _epoch_s(at_s)


def _epoch_s(at_s: Sequence[float]) -> float:
    """Mean seconds between the boundaries of the timed epochs: not all of them measure a seed."""
    return (at_s[-1] - at_s[SETTLE]) / (len(at_s) - 1 - SETTLE)
