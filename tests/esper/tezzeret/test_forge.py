"""A forged kernel is what its specification says, and what is unsound about a blueprint is found out."""

import io
import math
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import msgspec
import pytest
import torch
from torch import Tensor, nn

from contracts.blueprint import BlueprintDescriptor, BlueprintTier
from contracts.growth import Layout, SiteInfo
from contracts.kernels import Design, KernelSpec, Strategy, design_of
from esper.karn.blueprint import Blueprint
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.karn.guard import guard_digest
from esper.tezzeret import examination, exporting, native
from esper.tezzeret.examination import BATCHES, Unsound
from esper.tezzeret.forge import Forged, build, draw, forge
from esper.urza import weights

VECTOR = SiteInfo("body", Layout.VECTOR, (6,), 6, 0)
IMAGE = SiteInfo("body", Layout.IMAGE, (4, 5, 3), 4, 0)


def spec(blueprint_id: str, site: SiteInfo, seed: int = 3, **parameters: float) -> KernelSpec:
    return KernelSpec(design_of(site, blueprint_id, parameters), seed)


LOW_RANK = spec("BP002", VECTOR, rank=2)


def ticking() -> Callable[[], float]:
    """A clock that advances a second each time it is read."""
    ticks: Iterator[int] = iter(range(1_000_000))
    return lambda: float(next(ticks))


@pytest.fixture(scope="module")
def standard() -> Forged:
    return forge(LOW_RANK, Strategy.STANDARD, CATALOGUE, clock=ticking())


# What comes out -------------------------------------------------------------------------------------


def test_the_weights_are_the_specifications_own_and_another_draws_are_others(standard: Forged) -> None:
    weights.load(build(LOW_RANK, CATALOGUE), memoryview(bytearray(standard.weights)))
    other = draw(msgspec.structs.replace(LOW_RANK, draw=4), standard.certificate, CATALOGUE)
    assert other.weights != standard.weights
    assert (other.certificate, other.program) == (standard.certificate, None)
    again = draw(LOW_RANK, standard.certificate, CATALOGUE)
    assert again.weights == standard.weights


def test_a_standard_certificate_holds_what_was_compared_counted_and_timed(standard: Forged) -> None:
    found = standard.certificate
    assert found.strategy is Strategy.STANDARD
    assert found.guard_digest == guard_digest(LOW_RANK.design)
    assert (found.params, found.forward_flops) == (24, 48)
    assert found.batches == BATCHES
    assert found.output_error is not None
    assert found.gradient_error is not None
    assert max(found.output_error, found.gradient_error) < 2e-5
    assert 0.0 < found.prewarm_p50_ms <= found.prewarm_p95_ms
    assert found.compile_ms == 1000.0
    assert found.native_speedup is None


def test_an_exported_program_is_the_new_module_at_any_batch_size() -> None:
    module = build(LOW_RANK, CATALOGUE)
    reopened = exporting.reopen(exporting.export(module, LOW_RANK.design.shape))
    for name, value in reopened.state_dict().items():
        assert torch.equal(value, module.state_dict()[name])
    for batch in (1, 2, 7, 33):
        assert torch.equal(reopened(torch.randn(batch, 6)), torch.zeros(batch, 6))


def test_what_was_exported_is_compared_and_not_kept(standard: Forged) -> None:
    assert standard.program is None


def test_fast_exports_and_compares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[bytes] = []
    export = exporting.export

    def noted(module: nn.Module, shape: tuple[int, ...]) -> bytes:
        exported.append(export(module, shape))
        return exported[-1]

    monkeypatch.setattr(exporting, "export", noted)
    forged = forge(LOW_RANK, Strategy.FAST, CATALOGUE)
    assert len(exported) == 1
    assert torch.export.load(io.BytesIO(exported[0])) is not None
    assert forged.program is None
    found = forged.certificate
    assert (found.strategy, found.batches, found.output_error) == (Strategy.FAST, (), None)
    assert (found.params, found.forward_flops) == (24, 48), "the blueprint's own figures"


def test_a_native_result_that_is_wrong_is_not_kept_and_the_certificate_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def miscompiled(module: nn.Module, design: Design) -> None:
        h = examination.inputs(2, design.shape)
        right = examination.run(module, h)
        wrong = {name: 0.81 * gradient for name, gradient in right.gradients.items()}
        examination.check_same(module, right._replace(gradients=wrong), h)

    monkeypatch.setattr(native, "compiled", miscompiled)
    forged = forge(LOW_RANK, Strategy.AGGRESSIVE, CATALOGUE)
    assert forged.program is None
    found = forged.certificate
    assert found.miscompiled.startswith("compiled natively its gradients differ by 0.19;")
    assert (found.native_speedup, found.strategy) == (None, Strategy.AGGRESSIVE)
    assert found.batches == BATCHES, "the plain module's own checks hold"
    monkeypatch.setattr(native, "compiled", lambda module, design: None)
    assert forge(LOW_RANK, Strategy.AGGRESSIVE, CATALOGUE).certificate.miscompiled == ""


def test_in_an_emergency_nothing_is_done_and_it_is_marked() -> None:
    forged = forge(LOW_RANK, Strategy.EMERGENCY, CATALOGUE)
    assert forged.program is None
    assert forged.certificate.strategy is Strategy.EMERGENCY
    assert forged.certificate.compile_ms == 0.0
    weights.load(build(LOW_RANK, CATALOGUE), memoryview(bytearray(forged.weights)))


def test_forging_leaves_the_global_random_stream_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    forge(spec("BP004", IMAGE, width=2), Strategy.STANDARD, CATALOGUE)
    assert torch.equal(before, torch.get_rng_state())


