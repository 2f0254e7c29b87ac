"""A whole run with the blueprint pipeline: a real store, a real compiler in its own process, a real host."""

import threading
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from actors.tezzeret.failures import Closed
from actors.tezzeret.sandbox import Answer, Sandbox
from contracts.config import BudgetConfig, Config, GrowthConfig, KernelConfig, RunConfig
from contracts.growth import Candidate, GrowthView, Layout, ProbePlan, SiteInfo
from contracts.kernels import KernelSpec, Strategy, design_of
from contracts.messages import SystemState
from esper.assembly import assemble_parts
from esper.karn.blueprints.bottleneck import Bottleneck
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.source import gathered
from esper.kasmina.draw import draw_of
from esper.session import Grown, Job, play
from esper.tamiyo.action import Action, Germinate, Wait
from esper.tamiyo.passage import due
from esper.tezzeret.forge import forge
from esper.urza.library import Library
from esper.workloads.registry import find_workload
from tests.esper.karn.own import imports_forgotten, write_places
from tests.esper.listening import PATIENCE_S, Signal, grown_circle

pytestmark = [pytest.mark.real, pytest.mark.kernels]
PATH = GrowthConfig().path
EPOCHS = 40
SITE = SiteInfo("1", Layout.VECTOR, (3,), 3, 0)
CANDIDATE = Candidate("1", "BP008", {"width": 2.0}, CATALOGUE.get("BP008").params(SITE, {"width": 2.0}))
SPEC = KernelSpec(design_of(SITE, "BP008", {"width": 2.0}), draw_of(0, "1#0"))
"""What germinating it first takes, in a run with seed 0."""


class Patient:
    """Germinates one seed: at an epoch, or once something was heard."""

    name = version = "patient"
    reads_validation = False

    def __init__(
        self, signal: Signal, beginning: str = "", epoch: int = -1, candidate: Candidate = CANDIDATE
    ) -> None:
        self._signal = signal
        self._candidate = candidate
        self._beginning = beginning
        self._epoch = epoch
        self._asked = False
        self.germinated_at = 0
        self.foreseen_at: list[int] = []

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return None

    def likely(self, view: GrowthView) -> tuple[Candidate, ...]:
        self.foreseen_at.append(view.epoch)
        return () if self.germinated_at else (self._candidate,)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Training waits with the policy, from its first decision on, and no epoch is spent on it."""
        if self._asked:
            self._signal.wait_for(self._beginning)
        return F.cross_entropy(outputs, targets)

    def act(self, state: SystemState, view: GrowthView) -> Action:
        self._asked = True
        step = due(view)
        if step is not None:
            return step
        heard = bool(self._beginning) and self._signal.heard(self._beginning)
        if self.germinated_at or not (heard or view.epoch == self._epoch):
            return Wait("not yet")
        self.germinated_at = view.epoch
        return Germinate(self._candidate, PATH, "its time has come")


def run(
    policy: Patient, store: Path, signal: Signal, *settings: str, catalogue: Catalogue = CATALOGUE
) -> Grown:
    """The run's folder lies beside the store."""
    places = (f"kernels.store={store}", f"run.out={store.parent / 'runs'}")
    return grown_circle(policy, signal, EPOCHS, *places, *settings, catalogue=catalogue)


def weights(grown: Grown) -> dict[str, Tensor]:
    return dict(grown.model.state_dict())


def stocked(
    store: Path, spec: KernelSpec = SPEC, catalogue: Catalogue = CATALOGUE, objects: str | None = None
) -> None:
    """A store that has the kernel."""
    made = forge(spec, Strategy.FAST, catalogue)
    with Library(store, catalogue=catalogue, objects=objects) as library:
        library.publish(spec, made.certificate, made.weights)


