"""Several live seeds: what is compared, what it leaves alone, what it costs, and when it is resolved."""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.config import Config, GrowthConfig, LossWeights, SurgeryConfig
from contracts.conflict import JOINT, ConflictFacts
from contracts.emergency import Trigger
from contracts.growth import Layout, SiteInfo
from contracts.lifecycle import Stage
from esper.kasmina.graft import Grafts
from esper.kasmina.plan import Insert
from esper.tolaria.conflict import hurts, weight_of
from esper.tolaria.errors import TrainingDiverged
from esper.tolaria.flops import counted
from esper.tolaria.loop import Pace
from esper.tolaria.record import from_record, to_record
from esper.tolaria.results import EpochResult
from esper.tolaria.surgery import combined, gram, pcgrad, random_orders
from esper.tolaria.task import Task, Tensors
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria.world import (
    HIDDEN,
    SmallSeed,
    build,
    config,
    fossilize,
    frozen_time,
    insert,
    learn,
    live,
    plan,
    record,
    remove,
    same,
    task,
    trainer,
    weights,
)

ALWAYS = SurgeryConfig(every=3, share=0.0, excess=-1.0)
"""Projects from the second epoch with two live seeds on, whatever the figures are."""


def growing(conflict: str, surgery: SurgeryConfig = ALWAYS, **settings: object) -> Config:
    """`settings` are of the growth section."""
    growth = GrowthConfig(shadow_every=2, conflict=conflict, surgery=surgery, **settings)  # type: ignore[arg-type]
    return config(growth=growth)


def two_live(settings: Config, dropout: float = 0.0, epochs: int = 0) -> Trainer:
    """A seed at each site, both live from the graft on, and `epochs` trained."""
    one = trainer(settings, dropout)
    one.apply(plan(insert("one#0", dropout=dropout), live("one#0")))
    one.apply(plan(insert("two#0", dropout=dropout), live("two#0")))
    for _ in range(epochs):
        one.run_epoch()
    return one


def spent(one: Trainer) -> dict[str, int]:
    return one.ledger.accounts()


def nobody(one: Trainer) -> None:
    pass


def one_live(one: Trainer) -> None:
    one.apply(plan(insert("one#0"), live("one#0")))


def one_live_one_isolated(one: Trainer) -> None:
    one.apply(plan(insert("one#0"), live("one#0"), insert("two#0"), learn("two#0")))


def one_live_one_fossil(one: Trainer) -> None:
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0"), insert("two#0"), live("two#0")))


@pytest.mark.parametrize("grow", [nobody, one_live, one_live_one_isolated, one_live_one_fossil])
def test_with_fewer_than_two_live_undecided_seeds_nothing_runs_bit_for_bit_and_flop_for_flop(
    grow: Callable[[Trainer], None],
) -> None:
    off, on = trainer(growing("off"), 0.3), trainer(growing("project"), 0.3)
    for one in (off, on):
        grow(one)
    for _ in range(3):
        expected, result = off.run_epoch(), on.run_epoch()
        assert result == expected
        assert result.conflict is None
    assert same(weights(off), weights(on))
    assert spent(off) == spent(on)
    assert spent(on)["conflict"] == 0


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_measuring_changes_no_bit_of_the_run_and_books_what_it_costs(dropout: float) -> None:
    off = two_live(growing("off"), dropout, epochs=4)
    on = two_live(growing("measure"), dropout, epochs=3)
    facts = on.run_epoch().conflict
    assert same(weights(off), weights(on))
    booked = spent(on)
    assert booked.pop("conflict") > 0
    assert booked == {name: flops for name, flops in spent(off).items() if name != "conflict"}
    assert facts is not None
    assert (facts.projected, facts.projects_next) == (0, False)


def test_an_epochs_figures_are_of_the_steps_that_were_due_for_every_pair() -> None:
    one = two_live(growing("measure", SurgeryConfig(every=4)))
    counts = []
    for _ in range(3):  # of 6 steps each: 0 and 4, then 8, then 12 and 16
        facts = one.run_epoch().conflict
        assert facts is not None
        counts.append(facts.steps)
        assert [(pair.one, pair.other) for pair in facts.pairs] == [
            (JOINT, "one#0"),
            (JOINT, "two#0"),
            ("one#0", "two#0"),
        ]
        for pair in facts.pairs:
            assert -1.0 <= pair.cosine_min <= pair.cosine_mean <= 1.0
            assert pair.conflicts <= facts.conflicts <= facts.steps
        assert facts.cosine_min == min(pair.cosine_min for pair in facts.pairs)
    assert counts == [2, 1, 2]


