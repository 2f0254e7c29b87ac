"""A kernel that is ready changes where a module comes from, and nothing about the module."""

import pytest
import torch
from torch import nn

from contracts.growth import Candidate
from contracts.kernels import Certificate, KernelSpec, Strategy
from contracts.lifecycle import SeedOperation, Stage
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.draw import draw_of, stream_of
from esper.kasmina.plan import Insert, Verdict
from esper.kasmina.stock import Stock
from esper.urza.kernel import Kernel
from esper.urza.names import ArtifactRef
from tests.esper.kasmina.engine_world import Rig

CANDIDATE = Candidate("a", "BP003", {"width": 2.0})
REF = ArtifactRef("0" * 64 + ".kernel", "0" * 64, 1)


def kernel(spec: KernelSpec) -> Kernel:
    design = spec.design
    module = CATALOGUE.get(design.blueprint_id).build(design.site, design.parameters, stream_of(spec.draw))
    return Kernel(module, Certificate(Strategy.STANDARD, "", {}, params=1, forward_flops=1), REF)


def stocked() -> tuple[Rig, Stock, KernelSpec]:
    """An engine whose stock holds what germinating the candidate takes."""
    stock = Stock()
    rig = Rig(stock=stock)
    spec = rig.engine.kernel_for(CANDIDATE)
    assert spec is not None
    stock.put(spec, kernel(spec))
    return rig, stock, spec


def inserted(verdict: Verdict) -> Insert:
    assert verdict.applied, verdict.refusal
    (change,) = (one for one in verdict.plan.changes if isinstance(one, Insert))
    return change


def bits(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


def test_a_ready_kernel_is_grafted_and_named_in_the_record() -> None:
    rig, stock, spec = stocked()
    change = inserted(rig.propose(rig.germinate()))
    assert change.record.kernel == REF.ref
    assert not stock.holds(spec)
    assert (stock.facts().used, stock.facts().built) == (1, 0)


def test_what_is_not_ready_is_built_on_the_spot_with_the_same_bits() -> None:
    rig, _, _ = stocked()
    plain = Rig(stock=Stock())
    built = inserted(plain.propose(plain.germinate()))
    fetched = inserted(rig.propose(rig.germinate()))
    assert built.record.kernel == ""
    assert any(tensor.any() for tensor in built.module.state_dict().values())
    assert bits(built.module) == bits(fetched.module)


def test_a_kernel_is_taken_once() -> None:
    rig, stock, spec = stocked()
    assert stock.take(spec) is not None
    assert stock.take(spec) is None
    assert inserted(rig.propose(rig.germinate())).record.kernel == ""


def test_a_kernel_of_other_settings_is_not_taken() -> None:
    rig, stock, spec = stocked()
    change = inserted(rig.propose(rig.germinate(width=3.0)))
    assert change.record.kernel == ""
    assert stock.holds(spec)


def test_the_forecast_names_the_kernel_of_the_next_seed_at_the_site() -> None:
    rig, _, first = stocked()
    rig.do(rig.germinate())
    growing = rig.engine.kernel_for(CANDIDATE)
    rig.do(rig.command(SeedOperation.CULL))
    assert rig.record().stage is not Stage.DORMANT
    resting = rig.engine.kernel_for(CANDIDATE)
    assert growing is not None
    assert growing == resting
    assert (first.draw, growing.draw) == (draw_of(0, "a#0"), draw_of(0, "a#1"))
    assert first.design == growing.design


def test_there_is_no_kernel_for_a_site_that_there_is_not() -> None:
    assert Rig().engine.kernel_for(Candidate("nowhere", "BP003", {"width": 2.0})) is None


def test_what_could_not_be_compiled_is_refused_with_the_reason_and_the_others_are_not() -> None:
    rig, stock, _ = stocked()
    stock.leave_out("BP003", "it did not end within 60 s")
    stock.leave_out("BP003", "a later reason")
    before = rig.engine.records()
    verdict = rig.propose(rig.germinate())
    assert not verdict.applied
    assert "BP003 (gated linear unit) is left out: it did not end within 60 s" in verdict.refusal
    assert rig.engine.records() == before
    assert inserted(rig.propose(rig.germinate(blueprint_id="BP001"))).record.blueprint_id == "BP001"


@pytest.mark.parametrize(("seed", "seed_id"), [(1, "a#0"), (0, "a#1"), (0, "b#0")])
def test_every_run_and_every_seed_draws_from_a_stream_of_its_own(seed: int, seed_id: str) -> None:
    draw = draw_of(seed, seed_id)
    assert 0 <= draw < 2**63
    assert draw != draw_of(0, "a#0")
    assert draw == draw_of(seed, seed_id)
    assert torch.equal(torch.randn(3, generator=stream_of(draw)), torch.randn(3, generator=stream_of(draw)))


def test_that_native_code_computes_something_else_is_new_once_in_all_processes_of_a_run() -> None:
    stock = Stock()
    assert stock.found_miscompiled("BP032", "its gradients differ")
    assert not stock.found_miscompiled("BP032", "its outputs differ")
    assert stock.facts().miscompiled == {"BP032": "its gradients differ"}
    later = Stock()
    later.recall(stock.facts())
    assert not later.found_miscompiled("BP032", "its gradients differ")
    assert later.facts() == stock.facts()
