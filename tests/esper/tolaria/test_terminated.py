"""Claims about a seed that the operator takes down for good, in real training and over a resume."""

import pytest

from actors.orders import command_of
from contracts.emergency import SeedOrder
from contracts.lifecycle import ACTIVE, Stage
from contracts.messages import AdaptationCommand
from esper.tolaria.optimizer import holds
from tests.esper.tolaria.runs import Run, resumed, same_value
from tests.hosts import HOSTS, Host


def until(host: Host, stages: frozenset[Stage]) -> tuple[Run, str]:
    """A run at the boundary at which it first has a seed in one of these stages, and the seed."""
    run = Run.new(host)
    while True:
        run.turn()
        found = [name for name, stage in run.stages().items() if stage in stages]
        if found:
            return run, found[0]


def ordered(run: Run, seed_id: str) -> None:
    """The next boundary decides what the operator wants."""
    decide = run.controller.decide

    def instead(*_: object) -> AdaptationCommand:
        run.controller.decide = decide  # type: ignore[method-assign]
        return command_of(SeedOrder("terminate", seed_id), "run-o1", 1_000, 18)

    run.controller.decide = instead  # type: ignore[method-assign]
    run.turn()


@pytest.mark.parametrize("stages", [frozenset({Stage.FOSSILIZED}), ACTIVE], ids=["fossil", "active"])
def test_a_terminated_seed_leaves_the_host_and_its_optimizer_and_training_goes_on(
    stages: frozenset[Stage],
) -> None:
    run, seed_id = until(HOSTS[0], stages)
    run.turn()
    grafts = run.trainer._grafts
    parameters = list(grafts.named_parameters(seed_id))
    assert parameters
    assert holds(run.trainer._machine.parts.optimizer, parameters)
    ordered(run, seed_id)
    assert run.stages()[seed_id] is Stage.TERMINATED
    run.turn()
    assert seed_id not in grafts.seed_ids()
    assert not holds(run.trainer._machine.parts.optimizer, parameters)
    for _ in range(3):
        run.turn()
    assert run.stages()[seed_id] is Stage.TERMINATED


@pytest.mark.slow
def test_a_run_with_a_terminated_fossil_goes_on_in_another_process_as_in_its_own() -> None:
    run, seed_id = until(HOSTS[0], frozenset({Stage.FOSSILIZED}))
    ordered(run, seed_id)
    run.turn()
    kept = run.kept[-1]
    assert kept.snapshot.seeds[seed_id].record.stage is Stage.TERMINATED
    run.finish()
    again = resumed(kept, HOSTS[0]).finish()
    assert same_value(again.told[-3:], run.told[-3:])
    assert again.stages() == run.stages()