def test_seeds_that_contribute_nothing_yet_agree_in_everything() -> None:
    facts = two_live(growing("measure", SurgeryConfig(every=100))).run_epoch().conflict
    assert facts is not None
    assert (facts.steps, facts.conflicts, facts.excess) == (1, 0, 0.0)
    assert all(pair.cosine_min == pytest.approx(1.0) for pair in facts.pairs)


def test_an_epoch_in_which_no_step_is_due_says_so() -> None:
    one = two_live(growing("project", SurgeryConfig(every=100)))
    one.run_epoch()
    facts = one.run_epoch().conflict
    assert facts == ConflictFacts(0, 0, 0.0, 0, 0)
    assert (facts.share, facts.cosine_min) == (0.0, None)


def host_of(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for name, parameter in model.named_parameters() if "esper_graft" not in name]


def gradient_without(one: Trainer, absent: str | None, batch: tuple[Tensor, Tensor]) -> list[Tensor]:
    """The host's gradient in a copy of the network from which a seed has really been removed."""
    grafts = copy.deepcopy(one._grafts)
    if absent is not None:
        grafts.remove(absent)
    loss = F.cross_entropy(grafts.model(batch[0]), batch[1])
    return list(torch.autograd.grad(loss, host_of(grafts.model)))


def one_step(one: Trainer) -> tuple[list[Tensor], dict[str, Tensor]]:
    """One step of the next epoch: the gradients that it took, of the host and of the seeds by name."""
    one._machine.loop.run(one._machine.crew(), 12, 1, Pace(0.0, 0.0))
    model = one._grafts.model
    seeds = {n: p.grad for n, p in model.named_parameters() if "esper_graft" in n and p.grad is not None}
    return [p.grad for p in host_of(model) if p.grad is not None], seeds


def test_a_projected_step_gives_the_host_the_combination_and_the_seeds_the_joint_passs_gradients() -> None:
    terms = LossWeights(probationary=0.5)
    on, off = (two_live(growing(mode, loss_weights=terms), epochs=2) for mode in ("measure", "off"))
    on._machine.conflicts.projects = True
    crew = on._machine.crew()
    assert crew.comparison is not None
    assert crew.comparison.every == 1
    expected = [gradient_without(on, absent, batch_of(on)) for absent in (None, "two#0", "one#0")]
    host, seeds = one_step(on)
    plain, joint = one_step(off)
    assert seeds.keys() == joint.keys()
    assert all(torch.equal(seeds[name], joint[name]) for name in seeds)
    coefficients = pcgrad(gram(expected), [0.5, 0.25, 0.25], random_orders(3, 12, 3))
    for ours, theirs in zip(host, combined(expected, coefficients), strict=True):
        assert theirs is not None
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert any(
        not torch.allclose(ours, untouched, atol=1e-4) for ours, untouched in zip(host, plain, strict=True)
    )


def batch_of(one: Trainer) -> tuple[Tensor, Tensor]:
    """The next mini-batch, left for the step that will take it."""
    loader = one._machine.parts.loader
    here = loader.state()
    (batch,) = loader.batches(1)
    loader.restore(here)
    return batch


def test_a_pass_for_one_seed_costs_what_a_network_without_the_others_costs() -> None:
    one = two_live(growing("measure", SurgeryConfig(every=6)))
    facts = one.run_epoch().conflict
    alone = sum(
        counted(partial(gradient_without, one, absent, batch_of(one))) for absent in ("one#0", "two#0")
    )
    assert facts is not None
    assert (facts.steps, facts.flops) == (1, alone)
    assert spent(one)["conflict"] == alone
    assert alone < 2 * one._machine.costs.step