# What is found out ----------------------------------------------------------------------------------


class Odd(nn.Module):
    """g · h with g = 0 at the start; each subclass does one thing wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(6))
        self.calls = 0

    def forward(self, h: Tensor) -> Tensor:
        return self.gain * h


class Offset(Odd):
    def forward(self, h: Tensor) -> Tensor:
        return self.gain * h + 1e-3


class Draws(Odd):
    def forward(self, h: Tensor) -> Tensor:
        return self.gain * (h + torch.rand(h.shape))


class Drifts(Odd):
    def forward(self, h: Tensor) -> Tensor:
        self.calls += 1
        return self.gain * h * self.calls


class Diverges(Odd):
    def forward(self, h: Tensor) -> Tensor:
        return self.gain * h * torch.exp(1e4 * self.gain.abs().sum())


class Deaf(Odd):
    def forward(self, h: Tensor) -> Tensor:
        return self.gain * h * 0.0


class Cuts(Odd):
    def forward(self, h: Tensor) -> Tensor:
        return (self.gain * h)[..., :3]


class Larger(Odd):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(1))

    def forward(self, h: Tensor) -> Tensor:
        return self.gain * h + self.spare


class Costly(Odd):
    def forward(self, h: Tensor) -> Tensor:
        return (self.gain * h) @ torch.eye(6)


class OddBlueprint(Blueprint):
    descriptor = BlueprintDescriptor("BP900", "odd", BlueprintTier.SAFE, "For tests.")
    layouts = frozenset({Layout.VECTOR})
    knob = None
    module: ClassVar[type[Odd]] = Odd

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return self.module()

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 6

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 0


def forged(module: type[Odd], strategy: Strategy) -> Forged:
    blueprint = type("Made", (OddBlueprint,), {"module": module, "__module__": __name__})()
    return forge(spec("BP900", VECTOR), strategy, Catalogue([blueprint]))


def test_a_sound_module_passes_every_check() -> None:
    assert forged(Odd, Strategy.STANDARD).certificate.output_error == 0.0


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Offset, "at the start is not 0 but up to 0.001"),
        (Draws, "global random stream"),
        (Drifts, "another result the second time"),
        (Diverges, "not finite"),
        (Deaf, "stays 0"),
        (Cuts, r"takes \(3, 6\) and gives \(3, 3\)"),
        (Larger, "has 7 parameters; its formula says 6"),
        (Costly, "takes 72 FLOPs; its formula says 0"),
    ],
)
def test_what_is_wrong_with_a_blueprint_is_found_and_named(module: type[Odd], why: str) -> None:
    with pytest.raises(Unsound, match=why):
        forged(module, Strategy.STANDARD)


# The comparison -------------------------------------------------------------------------------------


class Forward(Odd):
    def __init__(self, wrong: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, h: Tensor) -> Tensor:
        return self.wrong(self.gain, h)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda gain, h: gain * h * 1.0001, "outputs differ by 0.0001"),
        (lambda gain, h: gain * h.detach(), "gradients differ by 1"),
        (lambda gain, h: gain.detach() * h, "gradients differ by 1"),
        (lambda gain, h: gain * h * (1.0 if h.shape[0] < 8 else 1.1), "outputs differ by 0.1"),
        (lambda gain, h: gain * h / (h.shape[0] - 1), "outputs differ by"),
        (lambda gain, h: gain * h.view(-1)[: h.shape[0]].view(2, -1), "does not take a batch of 1"),
    ],
)
def test_a_program_that_computes_something_else_is_told_apart(
    wrong: Callable[[Tensor, Tensor], Tensor], why: str
) -> None:
    trained = examination.seasoned(Odd())
    with pytest.raises(Unsound, match=why):
        examination.compare(trained, Forward(wrong), LOW_RANK.design)


def test_a_program_that_computes_the_same_in_another_order_passes() -> None:
    trained = examination.seasoned(Odd())
    same = Forward(lambda gain, h: (gain * 3.0) * (h / 3.0))
    output_error, gradient_error = examination.compare(trained, same, LOW_RANK.design)
    assert 0.0 < max(output_error, gradient_error) < 1e-6


def test_new_modules_would_compare_equal_whatever_they_compute_so_trained_ones_are_compared() -> None:
    wrong = Forward(lambda gain, h: gain * h * 5.0)
    assert torch.equal(Odd()(torch.ones(2, 6)), wrong(torch.ones(2, 6)))
    with pytest.raises(Unsound):
        examination.compare(examination.seasoned(Odd()), wrong, LOW_RANK.design)


def test_a_difference_in_a_tensor_of_rounding_noise_is_judged_by_the_others_size() -> None:
    one = {"a": torch.tensor([1.0]), "noise": torch.tensor([1e-9])}
    other = {"a": torch.tensor([1.0]), "noise": torch.tensor([-1e-9])}
    assert examination.difference(one, other) == pytest.approx(2e-7)
    assert examination.difference({"a": torch.tensor([2.0])}, {"a": torch.tensor([3.0])}) == 0.5
    assert examination.difference({"a": torch.zeros(2)}, {"a": torch.zeros(2)}) == 0.0
    assert examination.difference({"a": torch.ones(1)}, {"a": torch.tensor([math.nan])}) == math.inf
    assert examination.difference({"a": torch.tensor([math.inf])}, {"a": torch.ones(1)}) == math.inf
    with pytest.raises(Unsound, match="the tensors"):
        examination.difference({"a": torch.ones(1)}, {"b": torch.ones(1)})