def test_a_run_grafts_from_the_store_and_its_numbers_are_those_of_a_run_without_one(tmp_path: Path) -> None:
    store, signal = tmp_path / "kernels", Signal()
    stocked(store)
    policy = Patient(signal, "kernels: all 1")
    fetched = run(policy, store, signal)
    assert policy.germinated_at, (fetched.report.ended, signal.events)
    (graft,) = fetched.report.grafts
    with Library(store) as library:
        there = library.find(SPEC)
    assert there is not None
    assert graft.kernel == there.ref
    assert (fetched.report.kernels.used, fetched.report.kernels.built) == (1, 0)
    assert policy.foreseen_at[0] == 0, "kernels are looked for from the beginning on"

    again = Patient(signal, epoch=policy.germinated_at)
    built = run(again, store, signal, "kernels.prefetch=false")
    (graft,) = built.report.grafts
    assert graft.kernel == ""
    assert (built.report.kernels.used, built.report.kernels.built) == (0, 1)
    assert {name: one.shape for name, one in weights(built).items()} == {
        name: one.shape for name, one in weights(fetched).items()
    }
    assert all(torch.equal(one, weights(fetched)[name]) for name, one in weights(built).items())


def test_a_store_that_can_not_be_used_is_said_and_the_run_grows_all_the_same(tmp_path: Path) -> None:
    store, signal = tmp_path / "kernels", Signal()
    store.write_text("a file where a folder should be")
    policy = Patient(signal, "the kernel store can't be used")
    grown = run(policy, store, signal)
    assert policy.germinated_at, (grown.report.ended, signal.events)
    (graft,) = grown.report.grafts
    assert graft.kernel == ""
    names = [alert.name for alert in grown.report.alerts]
    assert (names.count("no_kernel_store"), names.count("no_compiler")) == (1, 0)
    assert store.read_text() == "a file where a folder should be"


def test_that_nothing_can_be_compiled_is_said_once_and_the_run_grows_all_the_same(tmp_path: Path) -> None:
    store, signal = tmp_path / "kernels", Signal()
    store.mkdir()
    (store / "scratch").write_text("a file where a folder should be")
    policy = Patient(signal, "no kernels can be compiled")
    grown = run(policy, store, signal)
    assert policy.germinated_at, (grown.report.ended, signal.events)
    (graft,) = grown.report.grafts
    assert graft.kernel == ""
    (alert,) = (one for one in grown.report.alerts if one.name == "no_compiler")
    assert f"({store / 'scratch'}: " in alert.text
    assert not [one for one in grown.report.alerts if one.name == "no_kernel_store"]


def test_a_run_trains_grows_and_ends_beside_a_compiler_that_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, killed = threading.Event(), threading.Event()
    kill = Sandbox.kill

    def never(self: Sandbox, header: bytes, body: bytes = b"", **named: object) -> Answer:
        asked.set()
        killed.wait()
        raise Closed("it was killed before it answered")

    def killing(self: Sandbox) -> None:
        killed.set()
        kill(self)

    class FromThenOn(Patient):
        """Training waits behind its first epoch until the compiler was asked, and then for nobody."""

        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            assert not self._asked or asked.wait(PATIENCE_S)
            assert not killed.is_set()
            return F.cross_entropy(outputs, targets)

    monkeypatch.setattr(Sandbox, "call", never)
    monkeypatch.setattr(Sandbox, "kill", killing)
    signal = Signal()
    policy = FromThenOn(signal, epoch=2)
    grown = run(policy, tmp_path / "kernels", signal)
    assert grown.report.ended.kind == "finished"
    assert len(grown.report.epochs) == EPOCHS
    assert (grown.report.kernels.used, grown.report.kernels.built) == (0, 1)
    assert not grown.report.kernels.left_out
    with Library(tmp_path / "kernels") as library:
        assert library.wanted() == (SPEC,), "the next run takes it up"


def test_a_run_grafts_from_a_store_whose_kernels_lie_on_another_file_system(tmp_path: Path) -> None:
    store, signal, objects = tmp_path / "kernels", Signal(), f"memory://{tmp_path.name}"
    stocked(store, objects=objects)
    policy = Patient(signal, "kernels: all 1")
    grown = run(policy, store, signal, f"kernels.objects={objects}")
    with Library(store, objects=objects) as library:
        there = library.find(SPEC)
    assert there is not None
    assert [graft.kernel for graft in grown.report.grafts] == [there.ref]
    assert (grown.report.kernels.used, grown.report.kernels.built) == (1, 0)
    assert not list(store.rglob(there.ref)), "it is nowhere else"


