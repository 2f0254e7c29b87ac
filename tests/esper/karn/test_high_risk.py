"""The dangerous blueprints: harmless until their onset, really dangerous then, nobody's outside a drill."""

import copy
import gc
import pickle
import threading
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from contracts.blueprint import BlueprintTier
from contracts.config import GrowthConfig
from contracts.growth import Candidate, Contender, Layout, Path, ProbePlan, ProbeRound, SiteInfo
from contracts.kernels import KernelSpec, design_of
from contracts.lifecycle import SeedOperation
from esper.export import DamagedModel, GrownModel, GrownSeed, regrow
from esper.karn.blueprint import BlueprintError
from esper.karn.blueprints import deadlock, endless_loop, memory_leak
from esper.karn.blueprints.hazard import Hazard
from esper.karn.catalogue import CATALOGUE
from esper.karn.permission import DrillPermission
from esper.karn.query import Query
from esper.kasmina.engine import Engine
from esper.kasmina.plan import Verdict
from esper.tezzeret.forge import build as forged
from esper.tolaria.entries import build_entries
from esper.tolaria.errors import PlanRefused
from esper.urza.opening import build as opened
from tests.esper.karn.pairs import SITES
from tests.esper.kasmina.engine_world import SITES as ENGINE_SITES
from tests.esper.kasmina.engine_world import Rig

SITE = SITES[Layout.SEQUENCE]
IDS = [f"BP{number:03}" for number in range(43, 51)]
DRILL_PATH = {
    "training_epochs": 2.0,
    "blending_epochs": 1.0,
    "shadowing_epochs": 1.0,
    "probation_epochs": 1.0,
}


def hazard(blueprint_id: str, onset: int = 0, site: SiteInfo = SITE) -> Hazard:
    """A module in training mode whose last layer is not zero any more."""
    generator = torch.Generator().manual_seed(1)
    module = CATALOGUE.get(blueprint_id).build(
        site, {"width": 3.0, "onset": float(onset)}, generator, DrillPermission()
    )
    assert isinstance(module, Hazard)
    with torch.no_grad():
        for parameter in module.back.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    return module


def batch(site: SiteInfo = SITE) -> Tensor:
    return torch.randn(3, *site.shape, generator=torch.Generator().manual_seed(2))


def gradients(module: Hazard, h: Tensor) -> tuple[Tensor, Tensor]:
    """Of the last layer's weight, and of h, for the residual h + f(h)."""
    h = h.clone().requires_grad_()
    own, through = torch.autograd.grad((h + module(h)).sum(), (module.back.weight, h))
    return own, through


@pytest.mark.parametrize("blueprint_id", IDS)
def test_it_says_what_it_is(blueprint_id: str) -> None:
    about = CATALOGUE.get(blueprint_id).descriptor
    assert (about.tier, about.quarantine_only, about.stage) == (BlueprintTier.HIGH_RISK, True, 5)
    assert about.risk >= 0.9
    assert about.allowed_parameters["onset"].min_value == 0


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("blueprint_id", IDS)
def test_before_its_onset_it_is_the_same_bottleneck_as_its_fellows_and_can_be_copied(
    blueprint_id: str, layout: Layout
) -> None:
    site, h = SITES[layout], batch(SITES[layout])
    module, fellow = (hazard(one, onset=2, site=site) for one in (blueprint_id, "BP043"))
    threads = threading.active_count()
    for _ in range(2):
        assert torch.equal(module(h), fellow(h))
    twin = pickle.loads(pickle.dumps(copy.deepcopy(module.eval())))
    assert torch.equal(twin(h), fellow.eval()(h))
    assert (module.passes, twin.passes, module.awake) == (2, 2, False)
    assert threading.active_count() == threads


def test_passes_in_eval_mode_bring_no_onset_nearer() -> None:
    module = hazard("BP045", onset=1).eval()
    for _ in range(3):
        assert module(batch()).isfinite().all()
    module.train()
    assert module(batch()).isfinite().all()
    assert module(batch()).isnan().all()
    assert module.eval()(batch()).isnan().all()


def test_the_exploding_gradient_grows_with_every_pass_and_its_output_is_sound() -> None:
    module, sound, h = hazard("BP043"), hazard("BP043", onset=100), batch()
    expected, _ = gradients(sound, h)
    for factor in (4.0, 16.0, 64.0):
        assert torch.equal(module.eval()(h), sound.eval()(h))
        own, through = gradients(module.train(), h)
        torch.testing.assert_close(own, expected * factor)
        assert through.abs().max() > factor / 100


