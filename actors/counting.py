"""Counts what a run's epochs and boundaries brought, in the counters that its metrics are read from."""

from actors.nissa.counters import FLOP_ACCOUNTS, RunCounters
from contracts.lifecycle import Stage
from esper.boundary import Boundary
from esper.tolaria.results import Assembled


def count_epoch(counters: RunCounters, assembled: Assembled) -> None:
    """An epoch has ended."""
    state, growth, training = assembled.state, assembled.growth, counters.training
    training.epochs = growth.epoch
    training.steps = state.global_step
    training.loss = state.training_loss
    training.validation_loss = state.validation_loss
    training.validation_accuracy = state.validation_accuracy
    training.learning_rate = state.training_metrics["learning_rate"]
    training.flops = {account: growth.flops.get(account, 0) for account in FLOP_ACCOUNTS}
    training.host_params = growth.host_params
    training.grown_params = growth.params - growth.host_params
    counters.growth.conservative = growth.conservative
    counters.growth.stages(seed.record.stage for seed in growth.seeds)


def count_boundary(counters: RunCounters, boundary: Boundary) -> None:
    """A boundary is over."""
    counters.boundary.record(
        boundary.assemble_s, boundary.decide_s, boundary.apply_s, boundary.total_s, boundary.keep_s
    )
    if boundary.fallback:
        counters.boundary.decision_timeouts += 1
    if boundary.verdict is None:
        return
    growth = counters.growth
    growth.commands["applied" if boundary.verdict.applied else "refused"] += 1
    for gate in boundary.verdict.gates:
        growth.gate(gate.gate, gate.passed)
    for change in boundary.verdict.plan.changes:
        outcome = _outcome(change.record.stage, change.record.rolled_back)
        if outcome and change.record.stage_epoch == boundary.epoch:
            growth.grafts[outcome] += 1


def _outcome(stage: Stage, rolled_back: bool) -> str:
    match stage:
        case Stage.FOSSILIZED:
            return "fossilized"
        case Stage.CULLED:
            return "rolled_back" if rolled_back else "culled"
        case Stage.TERMINATED:
            return "terminated"
        case _:
            return ""