@pytest.mark.parametrize("scheme", ["", "memory://"])
@pytest.mark.slow
def test_what_is_not_in_the_store_is_compiled_while_the_run_trains(tmp_path: Path, scheme: str) -> None:
    store, signal = tmp_path / "kernels", Signal()
    objects = scheme and f"{scheme}{tmp_path.name}"
    policy = Patient(signal, "kernels: all 1")
    grown = run(policy, store, signal, f"kernels.objects={objects}")
    assert policy.germinated_at, (grown.report.ended, signal.events)
    (graft,) = grown.report.grafts
    assert graft.kernel
    assert bool(list(store.rglob(graft.kernel))) == (not objects)
    with Library(store, objects=objects or None) as library:
        assert library.find(SPEC) is not None
        certificate = library.certificate(SPEC.design)
    assert certificate is not None
    assert certificate.strategy is Strategy.STANDARD
    assert certificate.output_error is not None


def test_a_blueprint_of_ones_own_is_grafted_from_the_store(tmp_path: Path) -> None:
    store, signal = tmp_path / "kernels", Signal()
    with imports_forgotten():
        file = write_places(tmp_path, "own_in_a_run")
        own = Catalogue((*CATALOGUE, *gathered([str(file)])))
        spec = KernelSpec(design_of(SITE, "BP051", {}), draw_of(0, "1#0"))
        stocked(store, spec, own)
        policy = Patient(signal, "kernels: all 1", candidate=Candidate("1", "BP051", {}, 3))
        grown = run(policy, store, signal, f"growth.blueprints={file}")
        with Library(store, catalogue=own) as library:
            there = library.find(spec)
    assert policy.germinated_at, (grown.report.ended, signal.events)
    (graft,) = grown.report.grafts
    assert there is not None
    assert graft.kernel == there.ref
    assert not grown.report.kernels.built_here


class Unportable(Bottleneck):
    """Holds a value that its source does not say: no other process can make it."""

    descriptor = msgspec.structs.replace(Bottleneck.descriptor, blueprint_id="BP052")

    def __init__(self) -> None:
        self.held = 1


def test_a_blueprint_that_no_other_process_can_make_is_built_on_the_spot_and_that_is_said(
    tmp_path: Path,
) -> None:
    store, signal = tmp_path / "kernels", Signal()
    catalogue = Catalogue((*CATALOGUE, Unportable()))
    policy = Patient(signal, "BP052", candidate=Candidate("1", "BP052", {"width": 2.0}, 1))
    grown = run(policy, store, signal, catalogue=catalogue)
    assert policy.germinated_at, (grown.report.ended, signal.events)
    assert [(graft.blueprint_id, graft.kernel) for graft in grown.report.grafts] == [("BP052", "")]
    assert sum("is built on the spot, never compiled: it holds values" in text for text in signal.events) == 1
    assert list(grown.report.kernels.built_here) == ["BP052"]
    assert not grown.report.kernels.left_out


@pytest.mark.slow
def test_the_heuristic_grafts_nothing_but_kernels_once_the_store_has_them(tmp_path: Path) -> None:
    store, signal = tmp_path / "kernels", Signal()
    workload = find_workload("mnist1d")
    patient = BudgetConfig(epoch_boundary_ms=60_000, tamiyo_inference_ms=60_000)
    plain = Config(
        run=RunConfig(gflop=12.0, out=str(tmp_path / "runs")),
        kernels=KernelConfig(store=str(store), prefetch=False),
        budgets=patient,
    )
    built = play(Job(workload.complete(plain), workload.task(0), None), signal).report
    assert len(built.grafts) > 1
    assert built.kernels.built == len(built.grafts)
    engine = assemble_parts(workload.complete(plain), workload.task(0), "sites").engine
    with Library(store) as library:
        for graft in built.grafts:
            spec = engine.kernel_for(
                Candidate(graft.site, graft.blueprint_id, graft.parameters, graft.params)
            )
            assert spec is not None
            made = forge(spec, Strategy.FAST, CATALOGUE)
            library.publish(spec, made.certificate, made.weights)

    ahead = msgspec.structs.replace(plain, kernels=KernelConfig(store=str(store)))
    fetched = play(Job(workload.complete(ahead), workload.task(0), None), signal).report
    assert fetched.kernels.used == len(fetched.grafts) == len(built.grafts)
    assert all(graft.kernel for graft in fetched.grafts)
    assert [one.val_loss for one in fetched.epochs] == [one.val_loss for one in built.epochs]
    assert fetched.final == built.final