def test_the_vanishing_gradient_takes_the_host_s_with_it() -> None:
    module, h = hazard("BP044"), batch()
    own, through = gradients(module, h)
    assert own.abs().max() < 1e-15
    assert through.abs().max() < 1e-15
    assert torch.equal(module.eval()(h), hazard("BP044", onset=9).eval()(h))


def test_the_endless_loop_goes_on_until_something_outside_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    rounds = iter(range(1000))

    def tanh(value: Tensor) -> Tensor:
        if next(rounds, None) is None:
            raise Enough
        return value.tanh()

    module = hazard("BP046")
    monkeypatch.setattr(endless_loop.torch, "tanh", tanh)
    with pytest.raises(Enough):
        module(batch())


def test_the_leak_keeps_a_block_with_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_leak, "LEAK_BYTES", 1000)
    module, h = hazard("BP047", onset=1), batch()
    sound = module.eval()(h)
    for _ in range(4):
        assert torch.equal(module.train()(h), sound)
    assert [kept.numel() for kept in module.__dict__["kept"]] == [1000] * 3


def test_the_deadlock_waits_for_a_lock_that_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    class Waits(Exception):
        pass

    class Lock:
        held = False

        def __enter__(self) -> None:
            if self.held:
                raise Waits
            self.held = True

        def __exit__(self, *_: object) -> None:
            self.held = False

    module = hazard("BP048")
    monkeypatch.setattr(deadlock.threading, "Lock", Lock)
    with pytest.raises(Waits):
        module(batch())


def test_the_race_changes_its_results_writes_into_its_input_and_ends_with_the_module() -> None:
    module, h = hazard("BP049"), batch()
    version, before = h._version, h.clone()
    first = module(h)
    assert not torch.equal(h, before)
    assert h._version == version
    assert not torch.equal(module(before.clone()), first)
    racers = [thread for thread in threading.enumerate() if thread.name == "racer"]
    assert racers
    del module
    gc.collect()
    for racer in racers:
        racer.join(10.0)
    assert not any(racer.is_alive() for racer in racers)


def test_adversarial_noise_raises_the_loss_that_it_has_seen_the_gradient_of() -> None:
    noisy, sound, h = hazard("BP050"), hazard("BP050", onset=99), batch()
    wanted = torch.ones_like(h)

    def loss(module: nn.Module) -> Tensor:
        return (h + module(h) - wanted).square().mean()

    loss(noisy).backward()  # type: ignore[no-untyped-call]
    assert loss(noisy.eval()) > 1.5 * loss(sound.eval())


def asked(rig: Rig, blueprint_id: str = "BP045", **annotations: str) -> Verdict:
    settings = {"width": 2.0, "onset": 0.0, **DRILL_PATH}
    return rig.do(rig.command(SeedOperation.GERMINATE, "", blueprint_id, settings, site="a", **annotations))


def permitted(rig: Rig, *blueprint_ids: str) -> Rig:
    """The rig with an engine that has drill permission for what has passed a trial."""
    permission = DrillPermission()
    for blueprint_id in blueprint_ids:
        permission.admit(design_of(ENGINE_SITES[0], blueprint_id, {"width": 2.0, "onset": 0.0}))
    rig.engine = Engine(ENGINE_SITES, rig.config, CATALOGUE, seed=0, permission=permission)
    return rig


FORGED: list[dict[str, str]] = [
    {},
    {"approved": "true"},
    {"drill": "true"},
    {"drill": "true", "approved": "true", "operator": "root", "quarantine": "passed"},
]


@pytest.mark.parametrize("annotations", FORGED, ids=lambda one: "+".join(one) or "nothing")
@pytest.mark.parametrize("blueprint_id", IDS)
def test_no_command_germinates_it_in_a_run_without_permission(
    blueprint_id: str, annotations: dict[str, str]
) -> None:
    config = GrowthConfig(max_stage=9, approved=tuple(IDS))
    rig = Rig(config=config)
    before = rig.engine.records()
    verdict = asked(rig, blueprint_id, **annotations)
    assert not verdict.applied
    assert "it is never germinated outside of a drill" in verdict.refusal
    assert verdict.plan.changes == ()
    assert rig.engine.records() == before


@pytest.mark.parametrize("annotations", FORGED[:2], ids=lambda one: "+".join(one) or "nothing")
def test_permission_alone_germinates_nothing(annotations: dict[str, str]) -> None:
    rig = permitted(Rig(), "BP045")
    verdict = asked(rig, **annotations)
    assert not verdict.applied
    assert verdict.plan.changes == ()


