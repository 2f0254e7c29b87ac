import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from contracts.config import GrowthConfig
from contracts.growth import Path, SeedFigures
from contracts.lifecycle import Stage
from esper.kasmina.plan import Insert, Isolate, SetAlpha
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria.world import config, fossilize, insert, learn, live, plan, record, trainer


def figures(of: Trainer, seed_id: str = "one#0") -> SeedFigures:
    return of.assemble().figures[seed_id]


def test_a_new_seed_has_every_figure_that_the_gates_on_its_way_ask_for() -> None:
    one = trainer()
    one.run_epoch()
    one.apply(plan(insert("one#0", epoch=1)))
    assert figures(one) == SeedFigures("one#0")
    result = one.run_epoch()
    found = figures(one)
    assert found.finite is True
    assert found.shape_kept is True
    assert found.jump == 0.0
    assert found.rms_ratio == 0.0
    assert found.grad_norm is not None
    assert found.grad_norm > 0.0
    assert found.starved_tensors == 0
    assert found.isolation_violations == 0
    assert found.loss_with == found.loss_without == result.val_loss


def test_the_gain_is_the_validation_loss_without_less_with_the_seed() -> None:
    one = trainer()
    one.run_epoch()
    one.apply(plan(insert("one#0", 1), live("one#0", 1)))
    one.run_epoch()
    assert figures(one).gain is None
    result = one.run_epoch()
    found = figures(one)
    validation, model = one._task.validation, one._grafts.model
    model.eval()
    with one._grafts.without("one#0"):
        without = F.cross_entropy(model(validation.inputs), validation.targets).item()
    model.train()
    assert found.loss_with == result.val_loss
    assert found.loss_without == pytest.approx(without, abs=1e-7)
    view = one.assemble().growth.sites[0].seed
    assert view is not None
    assert (view.gain, view.gain_epoch) == (found.gain, 3)


def test_a_gain_is_measured_every_nth_epoch_of_a_stage_and_kept_with_its_epoch() -> None:
    one = trainer(config(growth=GrowthConfig(counterfactual_every=3)))
    one.apply(plan(insert("one#0"), SetAlpha(record("one#0", Stage.PROBATIONARY, 0, 1.0, Path()), 1.0)))
    epochs = []
    for _ in range(8):
        one.run_epoch()
        view = one.assemble().growth.sites[0].seed
        assert view is not None
        epochs.append(view.gain_epoch)
    assert epochs == [-1, -1, 3, 3, 3, 6, 6, 8]  # 8 is the planned end of the probation


def test_what_was_compared_in_another_stage_is_forgotten() -> None:
    one = trainer()
    one.apply(plan(insert("one#0")))
    one.run_epoch()
    assert figures(one).gain == 0.0
    one.apply(plan(live("one#0", 1)))
    one.run_epoch()
    assert figures(one).gain is None
    assert figures(one).jump == 0.0


def test_a_fossil_is_measured_no_more() -> None:
    one = trainer()
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0")))
    for _ in range(3):
        one.run_epoch()
    assert figures(one).gain is None
    assert one.ledger.accounts()["counterfactual"] == 0


def test_what_measuring_costs_is_booked() -> None:
    one = trainer()
    one.apply(plan(insert("one#0")))
    one.run_epoch()
    spent = one.ledger.accounts()
    forward = 2 * 50 * (6 * 5 + 5 * 5 + 5 * 3 + 2 * 10)
    assert spent["counterfactual"] == forward
    assert spent["gauge"] > 0
    assert one.ledger.spent == sum(spent.values())


class Narrow(nn.Module):
    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h[:, :3]


def test_a_seed_that_does_not_keep_the_shape_is_told_and_harms_nobody() -> None:
    one = trainer()
    one.apply(plan(Insert(record("one#0", Stage.GERMINATED), Narrow())))
    one.run_epoch()
    found = figures(one)
    assert found.shape_kept is False
    assert found.loss_with is None


