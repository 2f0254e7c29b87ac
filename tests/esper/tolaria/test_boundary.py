import msgspec
import pytest

from contracts.config import GrowthConfig
from contracts.growth import GrowthView
from contracts.lifecycle import Stage
from contracts.messages import SystemState
from esper.kasmina.plan import Note
from tests.esper.tolaria.world import config, fossilize, insert, live, plan, record, trainer


def test_nothing_is_assembled_before_the_first_epoch() -> None:
    with pytest.raises(RuntimeError, match="call run_epoch first"):
        trainer().assemble()


def test_the_outlook_at_the_beginning_is_that_of_a_network_that_has_not_grown() -> None:
    one = trainer()
    outlook = one.outlook()
    one.run_epoch()
    first = one.assemble().growth
    assert (outlook.epoch, outlook.spent_flops, outlook.progress) == (0, 0, 0.0)
    for name in ("params", "host_params", "max_params", "seed_params_max", "sites", "max_active"):
        assert getattr(outlook, name) == getattr(first, name)


def test_the_state_is_that_of_the_epoch() -> None:
    one = trainer()
    one.run_epoch()
    result = one.run_epoch()
    state = one.assemble().state
    assert state.current_epoch == result.epoch == 2
    assert state.validation_loss == result.val_loss
    assert state.training_loss == result.train_loss
    assert state.global_step == 12
    assert state.timestamp_ns == 1_000
    assert state.packet_id == "run-2"
    assert msgspec.convert(msgspec.to_builtins(state), SystemState) == state


def test_a_seed_shows_up_with_its_figures_and_its_rate() -> None:
    one = trainer(config(seed_rate=0.5))
    one.apply(plan(insert("two#0"), live("two#0")))
    for _ in range(2):
        one.run_epoch()
    assembled = one.assemble()
    (seed,) = assembled.state.seed_states
    assert (seed.seed_id, seed.stage, seed.layer_depth, seed.age_epochs) == (
        "two#0", Stage.PROBATIONARY, 1, 2,
    )  # fmt: skip
    assert seed.learning_rate == 0.005
    assert seed.gradient_norm == assembled.figures["two#0"].grad_norm
    assert set(seed.metrics) == {"alpha", "params", "gain", "rms_ratio"}
    assert [view.record.seed_id for view in assembled.growth.active] == ["two#0"]
    assert assembled.growth.params == assembled.growth.host_params + 27


def test_a_site_is_free_until_it_is_full() -> None:
    one = trainer(config(growth=GrowthConfig(max_per_site=1)))
    one.run_epoch()
    assert [site.free for site in one.assemble().growth.sites] == [True, True]
    one.apply(plan(Note(record("one#0", Stage.DORMANT))))
    assert one.assemble().growth.sites[0].free
    one.apply(plan(insert("one#0"), live("one#0")))
    assert not one.assemble().growth.sites[0].free
    one.apply(plan(fossilize("one#0")))
    growth: GrowthView = one.assemble().growth
    assert not growth.sites[0].free
    assert growth.sites[1].free
    assert growth.active == ()
    assert len(growth.sites[0].fossils) == 1


def test_a_site_with_room_is_free_again_after_a_fossil() -> None:
    one = trainer(config(growth=GrowthConfig(max_per_site=2)))
    one.run_epoch()
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0"), Note(record("one#1", Stage.DORMANT))))
    assert one.assemble().growth.sites[0].free


def test_without_a_limit_there_is_room_for_any_number_of_parameters() -> None:
    one = trainer()
    one.run_epoch()
    assert one.assemble().growth.max_params > 10**15
