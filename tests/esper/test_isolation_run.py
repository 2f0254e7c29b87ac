"""Claims about isolation in whole runs, with every actor: what a seed may never change."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from contracts.growth import Candidate, GrowthView
from contracts.growth import Path as Stay
from contracts.lifecycle import SeedOperation, Stage
from contracts.messages import SystemState
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.graft import ungrown_state_dict
from esper.session import Grown, grow
from esper.tamiyo.action import Action, Advance, Cull, Germinate, Wait
from esper.tamiyo.baselines import NeverGrow
from esper.tolaria.task import Task, Tensors, class_accuracy
from tests.hosts import HOSTS, Host

pytestmark = pytest.mark.real
EPOCHS = 12
CULLED_AT = 8


class KeepsIsolated(NeverGrow):
    """Puts one seed into the first site and leaves it in TRAINING, or culls it from there."""

    name = "isolates"

    def __init__(self, culls: bool) -> None:
        self._culls = culls
        self._grown = False

    def act(self, state: SystemState, view: GrowthView) -> Action:
        if not view.active:
            if self._grown:
                return Wait()
            self._grown = True
            return self._germinate(view)
        seed = view.active[0].record
        if seed.stage is Stage.GERMINATED:
            return Advance(seed.seed_id, SeedOperation.START_TRAINING)
        if self._culls and view.epoch >= CULLED_AT:
            return Cull(seed.seed_id)
        return Wait()

    def _germinate(self, view: GrowthView) -> Action:
        site = view.sites[0].site
        blueprint = CATALOGUE.get("BP008")
        settings = blueprint.fit(site, 80)
        assert settings is not None
        candidate = Candidate(site.name, "BP008", settings, blueprint.params(site, settings))
        return Germinate(candidate, Stay(training_epochs=1000))


def run(host: Host, policy: NeverGrow) -> Grown:
    parts = [Tensors(*host.batch(size, seed)) for seed, size in enumerate((160, 60, 60))]
    task = Task(host.model(), *parts, loss_fn=F.cross_entropy, accuracy_fn=class_accuracy)
    settings = [
        "train.epoch_steps=4", "train.batch_size=16", "train.learning_rate=0.003",
        "budgets.tamiyo_inference_ms=5000", "budgets.epoch_boundary_ms=5000", "growth.shadow_every=2",
    ]  # fmt: skip
    return grow(task, sites=host.sites, epochs=EPOCHS, settings=settings, policy=policy)


def host_of(grown: Grown) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in ungrown_state_dict(grown.model).items()}


@dataclass(frozen=True)
class Left:
    """What a run leaves of its host, and the numbers that it told of it."""

    host: dict[str, Tensor]
    numbers: list[tuple[float | None, ...]]


def left_by(grown: Grown) -> Left:
    epochs = grown.report.epochs
    return Left(host_of(grown), [(one.train_loss, one.val_loss, one.val_accuracy) for one in epochs])


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_a_run_beside_an_isolated_seed_is_bit_for_bit_the_run_without_it(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone = left_by(run(host, NeverGrow()))
    for culls, outcome in ((False, "unfinished"), (True, "culled")):
        beside = run(host, KeepsIsolated(culls))
        (graft,) = beside.report.grafts
        assert [entry.stage for entry in graft.stages][:2] == ["GERMINATED", "TRAINING"]
        assert graft.outcome == outcome
        found = left_by(beside)
        assert alone.host.keys() == found.host.keys()
        assert all(torch.equal(tensor, found.host[name]) for name, tensor in alone.host.items())
        assert found.numbers == alone.numbers