class Leaky(nn.Module):
    """Adds nothing and cuts the host off: its own input never gets a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.scale * h.detach() - h


def test_a_seed_that_starves_the_host_is_found_out() -> None:
    one = trainer()
    one.apply(plan(Insert(record("two#0", Stage.GERMINATED), Leaky())))
    one.run_epoch()
    starved = figures(one, "two#0").starved_tensors
    assert starved is not None
    assert starved > 0


def test_a_learning_seed_brings_its_gradient_and_size_from_the_shadow_path() -> None:
    one = trainer()
    one.apply(plan(insert("two#0"), Isolate(record("two#0", Stage.TRAINING), learns=True)))
    one.run_epoch()
    found = figures(one, "two#0")
    assert found.grad_norm is not None
    assert found.grad_norm > 0.0
    assert found.rms_ratio is not None


@pytest.mark.parametrize("counts_validation", [True, False])
@pytest.mark.parametrize("seeds", [("one#0",), ("one#0", "two#0")])
def test_what_an_epoch_books_is_what_torchs_own_counter_counts(
    counts_validation: bool, seeds: tuple[str, ...]
) -> None:
    one = trainer(counts_validation=counts_validation)
    one.run_epoch()
    for seed_id in seeds:
        one.apply(plan(insert(seed_id, 1), live(seed_id, 1)))
    for due in (False, True):  # compared at the second epoch of the stage
        before, spent = one.ledger.accounts(), one.ledger.spent
        with FlopCounterMode(display=False) as theirs:
            one.run_epoch()
        booked = {name: flops - before[name] for name, flops in one.ledger.accounts().items()}
        assert sum(booked.values()) == theirs.get_total_flops()
        unread = 0 if counts_validation or due else booked["validation"]
        assert one.ledger.spent - spent == theirs.get_total_flops() - unread
        assert (booked["validation"] == 0) == (due and not counts_validation)
        assert (booked["counterfactual"] > 0) == due


def test_isolation_checks_are_booked_as_torchs_own_counter_counts_them() -> None:
    one = trainer()
    one.apply(plan(insert("one#0"), insert("two#0"), learn("one#0"), learn("two#0")))
    one.run_epoch()  # what is counted once is counted
    for fault in (False, True, False):  # to find the seed at fault takes more passes
        before = one.ledger.accounts()
        with pytest.MonkeyPatch.context() as patch, FlopCounterMode(display=False) as theirs:
            if fault:
                patch.setattr("esper.kasmina.isolation.same_bits", lambda a, b: False)
            one.run_epoch()
        booked = {name: flops - before[name] for name, flops in one.ledger.accounts().items()}
        assert sum(booked.values()) == theirs.get_total_flops()
        assert (figures(one, "two#0").isolation_violations or 0) > 0 or not fault


def test_counting_a_network_that_has_changed_is_booked_and_counting_the_host_is_not() -> None:
    one = trainer()
    one.run_epoch()
    assert one.ledger.accounts()["gauge"] == 0
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0")))
    one.run_epoch()
    assert one.ledger.accounts()["gauge"] == one._machine.costs.count > 0


@pytest.mark.parametrize("counts_validation", [True, False])
def test_a_budget_is_not_overdrawn_by_what_finding_out_costs(counts_validation: bool) -> None:
    for gflop in (1e-4, 1.3e-4, 1.6e-4, 2e-4, 2.2e-4):
        one = trainer(config(epochs=None, gflop=gflop), counts_validation=counts_validation)
        epoch = 0
        while not one.finished:
            one.run_epoch()
            epoch += 1
            if epoch == 1:
                one.apply(plan(insert("one#0", 1), live("one#0", 1)))
        assert one.ledger.spent <= gflop * 1e9


def test_nothing_more_is_measured_than_the_budget_pays_for() -> None:
    one = trainer(config(epochs=None, gflop=4e-5))
    one.apply(plan(insert("one#0")))
    one.run_epoch()
    assert one.ledger.spent <= 40_000
    assert one.ledger.accounts()["counterfactual"] == 0
    assert figures(one).loss_with is None
