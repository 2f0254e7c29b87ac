"""An operation that keeps failing is refused for a while; the way out never is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.config import GrowthConfig, GuardConfig
from contracts.growth import Operation
from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import (
    AdaptationCommand,
    CircuitBreakerState,
    CommandCircuitBreaker,
    CommandType,
)
from esper.breaker import Breaker, BreakerState
from esper.karn.blueprints.identity import Identity
from esper.karn.catalogue import Catalogue
from esper.kasmina.draft import Refused
from esper.kasmina.engine import Engine
from esper.kasmina.guard import NEVER_REFUSED, Guard
from tests.esper.kasmina.engine_world import SITES, Rig

CONFIG = GuardConfig(failures_max=2, rest_epochs=3, graft_ms=50.0, change_ms=20.0)
REFUSABLE = sorted(set(Operation) - NEVER_REFUSED)


class Watch:
    """A stopwatch that shows what it is told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def fail(guard: Guard, operation: Operation, epoch: int, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(RuntimeError), guard.run(operation, epoch):
            raise RuntimeError("it broke")


@pytest.mark.parametrize("operation", REFUSABLE)
def test_failures_in_a_row_open_it_for_some_epochs_then_one_try_decides(operation: Operation) -> None:
    guard = Guard(CONFIG, Watch())
    fail(guard, operation, 4)
    assert guard.refusal(operation, 4) == ""
    fail(guard, operation, 4)
    why = guard.refusal(operation, 4)
    assert f"{operation} is refused: it failed 2 times in a row; it is tried again from epoch 7 on" in why
    with pytest.raises(Refused, match="tried again from epoch 7"):
        guard.check(operation, 6)
    guard.check(operation, 7)
    fail(guard, operation, 7)
    assert "from epoch 10 on" in guard.refusal(operation, 9)
    with guard.run(operation, 10):
        pass
    assert guard.refusal(operation, 10) == ""
    (figures,) = guard.figures(10)
    assert (figures.count, figures.failures, figures.refused, figures.breaker) == (4, 3, 1, "closed")


@given(ms=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=12))
def test_what_takes_longer_than_its_limit_counts_as_failed(ms: list[float]) -> None:
    watch = Watch()
    guard, model = Guard(CONFIG, watch), Breaker(CONFIG.failures_max, CONFIG.rest_epochs)
    for epoch, took in enumerate(ms):
        began, model_trial = watch.now_s, model.permits(epoch, 1)
        with guard.run(Operation.ALPHA, epoch):
            watch.now_s += took / 1e3
        measured = (watch.now_s - began) * 1e3
        if model_trial:
            model.began()
        _ = model.failed(epoch) if measured > CONFIG.change_ms else model.succeeded()
    (figures,) = guard.figures(len(ms))
    assert figures.count == len(ms)
    assert figures.slow == figures.failures <= sum(took >= CONFIG.change_ms for took in ms)
    assert figures.worst_ms == pytest.approx(max(ms), abs=1e-6)


def test_what_was_copied_inside_counts_in_the_figures_and_not_against_the_limit() -> None:
    watch = Watch()
    guard = Guard(CONFIG, watch)

    def insert(copying_s: float, working_s: float) -> None:
        with guard.run(Operation.INSERT, 0):
            with guard.copying():
                watch.now_s += copying_s
            watch.now_s += working_s

    insert(9.0, 0.049)
    insert(0.0, 0.049)
    (figures,) = guard.figures(0)
    assert (figures.count, figures.slow, figures.failures) == (2, 0, 0)
    assert figures.worst_ms == pytest.approx(9_049.0)
    insert(9.0, 0.051)
    insert(0.0, 0.051)
    assert guard.figures(0)[0].slow == 2, "what was copied once lends nobody else time"
    assert guard.refusal(Operation.INSERT, 0) != ""


def test_no_limit_is_no_limit() -> None:
    watch = Watch()
    guard = Guard(replace(CONFIG, change_ms=0.0), watch)
    with guard.run(Operation.ALPHA, 0):
        watch.now_s += 1e6
    assert guard.figures(0)[0].slow == 0


@pytest.mark.parametrize("operation", sorted(NEVER_REFUSED))
def test_the_way_out_is_never_refused(operation: Operation) -> None:
    guard = Guard(CONFIG, Watch())
    fail(guard, operation, 0, times=9)
    guard.check(operation, 0)
    assert guard.figures(0)[0].failures == 9


def test_a_refusal_inside_is_no_failure() -> None:
    guard = Guard(CONFIG, Watch())
    for _ in range(5):
        with pytest.raises(Refused), guard.run(Operation.ADVANCE, 0):
            raise Refused("a gate did not pass")
    assert (guard.memory(), guard.refusal(Operation.ADVANCE, 0)) == ({}, "")