def test_fossils_are_part_of_what_is_shared_and_of_every_objective() -> None:
    one = trainer(growing("project"))
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0")))
    one.apply(plan(insert("one#1"), live("one#1"), insert("two#0"), live("two#0")))
    shared = {id(parameter) for parameter in one._machine.conflicts.shared()}
    names = {name for name, p in one._grafts.model.named_parameters() if id(p) in shared}
    assert any("one_x23_0" in name for name in names)
    assert not any("one_x23_1" in name or ("two" in name and "graft" in name) for name in names)
    facts = one.run_epoch().conflict
    assert facts is not None
    assert {pair.other for pair in facts.pairs} == {"one#1", "two#0"}


def test_a_host_that_learns_nothing_has_nothing_to_compare() -> None:
    one = trainer(growing("project"))
    for parameter in one._grafts.model.parameters():
        parameter.requires_grad_(False)
    one.apply(plan(insert("one#0"), live("one#0"), insert("two#0"), live("two#0")))
    assert one.run_epoch().conflict is None


@dataclass
class Present:
    """Whether the first seed has run in this pass; shared by both seeds, and by their copies in a copy."""

    ran: bool = False


class Tells(nn.Module):
    """Sound, and says that it has run."""

    def __init__(self, present: Present) -> None:
        super().__init__()
        self.present = present
        self.scale = nn.Parameter(torch.full((HIDDEN,), 0.1))

    def forward(self, h: Tensor) -> Tensor:
        self.present.ran = True
        return h * self.scale


class NeedsCompany(nn.Module):
    """Harmful in a pass in which the other seed has not run before it."""

    def __init__(self, present: Present, harm: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.present, self.harm = present, harm
        self.scale = nn.Parameter(torch.full((HIDDEN,), 0.1))

    def forward(self, h: Tensor) -> Tensor:
        return h * self.scale if self.present.ran else self.harm(h * self.scale)


class NanGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, h: Tensor) -> Tensor:  # type: ignore[override]
        return h.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * math.nan


@pytest.mark.parametrize("mode", ["measure", "project"])
@pytest.mark.parametrize(
    ("harm", "quantity"),
    [
        (lambda y: y * math.nan, "training loss with two#0 alone"),
        (NanGradient.apply, "gradient with two#0 alone"),
    ],
)
def test_what_is_not_finite_with_one_seed_alone_is_an_emergency_as_in_the_joint_pass(
    mode: str, harm: Callable[[Tensor], Tensor], quantity: str
) -> None:
    present = Present()

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        present.ran = False  # the pass is over
        return F.cross_entropy(outputs, targets)

    one = trainer(growing(mode), the_task=replace(task(), loss_fn=loss_fn))
    for name, module in (("one#0", Tells(present)), ("two#0", NeedsCompany(present, harm))):
        one.apply(plan(Insert(record(name, Stage.GERMINATED), module), live(name)))
    crew = one._machine.crew()
    before = weights(one)
    with pytest.raises(TrainingDiverged) as caught:
        one._machine.loop.run(crew, 0, 6, Pace(0.0, 0.0))
    assert (caught.value.quantity, caught.value.step) == (quantity, 0)
    assert caught.value.kind is Trigger.NOT_FINITE
    after = dict(one._grafts.model.named_parameters())
    assert all(torch.equal(before[name], parameter) for name, parameter in after.items())
    result = one.run_epoch()
    assert [aside.seed_id for aside in result.set_aside] == ["two#0"]
    assert result.conflict is None


def figures(result: EpochResult) -> tuple[float, float, ConflictFacts | None]:
    """What has to be the same after a rollback; what was spent is not given back."""
    return result.train_loss, result.val_loss, result.conflict


def test_the_steps_of_a_run_go_on_bit_for_bit_after_it_has_gone_back() -> None:
    """Whether an epoch projects, and in which orders, follows from what a snapshot holds anyway."""
    one = two_live(growing("project", SurgeryConfig(every=2, share=0.0, excess=-1.0)), 0.3, epochs=2)
    here = one.keep()
    first = [figures(one.run_epoch()) for _ in range(3)]
    after = weights(one)
    one.apply(plan(remove("two#0")))
    assert one.run_epoch().conflict is None
    assert not one._machine.conflicts.projects
    one.restore(here)
    assert [figures(one.run_epoch()) for _ in range(3)] == first
    assert all(conflict is not None and conflict.projected == 6 for *_, conflict in first)
    assert same(weights(one), after)