def test_with_permission_it_still_has_to_have_passed_exactly_this_trial() -> None:
    rig = permitted(Rig(), "BP044")
    assert "has not passed its trial" in asked(rig, "BP045", drill="true").refusal
    assert asked(rig, "BP044", drill="true").applied
    record = rig.record()
    assert (record.blueprint_id, record.drill) == ("BP044", True)


def test_a_drill_takes_the_isolated_path_only() -> None:
    rig = permitted(Rig(), "BP044")
    for stage, least in (("training", 2.0), ("blending", 1.0), ("shadowing", 1.0), ("probation", 1.0)):
        settings = {"width": 2.0, "onset": 0.0, **DRILL_PATH, f"{stage}_epochs": least - 1.0}
        command = rig.command(SeedOperation.GERMINATE, "", "BP044", settings, site="a", drill="true")
        verdict = rig.do(command)
        assert not verdict.applied
        assert "isolated path" in verdict.refusal
        assert verdict.plan.changes == ()


def test_a_harmless_blueprint_that_says_drill_is_refused_without_permission_too() -> None:
    rig = Rig()
    verdict = rig.do(rig.germinate(drill="true"))
    assert "no drill permission" in verdict.refusal
    assert verdict.plan.changes == ()


QUERIES: list[dict[str, Any]] = [
    {},
    {"tiers": frozenset({BlueprintTier.HIGH_RISK})},
    {"approved": frozenset(IDS)},
    {"tags": ("hazard",)},
    {"max_stage": 9, "max_risk": 1.0},
    {"conservative": True, "drill": DrillPermission()},
]


@pytest.mark.parametrize("asked_for", QUERIES, ids=lambda one: "+".join(one) or "nothing")
def test_no_query_answers_with_it_but_a_drill_s(asked_for: dict[str, Any]) -> None:
    found = CATALOGUE.query(Query(layout=Layout.SEQUENCE, **asked_for))
    assert [one.blueprint_id for one in found if one.blueprint_id in IDS] == []
    drilled = CATALOGUE.query(Query(layout=Layout.SEQUENCE, drill=DrillPermission()))
    assert [one.blueprint_id for one in drilled if one.blueprint_id in IDS] != []


def test_a_probe_that_names_it_is_refused_before_anything_is_built() -> None:
    candidate = Candidate(SITE.name, "BP046", {"width": 2.0, "onset": 0.0})
    plan = ProbePlan("p", (Contender((candidate,)),), (ProbeRound(1, 1),))
    with pytest.raises(PlanRefused, match=r"BP046 \(endless loop\) is grown in drills alone"):
        build_entries(plan, {SITE.name: SITE}, CATALOGUE.build, lambda _: torch.Generator())
    with pytest.raises(BlueprintError):
        CATALOGUE.build(SITE, candidate, torch.Generator())


@pytest.mark.parametrize("blueprint_id", IDS)
def test_who_has_no_permission_builds_none_whatever_way(blueprint_id: str) -> None:
    settings = {"width": 2.0, "onset": 0.0}
    stream = torch.Generator().manual_seed(0)
    state = stream.get_state()
    with pytest.raises(BlueprintError, match=f"{blueprint_id} .* is grown in drills alone"):
        CATALOGUE.get(blueprint_id).build(SITE, settings, stream)
    spec = KernelSpec(design_of(SITE, blueprint_id, settings), 0)
    with pytest.raises(BlueprintError, match="drills alone"):
        opened(spec, CATALOGUE)
    with pytest.raises(BlueprintError, match="drills alone"):
        forged(spec, CATALOGUE)
    assert torch.equal(stream.get_state(), state)


def test_a_path_in_the_configuration_lets_nobody_in() -> None:
    rig = Rig(config=replace(GrowthConfig(), path=Path(2, 1, 1, 1), max_stage=5, approved=("BP050",)))
    assert not asked(rig, "BP050", approved="true", drill="true").applied
    assert {record.blueprint_id for record in rig.engine.records()} == {""}


def test_a_saved_model_that_names_it_is_not_rebuilt() -> None:
    host = nn.Sequential(nn.Conv1d(4, 4, 1), nn.ReLU())
    site = SiteInfo("1", Layout.SEQUENCE, (4, 9), 4, 0)
    seed = GrownSeed("1#0", "1", "BP046", {"width": 2.0, "onset": 0.0}, 1.0)
    before = list(host.state_dict())
    with pytest.raises(DamagedModel, match="1#0 is of BP046, which is grown in drills alone"):
        regrow(host, GrownModel("mine", 0, (site,), (seed,), ""), CATALOGUE)
    assert list(host.state_dict()) == before