def test_a_resumed_guard_goes_on_and_a_rollback_heals_nothing() -> None:
    guard, fresh = Guard(CONFIG, Watch()), Guard(CONFIG, Watch())
    before = guard.memory()
    fail(guard, Operation.INSERT, 5, times=2)
    fresh.restore(guard.memory())
    assert fresh.refusal(Operation.INSERT, 7) == guard.refusal(Operation.INSERT, 7) != ""
    guard.restore(before)
    assert guard.refusal(Operation.INSERT, 7) != ""


class Broken(Identity):
    """Can't be built."""

    descriptor = replace(Identity.descriptor, blueprint_id="BP999")

    def build(self, *args: object) -> object:  # type: ignore[override]
        raise RuntimeError("no memory left")


def test_a_blueprint_that_can_t_be_built_is_refused_and_opens_the_breaker() -> None:
    rig = Rig(GrowthConfig(guard=CONFIG))
    rig.engine = Engine(SITES, rig.config, Catalogue((Broken(), Identity())), seed=0, guard=rig.engine.guard)
    for _ in range(2):
        verdict = rig.do(rig.germinate(blueprint_id="BP999"))
        assert "BP999 can't be built: RuntimeError: no memory left" in verdict.refusal
        assert verdict.plan.changes == ()
    healthy = rig.germinate(blueprint_id=Identity.descriptor.blueprint_id)
    assert "germinate is refused: it failed 2 times in a row" in rig.propose(healthy).refusal
    rig.epoch = 3
    assert rig.do(healthy).applied


def test_a_change_that_the_safe_point_may_not_make_is_not_planned() -> None:
    rig = Rig(GrowthConfig(guard=CONFIG))
    rig.grown(SeedOperation.START_GRAFTING, blending_epochs=3.0)
    guard = rig.engine.guard
    fail(guard, Operation.ALPHA, 0, times=2)
    rig.epoch = 1
    assert rig.propose(rig.pause()).plan.changes == (), "the ramp waits"
    assert rig.do(rig.germinate("b")).applied
    assert "alpha is refused" in rig.propose(rig.command(SeedOperation.START_GRAFTING, "b#0")).refusal
    assert rig.propose(rig.command(SeedOperation.CULL)).applied
    assert rig.propose(rig.terminating()).applied
    rig.epoch = 3
    assert rig.do(rig.pause()).plan.changes != ()


def setting(rig: Rig, state: CircuitBreakerState, operation: str) -> AdaptationCommand:
    return replace(
        rig.pause(),
        command_type=CommandType.CIRCUIT_BREAKER,
        payload=CommandCircuitBreaker(state),
        annotations={"operation": operation},
    )


def test_an_operator_sets_a_breaker() -> None:
    rig = Rig(GrowthConfig(guard=CONFIG))
    verdict = rig.propose(setting(rig, CircuitBreakerState.OPEN, "insert"))
    assert verdict.applied
    assert rig.engine.guard.refusal(Operation.INSERT, 0) == "", "not before it is committed"
    rig.take(verdict)
    rig.epoch = 1_000
    assert "held open until an operator closes it" in rig.propose(rig.germinate()).refusal
    assert rig.engine.guard.figures(1_000)[0].retry_epoch is None
    rig.do(setting(rig, CircuitBreakerState.HALF_OPEN, "insert"))
    assert rig.propose(rig.germinate()).applied
    rig.do(setting(rig, CircuitBreakerState.CLOSED, "insert"))
    assert rig.engine.state().breakers == {}
    assert rig.record().stage is Stage.DORMANT


@pytest.mark.parametrize(
    ("state", "operation", "issuer", "reason"),
    [
        (CircuitBreakerState.OPEN, "insert", "tamiyo/heuristic", "may not set breakers; 'operator' may"),
        (CircuitBreakerState.OPEN, "remove", "operator", "there is no breaker 'remove' to set"),
        (CircuitBreakerState.OPEN, "", "operator", "names one of germinate, advance, insert"),
        (CircuitBreakerState.UNKNOWN, "insert", "operator", "can be CLOSED, OPEN, HALF_OPEN, not UNKNOWN"),
    ],
)
def test_a_breaker_is_set_by_an_operator_and_only_where_there_is_one(
    state: CircuitBreakerState, operation: str, issuer: str, reason: str
) -> None:
    rig = Rig()
    before = rig.engine.state()
    verdict = rig.propose(replace(setting(rig, state, operation), issued_by=issuer))
    assert reason in verdict.refusal
    assert rig.engine.state() == before


def test_a_breaker_that_is_held_open_is_not_closed_by_a_try_that_began_before() -> None:
    breaker = Breaker(failures_max=1, rest=5)
    breaker.began()
    breaker.put(BreakerState.OPEN, 0)
    breaker.succeeded()
    assert breaker.state(1_000) is BreakerState.OPEN
