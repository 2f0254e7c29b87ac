"""Claims about a run whose training thread stood still for good, and that is taken up again."""

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from actors.display import Silent
from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import Candidate, Contender, GrowthView, ProbePlan, ProbeRound, SiteInfo
from contracts.messages import SystemState
from contracts.view import EventKind
from esper import stall
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.session import Grown, grow
from esper.stall import Stalled
from esper.tamiyo.action import Action, Germinate, Wait
from esper.tamiyo.passage import due
from esper.tolaria.results import Suspect
from tests.esper.listening import PATIENT
from tests.esper.test_pipeline import PATH
from tests.esper.test_session import SMALL, circle
from tests.esper.tolaria.test_probe import asking, trained

STILL_S = 2.0
"""Seconds that what is to hang hangs."""
TEXT = "the training thread has stood still for 60.00 s"


class Valve:
    """Lets the module hang until it is opened."""

    def __init__(self) -> None:
        self.passes_max = 0
        self.passes = 0
        self.opened = threading.Event()

    def passed(self) -> None:
        self.passes += 1
        if self.passes > self.passes_max:
            self.opened.wait(60.0)

    def shut(self, passes_max: int) -> None:
        """Let so many pass, and then nobody."""
        self.passes, self.passes_max = 0, passes_max
        self.opened.clear()


VALVE = Valve()


class Stuck(nn.Module):
    """h times a weight for each place, until it never comes back."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Tensor) -> Tensor:
        VALVE.passed()
        return h * self.weight


class Hangs(Blueprint):
    descriptor = BlueprintDescriptor(
        "BP801", "hangs", BlueprintTier.SAFE, "Hangs after some steps.", risk=0.1, stage=1
    )
    layouts = EVERY_LAYOUT
    knob = None

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return Stuck(site.shape)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return site.shape[0]

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 0


class Stubborn:
    """Germinates what hangs whenever it may, and asks again at every boundary."""

    name = version = "stubborn"
    reads_validation = False

    def __init__(self) -> None:
        self.left_out: set[str] = set()

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        self.left_out |= view.left_out
        step = due(view)
        if step is not None:
            return step
        if view.epoch < 3 or view.active:
            return Wait("not yet")
        return Germinate(Candidate("1", "BP801", {}, 3), replace(PATH, training_epochs=30), "it wants to")

    def memory(self) -> bytes:
        return b""

    def take_over(self, memory: bytes) -> None:
        pass


class Racing(Stubborn):
    """Has what hangs raced at every boundary, and grows nothing."""

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        self.left_out |= view.left_out
        contender = Contender((Candidate("1", "BP801", {}, 3),))
        return ProbePlan(f"race-{view.epoch}", (contender,), (ProbeRound(5, 1),))

    def act(self, state: SystemState, view: GrowthView) -> Action:
        return Wait("it only races")


class Opener(Silent):
    """Opens the valve once the run is told to end, so that no thread of the test stays behind."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, text: str, kind: EventKind, epoch: int | None = None) -> None:
        self.events.append(text)
        if kind == "alert" and "stood still" in text:
            VALVE.opened.set()


def run(folder: Path, policy: Stubborn, resume: Path | None = None) -> Grown:
    """Only what is to hang is given up soon."""
    settings = (
        *SMALL,
        f"run.out={folder}",
        f"emergency.step_stall_s={STILL_S if resume is None else 200}",
        "checkpoint.every_s=0",
        "kernels.prefetch=false",
        "growth.shadow_every=1",
        "growth.path.training_epochs=30",
        *PATIENT,
    )
    return grow(
        circle(),
        sites=["1"],
        epochs=40,
        max_params=200,
        policy=policy,
        settings=settings,
        display=Opener(),
        catalogue=Catalogue((*CATALOGUE, Hangs())),
        resume=resume,
    )


@pytest.mark.real
@pytest.mark.parametrize("passes", [40, 6], ids=["in-the-checkpoint", "after-it"])
def test_what_hung_is_taken_out_when_the_run_is_taken_up_and_not_grown_again(
    tmp_path: Path, passes: int
) -> None:
    VALVE.shut(passes)
    halted = run(tmp_path, Stubborn())
    assert halted.report.ended.kind == "halted"
    assert "stood still" in halted.report.ended.reason
    stalled = stall.noted(halted.folder)
    assert stalled is not None
    assert stalled.suspects == (Suspect("BP801", "1#0"),)

    VALVE.shut(0)
    policy = Stubborn()
    finished = run(tmp_path, policy, halted.folder)
    assert finished.report.ended.kind == "finished"
    assert len(finished.report.epochs) == 40
    (resumed,) = finished.report.resumes
    (told,) = resumed.set_aside
    assert "stood still" in told
    assert told.endswith("its blueprint BP801 is not grown any more")
    assert [alert.text for alert in finished.report.alerts if alert.name == "seed_set_aside"] == [told]
    assert policy.left_out == {"BP801"}, "its policy is told"
    assert "stood still" in finished.report.kernels.left_out["BP801"]
    assert not any(graft.outcome in ("active", "fossilized") for graft in finished.report.grafts)
    assert len(finished.report.grafts) <= 1, "it was not germinated again"
    assert finished.model(torch.zeros(1, 2)).isfinite().all()
    assert VALVE.passes == 0, "it was never run again"


@pytest.mark.real
def test_what_hung_in_a_race_is_not_raced_again(tmp_path: Path) -> None:
    VALVE.shut(12)
    halted = run(tmp_path, Racing())
    assert "stood still" in halted.report.ended.reason
    stalled = stall.noted(halted.folder)
    assert stalled is not None
    assert stalled.suspects == (Suspect("BP801"),)

    VALVE.shut(0)
    policy = Racing()
    finished = run(tmp_path, policy, halted.folder)
    assert finished.report.ended.kind == "finished"
    (told,) = finished.report.resumes[0].set_aside
    assert told.endswith("BP801, which was raced then, is not grown any more")
    assert policy.left_out == {"BP801"}
    refused = [alert.text for alert in finished.report.alerts if alert.name == "probe_refused"]
    assert refused
    assert all("stood still" in text for text in refused)
    assert VALVE.passes == 0


def test_notes_of_stalls_add_up_until_they_are_followed(tmp_path: Path) -> None:
    assert stall.noted(tmp_path) is None
    stall.note(tmp_path, Stalled(TEXT, 3, (Suspect("BP001", "a#0"),)))
    stall.note(tmp_path, Stalled(TEXT, 5, (Suspect("BP002"), Suspect("BP001", "a#0"))))
    both = stall.noted(tmp_path)
    assert both == Stalled(TEXT, 5, (Suspect("BP001", "a#0"), Suspect("BP002")))
    assert set(both.reasons) == {"BP001", "BP002"}
    stall.forget(tmp_path)
    stall.forget(tmp_path)
    assert stall.noted(tmp_path) is None


def test_a_note_that_can_not_be_read_is_none(tmp_path: Path) -> None:
    for content in (b"", b"[]", b"\xff", b'{"text": 1}'):
        (tmp_path / stall.FILE).write_bytes(content)
        assert stall.noted(tmp_path) is None


def test_while_a_contender_is_raced_it_is_the_suspect() -> None:
    trainer, seen = trained(), []
    plan = asking(Candidate("one", "a", {"width": 2.0}))
    trainer.probe(plan, lambda done, total: seen.append(trainer.suspects))
    assert seen
    assert set(seen) == {(), (Suspect("a"),)}, "the control is nobody's"
    assert trainer.suspects == ()
