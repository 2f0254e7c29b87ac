"""A trial finds what only the inside of the process can see, and lets pass what is harmless."""

import threading

import pytest
import torch
from torch import Tensor, nn

from contracts.growth import SiteInfo
from esper.drill.benign import DRILL_CATALOGUE, Loud
from esper.drill.programme import BENIGN
from esper.drill.report import TrialReport, TrialTerms
from esper.drill.trial import Subject, Watchman, undergo
from esper.karn.catalogue import Catalogue
from esper.kasmina.footprint import same_bits
from tests.esper.drill.ground import subject, trial

SHORT = TrialTerms(steps=3)


def held(blueprint_id: str, onset: int | None = None, terms: TrialTerms = SHORT) -> TrialReport:
    return undergo(trial(blueprint_id, onset, terms), subject(), DRILL_CATALOGUE, Watchman())


@pytest.mark.parametrize(
    ("blueprint_id", "check"),
    [
        ("BP043", "gradient"),
        ("BP044", "gradient"),
        ("BP045", "finite"),
        ("BP049", "input"),
        ("BP050", "repeat"),
    ],
)
def test_what_misbehaves_at_once_is_found_by_its_own_check(blueprint_id: str, check: str) -> None:
    report = held(blueprint_id, 0)
    assert (report.passed, report.check) == (False, check)
    assert report.steps < SHORT.steps
    assert report.reason


@pytest.mark.parametrize("blueprint_id", BENIGN)
def test_what_is_harmless_passes(blueprint_id: str) -> None:
    report = held(blueprint_id)
    assert report.passed, report.reason
    assert (report.steps, report.check) == (SHORT.steps, "")
    assert report.figures["own_gradient_ratio"] > 0


def test_a_trial_takes_as_many_passes_as_it_says() -> None:
    assert held("BP045", onset=SHORT.steps * 4).passed
    assert held("BP045", onset=SHORT.steps * 4 - 1).check in ("finite", "repeat")


def test_the_host_is_the_same_afterwards_bit_for_bit() -> None:
    tried = subject()
    before = [(name, tensor.detach().clone()) for name, tensor in tried.model.named_parameters()]
    assert undergo(trial("BP003", terms=SHORT), tried, DRILL_CATALOGUE, Watchman()).passed
    after = dict(tried.model.named_parameters())
    assert all(same_bits(after[name], tensor) for name, tensor in before)


class Meddler(nn.Module):
    """Contributes nothing, and does something else in training mode."""

    model: nn.Module | None = None

    def __init__(self, deed: str) -> None:
        super().__init__()
        self.deed = deed
        self.aside = 0
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            self.do()
        return h * self.scale

    def do(self) -> None:
        unwatched = not torch.is_grad_enabled()
        self.aside += unwatched
        if self.deed == "host" or (self.deed == "host, unwatched" and unwatched and self.aside == 2):
            assert Meddler.model is not None
            next(Meddler.model.parameters()).data.add_(1e-6)
        elif self.deed == "error":
            raise ValueError("not today")
        elif self.deed == "thread":
            threading.Thread(target=STOP.wait, args=(30.0,), daemon=True).start()


STOP = threading.Event()


class Meddling(Loud):
    deed = ""

    def _build(self, site: SiteInfo, size: object, generator: torch.Generator) -> nn.Module:
        return Meddler(self.deed)


def meddled(deed: str, tried: Subject, watchman: Watchman) -> TrialReport:
    blueprint = Meddling()
    blueprint.deed = deed
    Meddler.model = tried.model
    catalogue = Catalogue((blueprint,))
    return undergo(trial("DRILL-LOUD", terms=SHORT), tried, catalogue, watchman)


@pytest.mark.parametrize("deed", ["host", "error", "thread"])
def test_what_it_does_beside_its_work_is_found(deed: str) -> None:
    try:
        report = meddled(deed, subject(), Watchman())
    finally:
        STOP.set()
    STOP.clear()
    assert (report.passed, report.check) == (False, deed)
    assert report.steps == 0


def test_a_host_that_is_changed_where_nobody_watches_is_found_by_the_list_that_was_frozen_before() -> None:
    """In the last pass of a step, behind the tensor: no output and no gradient of that step tells."""
    tried = subject()
    first = next(name for name, _ in tried.model.named_parameters())
    report = meddled("host, unwatched", tried, Watchman())
    assert (report.passed, report.check, report.steps) == (False, "host", 0)
    assert report.reason == f"{first} of the host was changed", "not the words of the shadow pass's watch"


def test_time_memory_and_tries_to_escape_are_looked_at_from_inside_too() -> None:
    seconds = iter([0.0, 1.0, 1.0, 99.0])
    slow = meddled("", subject(), Watchman(seconds=lambda: next(seconds)))
    assert (slow.check, slow.steps) == ("time", 1)
    resident = iter([1 << 20, 1 << 30])
    leaking = meddled("", subject(), Watchman(resident_bytes=lambda: next(resident)))
    assert (leaking.check, leaking.steps) == ("memory", SHORT.steps)
    refused = iter([5, 6])
    curious = meddled("", subject(), Watchman(refused=lambda: next(refused)))
    assert (curious.check, curious.steps) == ("escape", 0)
    assert meddled("", subject(), Watchman()).passed


class Biased(nn.Module):
    """Contributes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.ones(()))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.shift


@pytest.mark.parametrize(
    ("module", "reason"), [(Biased, "changes by"), (nn.Tanh, "nothing that it could learn")]
)
def test_what_changes_the_host_at_once_or_can_learn_nothing_does_not_start(
    module: type[nn.Module], reason: str
) -> None:
    class Odd(Meddling):
        def _build(self, site: SiteInfo, size: object, generator: torch.Generator) -> nn.Module:
            return module()

    report = undergo(trial("DRILL-LOUD", terms=SHORT), subject(), Catalogue((Odd(),)), Watchman())
    assert (report.passed, report.check, report.steps) == (False, "start", 0)
    assert reason in report.reason