def test_another_process_goes_on_projecting_from_what_a_checkpoint_holds() -> None:
    settings = growing("project", SurgeryConfig(every=2, share=0.0, excess=-1.0))
    one, other = two_live(settings, epochs=2), trainer(settings)
    kept = from_record(*to_record(one.keep()), lambda record: SmallSeed(torch.Generator().manual_seed(0)))
    assert kept.position.last is not None
    assert kept.position.last.conflict is not None
    assert kept.position.last.conflict.projects_next
    other.restore(kept)
    for _ in range(2):
        assert figures(one.run_epoch()) == figures(other.run_epoch())
    assert same(weights(one), weights(other))


def test_projection_begins_in_the_epoch_after_it_hurts_and_ends_when_one_seed_is_left() -> None:
    one = two_live(growing("project"))
    first, second = one.run_epoch().conflict, one.run_epoch().conflict
    assert first is not None
    assert second is not None
    assert (first.projected, first.steps, first.projects_next) == (0, 2, True)
    assert (second.projected, second.steps) == (6, 6)
    one.apply(plan(remove("two#0")))
    assert one.run_epoch().conflict is None
    one.apply(plan(insert("two#0"), live("two#0")))
    again = one.run_epoch().conflict
    assert again is not None
    assert again.projected == 0


shares = st.floats(0, 1)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 8), st.floats(-0.9, 2)), max_size=12), shares, shares)
def test_it_hurts_by_hysteresis(epochs: list[tuple[int, float]], share: float, slack: float) -> None:
    """It never begins with a figure below its threshold, nor ends with both above it less the slack."""
    surgery = SurgeryConfig(share=share, excess=0.0, slack=slack)
    projecting = False
    for conflicts, excess in epochs:
        facts = ConflictFacts(8, conflicts, excess, 0, 0)
        after = hurts(facts, surgery, projecting=projecting)
        if after and not projecting:
            assert facts.share >= share
            assert excess >= 0.0
        if projecting and not after:
            assert facts.share < share - slack or excess < -slack
        projecting = after
    nothing_due = ConflictFacts(0, 0, 0.0, 0, 0)
    assert hurts(nothing_due, surgery, projecting=projecting) == projecting


@pytest.mark.parametrize("mode", ["measure", "project"])
@pytest.mark.parametrize("gflop", [1.5e-4, 2.37e-4])
def test_a_flop_budget_is_kept_with_every_pass_planned_for(mode: str, gflop: float) -> None:
    """And spent: no step with all that belongs to it would have fitted any more."""
    settings = growing(mode)
    one = two_live(replace_run(settings, gflop))
    results = []
    while not one.finished:
        results.append(one.run_epoch())
    budget = round(gflop * 1e9)
    assert one.ledger.spent <= budget
    costs = one._purse._epoch_costs()
    assert budget - one.ledger.spent < costs.of(1) + costs.after
    assert spent(one)["conflict"] == sum(r.conflict.flops for r in results if r.conflict is not None) > 0
    assert one.ledger.spent == sum(spent(one).values())


def replace_run(settings: Config, gflop: float) -> Config:
    run = msgspec.structs.replace(settings.run, epochs=None, gflop=gflop)
    return msgspec.structs.replace(settings, run=run)


def test_the_weight_is_that_of_the_stage() -> None:
    given_ = LossWeights(training=2.0, blending=3.0, shadowing=5.0, probationary=7.0)
    stages = (Stage.TRAINING, Stage.BLENDING, Stage.SHADOWING, Stage.PROBATIONARY)
    assert [weight_of(stage, given_) for stage in stages] == [2.0, 3.0, 5.0, 7.0]
    assert weight_of(Stage.GERMINATED, given_) == 1.0


def learning(weight: float, clip_norm: float = 0.0) -> Trainer:
    """One with an isolated seed that has learned for two epochs."""
    growth = GrowthConfig(shadow_every=2, loss_weights=LossWeights(training=weight))
    one = trainer(config(growth=growth, clip_norm=clip_norm))
    one.apply(plan(insert("one#0"), learn("one#0")))
    return one


def seed_weights(one: Trainer) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights(one).items() if "esper_graft" in name}


