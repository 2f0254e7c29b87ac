"""Claims about the rest of a site after a cull, in real training and over a resume."""

import pytest
from msgspec.structs import replace

from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import AdaptationCommand, CommandSeedOperation, CommandType
from tests.esper.tolaria.runs import Kept, Run, config, resumed
from tests.hosts import HOSTS


def embargoed(kept: Kept) -> bool:
    return any(one.stage is Stage.EMBARGOED for one in kept.engine.records)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 4])
def test_a_culled_seeds_site_rests_for_the_epochs_that_are_configured_also_in_another_process(
    epochs: int,
) -> None:
    settings = config(epochs=20)
    settings = replace(settings, growth=replace(settings.growth, embargo_epochs=epochs))
    run = Run.new(HOSTS[0], settings).finish()
    resting = [kept for kept in run.kept if embargoed(kept)]
    assert len(resting) == max(1, epochs - 1)
    (record,) = [one for one in resting[0].engine.records if one.stage is Stage.EMBARGOED]
    again = resumed(resting[0], HOSTS[0], settings)
    germinate = AdaptationCommand(
        "o1",
        CommandType.SEED,
        1_000,
        "operator",
        payload=CommandSeedOperation(SeedOperation.GERMINATE, "BP900"),
        annotations={"site": record.site},
    )
    view = again.trainer.assemble().growth
    verdict = again.engine.propose(germinate, {}, view.epoch, 1_000, view.params)
    told = f"site {record.site} rests after {record.seed_id} was culled, at least until epoch "
    assert not verdict.applied
    assert verdict.refusal.startswith(f"{told}{record.stage_epoch - 1 + epochs}")
    assert resumed(resting[0], HOSTS[0], settings).finish().stages() == run.stages()
