"""A blueprint that begins to leak long after its trial costs its seed, and not the run its growth."""

import gc
from pathlib import Path

import pytest
from msgspec.structs import replace as changed
from torch import Tensor
from torch.nn import functional as F

from actors import vitals
from contracts.blueprint import BlueprintTier
from contracts.growth import Candidate, GrowthView
from contracts.growth import Path as Stay
from contracts.messages import SystemState
from esper.karn.blueprints import memory_leak
from esper.karn.blueprints.memory_leak import LeakingModule, MemoryLeak
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.tamiyo.action import Action, Germinate, Wait
from esper.tamiyo.baselines import NeverGrow
from esper.tamiyo.passage import due
from esper.tolaria.vitals import MB
from tests.esper.listening import Signal, grown_circle

pytestmark = pytest.mark.real
EPOCHS = 240
SPARE_MB = 160
"""What the process may have beside what it has when the run begins."""
SHORT = "conservative: the process has"
STAYS = Stay(training_epochs=1_000)


class Leaky(MemoryLeak):
    """One that passes for harmless."""

    descriptor = changed(
        MemoryLeak.descriptor, blueprint_id="BP053", tier=BlueprintTier.SAFE, stage=1, quarantine_only=False
    )


class Grower(NeverGrow):
    """Germinates one seed and leaves it to learn; training waits for whoever looks at the memory, once there
    is too much of it."""

    name = version = "grower"

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._most = vitals.read_resident() + SPARE_MB * MB
        self.asked_at: list[int] = []

    @property
    def budget_mb(self) -> int:
        return self._most // MB

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if vitals.read_resident() > self._most and not self._signal.heard(SHORT):
            self._signal.wait_for(SHORT)
        return F.cross_entropy(outputs, targets)

    def act(self, state: SystemState, view: GrowthView) -> Action:
        self.asked_at.append(view.epoch)
        step = due(view)
        if step is not None:
            return step
        if view.epoch > 1:
            return Wait()
        return Germinate(Candidate("1", "BP053", {"width": 2.0, "onset": 30.0}, 17), STAYS)


def test_a_seed_that_leaks_after_its_trial_is_taken_out_and_growth_goes_on_as_usual(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory_leak, "LEAK_BYTES", 4 * MB)
    monkeypatch.setattr(vitals, "LOOK_EVERY_S", 0.01)
    signal = Signal()
    policy = Grower(signal)
    grown = grown_circle(
        policy, signal, EPOCHS, "kernels.prefetch=false", "emergency.calm_epochs=2", f"run.out={tmp_path}",
        f"emergency.memory_mb={policy.budget_mb}", "emergency.memory_hard_ratio=50",
        catalogue=Catalogue((*CATALOGUE, Leaky())),
    )  # fmt: skip
    (graft,) = grown.report.grafts
    culled_at = next(stage.epoch for stage in graft.stages if stage.stage == "CULLED")
    assert graft.outcome == "culled"
    assert "more memory than its budget" in graft.reason
    assert [alert.name for alert in grown.report.alerts].count("memory") == 1, "told once"
    assert grown.report.ended.kind == "finished"
    assert len(grown.report.epochs) == EPOCHS
    assert signal.heard("all is well again")
    assert policy.asked_at[-1] > culled_at + 1, "the run's own policy decides again"
    assert not [one for one in gc.get_objects() if isinstance(one, LeakingModule)], (
        "nothing holds it any more"
    )