def test_a_shadow_losss_weight_scales_the_gradient_that_a_pass_leaves_and_no_figure_of_it() -> None:
    left, figures = [], []
    for weight in (1.0, 4.0):
        one = learning(weight)
        (watched,) = one._machine.crew().watched
        assert watched.shadow is not None
        figures.append(watched.shadow(*batch_of(one)))
        left.append([p.grad for p in watched.parameters if p.grad is not None])
    assert figures[0] == figures[1]
    assert len(left[0]) == len(left[1]) > 0
    for plain, weighted in zip(*left, strict=True):
        assert torch.equal(4.0 * plain, weighted)


def test_under_adam_a_shadow_losss_weight_all_but_cancels_and_the_host_never_sees_it() -> None:
    """What is left of it is Adam's epsilon, which is why the docstring points to `train.seed_rate`."""
    plain, weighted = learning(1.0), learning(16.0)
    for one in (plain, weighted):
        for _ in range(4):
            one.run_epoch()
    assert same(
        {n: t for n, t in weights(plain).items() if "esper_graft" not in n},
        {n: t for n, t in weights(weighted).items() if "esper_graft" not in n},
    )
    moved = 0.0
    for name, tensor in seed_weights(plain).items():
        assert torch.allclose(tensor, seed_weights(weighted)[name], rtol=1e-3, atol=1e-4)
        moved = max(moved, float(tensor.abs().max()))
    assert moved > 1e-2, "it has learned"


class Offset(nn.Module):
    """Adds a fixed vector, whatever comes in: the host alone can make up for it."""

    def __init__(self, offset: list[float]) -> None:
        super().__init__()
        self.register_buffer("offset", torch.tensor(offset))
        self.idle = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        assert isinstance(self.offset, Tensor)
        return torch.zeros_like(h) + self.offset + self.idle * 0.0


class Shifted(nn.Module):
    """A host of one vector: (B, 1) → (B, 4), the same for every input."""

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Linear(1, 4, bias=False)
        self.one = nn.Identity()
        self.two = nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.two(self.one(self.vector(inputs)))
        return out


def losses_of(one: Trainer) -> list[float]:
    """Squared error with both seeds, with the first alone, with the second alone."""
    batch = torch.ones(1, 1), torch.zeros(1, 4)
    grafts, found = one._grafts, []
    for absent in (None, "two#0", "one#0"):
        with grafts.without(absent) if absent is not None else nullcontext():
            found.append(F.mse_loss(grafts.model(batch[0]), batch[1]).item())
    return found


def shifted(conflict: str) -> Trainer:
    """Both seeds push the same way: together they need a host twice as far off as each alone does."""
    data = Tensors(torch.ones(40, 1), torch.zeros(40, 4))
    model = Shifted()
    with torch.no_grad():
        model.vector.weight.copy_(torch.tensor([[-2.0], [0.8], [0.8], [0.8]]))
    sites = tuple(SiteInfo(name, Layout.VECTOR, (4,), 4, depth) for depth, name in enumerate(("one", "two")))
    settings = config(epochs=20, growth=GrowthConfig(conflict=conflict, surgery=ALWAYS), learning_rate=5e-2)
    the_task = Task(model=model, train=data, validation=data, test=data, loss_fn=F.mse_loss)
    one = Trainer(the_task, Grafts(model, sites), settings, "run", build=build, timekeeping=frozen_time())
    for name in ("one#0", "two#0"):
        module = Offset([2.0, 0.0, 0.0, 0.0])
        one.apply(plan(Insert(record(name, Stage.GERMINATED), module), live(name)))
    return one


def test_on_seeds_that_conflict_projection_lowers_every_objective_where_joint_training_lowers_one() -> None:
    """The host begins where each seed alone is served best on the first axis, off on the three others."""
    found = {}
    for conflict in ("off", "project"):
        one = shifted(conflict)
        before = losses_of(one)
        while not one.finished:
            result = one.run_epoch()
        found[conflict] = losses_of(one)
    assert found["off"][0] < 0.1 * before[0]
    assert min(found["off"][1:]) > 1.5 * max(before[1:]), "both seeds are worth less alone than before"
    assert all(after < 0.9 * was for after, was in zip(found["project"], before, strict=True))
    assert result.conflict is not None
    assert result.conflict.share > 0.5
