"""What growing costs a training loop: the same loop in plain PyTorch and under Esper, in turn.

Both sides train the same host with the same fused Adam in 40-step epochs of 100 examples, add up the
loss, and validate after each epoch on all 2,000 examples. Esper's side has all its actors, the event
log and the boundaries.
Epochs are timed from boundary to boundary, so that neither side's start and end counts.
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn import functional as F

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
BLUEPRINT = "BP003"
SEED_PARAMS = 300


class Watch(NeverGrow):
    """Waits at every boundary and notes when that was."""

    def __init__(self) -> None:
        self.at_s: list[float] = []
        self.spent: list[int] = []

    def act(self, state: SystemState, view: GrowthView) -> Action:
        self.at_s.append(time.perf_counter())
        self.spent.append(view.spent_flops)
        return Wait()


class OneIsolatedSeed(Watch):
    """Germinates one seed at the first site, which then learns in isolation to the end."""

    def act(self, state: SystemState, view: GrowthView) -> Action:
        super().act(state, view)
        if not view.active:
            site = view.sites[0].site
            blueprint = CATALOGUE.get(BLUEPRINT)
            settings = blueprint.fit(site, SEED_PARAMS)
            assert settings is not None
            candidate = Candidate(site.name, BLUEPRINT, settings, blueprint.params(site, settings))
            return Germinate(candidate, Path(training_epochs=1_000_000))
        seed = view.active[0].record
        if seed.stage is Stage.GERMINATED:
            return Advance(seed.seed_id, SeedOperation.START_TRAINING)
        return Wait()


def run(size: Size) -> dict[str, object]:
    """Seconds an epoch of both sides, in turn, and their ratio."""
    torch.set_num_threads(1)
    epochs = EPOCHS[size]
    plain_s: list[float] = []
    dormant_s: list[float] = []
    seeded_s: list[float] = []
    flops_ratio = 1.0
    for _ in range(ROUNDS[size]):
        plain_s.append(_plain(epochs))
        dormant_s.append(_esper(epochs, Watch)[0])
        seconds, flops_ratio = _esper(epochs, OneIsolatedSeed)
        seeded_s.append(seconds)
    dormant, seeded = ratio_of(dormant_s, plain_s), ratio_of(seeded_s, plain_s)
    return {
        "plain": {"epoch_ms": median(plain_s) * 1e3},
        "dormant": _figures(dormant),
        "one_seed": {
            **_figures(seeded),
            "flops_ratio": flops_ratio,
            "ratio_to_flops": seeded.median / flops_ratio,
        },
    }


def _figures(ratio: Ratio) -> dict[str, object]:
    return {"ratio": ratio.median, "spread_ratio": ratio.spread, "n": ratio.n}


def _esper(epochs: int, policy: Callable[[], Watch]) -> tuple[float, float]:
    """Median seconds an epoch, and FLOPs over those of the host's own steps."""
    watch = policy()
    parts = make_parts(mnist1d(policy="none", epochs=epochs), watch)
    real_run(parts)
    gaps = [b - a for a, b in zip(watch.at_s[SETTLE:-1], watch.at_s[SETTLE + 1 :], strict=True)]
    spent = watch.spent[-1] - watch.spent[SETTLE]
    host = parts.config.train.epoch_steps * (len(watch.spent) - 1 - SETTLE) * _host_step_flops()
    return median(gaps), spent / host


def _host_step_flops() -> int:
    from esper.tolaria.flops import count_step

    task = find_workload("mnist1d").task(0)
    batch = task.train.first(mnist1d(epochs=1).train.batch_size)
    return count_step(task.model, batch.inputs, batch.targets, task.loss_fn)


def _plain(epochs: int) -> float:
    """Median seconds an epoch of the plainest loop that does the same."""
    config = mnist1d(epochs=epochs)
    task = find_workload("mnist1d").task(0)
    model, train, validation = task.model, task.train, task.validation
    optimizer = torch.optim.Adam(model.parameters(), lr=config.train.learning_rate, fused=True)
    at_s: list[float] = []
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
    return median(b - a for a, b in zip(at_s[SETTLE:-1], at_s[SETTLE + 1 :], strict=True))
