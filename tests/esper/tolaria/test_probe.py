import copy
import math
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from contracts.growth import Candidate, Contender, ProbePlan, ProbeRound, SiteInfo
from esper.karn.catalogue import CATALOGUE
from esper.tolaria import probe
from esper.tolaria.errors import PlanRefused
from esper.tolaria.flops import Account
from esper.tolaria.fork import Fork
from esper.tolaria.randomness import generator_for
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria import world
from tests.esper.tolaria.world import FEATURES, SITES, config, plan, same, trainer, weights

CONTENDERS = tuple(
    Contender((Candidate(site.name, blueprint, {"width": 2.0}),))
    for site in SITES
    for blueprint in ("a", "b")
)
ROUNDS = (ProbeRound(3, 2), ProbeRound(5, 1))


def probing(judged_by: str = "validation", rounds: tuple[ProbeRound, ...] = ROUNDS) -> ProbePlan:
    return ProbePlan(
        "p", CONTENDERS, rounds, judged_by="training" if judged_by == "training" else "validation"
    )


def asking(*grafts: Candidate) -> ProbePlan:
    return ProbePlan("p", (Contender(grafts),), ROUNDS)


def name(contender: Contender) -> str:
    return "+".join(graft.site + graft.blueprint_id for graft in contender.grafts)


def trained(epochs: int = 3, **settings: float) -> Trainer:
    one = trainer(config(**settings), dropout=0.3)
    for _ in range(epochs):
        one.run_epoch()
    return one


@pytest.mark.parametrize("judged_by", ["validation", "training"])
def test_the_live_run_goes_on_bit_for_bit_as_if_nothing_had_been_probed(judged_by: str) -> None:
    alone, probed = trained(), trained()
    before, stream = weights(probed), torch.get_rng_state()
    probed.probe(probing(judged_by))
    assert same(weights(probed), before)
    assert torch.equal(stream, torch.get_rng_state())
    assert probed._grafts.seed_ids() == ()
    assert alone.run_epoch().train_loss == probed.run_epoch().train_loss
    assert same(weights(alone), weights(probed))


def test_the_same_probe_says_the_same_twice() -> None:
    one = trained()
    assert one.probe(probing()) == one.probe(probing())


def test_the_control_is_the_host_trained_alone_on_the_probes_batches() -> None:
    one = trainer()
    one.run_epoch()
    host = world.task().model
    host.load_state_dict(one._grafts.model.state_dict())
    optimizer = torch.optim.Adam(host.parameters(), lr=1e-2, fused=True)
    theirs = copy.deepcopy(one._machine.parts.optimizer.state_dict())
    optimizer.load_state_dict({**theirs, "param_groups": optimizer.state_dict()["param_groups"]})
    order = torch.randperm(80, generator=generator_for(3, "probe/p/batches"))
    train, validation = one._task.train, one._task.validation
    for step in range(3):
        index = order[step * 10 : step * 10 + 10]
        optimizer.zero_grad()
        F.cross_entropy(host(train.inputs[index]), train.targets[index]).backward()
        optimizer.step()
    host.eval()
    expected = F.cross_entropy(host(validation.inputs), validation.targets).item()
    report = one.probe(probing(rounds=(ProbeRound(3, 4),)))
    assert [score.loss_control for score in report.scores] == [pytest.approx(expected, rel=1e-6)] * 4


def test_better_contenders_are_trained_longer_and_come_first() -> None:
    report = trained().probe(probing())
    assert [score.steps for score in report.scores] == [8, 8, 3, 3]
    for few, many in ((0, 1), (2, 3)):
        assert report.scores[few].loss <= report.scores[many].loss
    assert {name(score.contender) for score in report.scores} == {
        "onea", "oneb", "twoa", "twob",
    }  # fmt: skip


class Useless(nn.Module):
    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(h)


class Explosive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(math.inf))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h * self.scale


def test_a_contender_that_does_nothing_gains_exactly_nothing_and_one_that_explodes_comes_last() -> None:
    def build(site: SiteInfo, candidate: Candidate, generator: torch.Generator) -> nn.Module:
        return Explosive() if candidate.blueprint_id == "a" else Useless()

    one = trained()
    one._build = build
    report = one.probe(probing(rounds=(ProbeRound(3, 4), ProbeRound(2, 4))))
    assert [score.gain for score in report.scores[:2]] == [0.0, 0.0]
    assert [score.loss for score in report.scores[2:]] == [math.inf, math.inf]


def test_judged_by_training_the_score_is_the_mean_loss_of_the_last_half_and_costs_no_validation() -> None:
    by_training, by_validation = trained(), trained()
    cheap = by_training.probe(probing("training", (ProbeRound(4, 4),)))
    dear = by_validation.probe(probing("validation", (ProbeRound(4, 4),)))
    forward = 2 * 50 * (FEATURES * 5 + 5 * 5 + 5 * 3)
    seeds = 4 * 2 * 50 * 2 * 10
    assert dear.flops - cheap.flops == 5 * forward + seeds
    assert cheap.flops == by_training.ledger.accounts()["probe"]
    assert cheap.flops > sum(4 * score.step_flops for score in cheap.scores)


def test_a_probe_that_is_stopped_reports_what_it_has() -> None:
    one = trained()
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        if done == 3:  # the control and two contenders
            one.stop()

    report = one.probe(probing(), tell)
    assert told == [(1, 8), (2, 8), (3, 8)]
    assert [score.steps for score in report.scores] == [3, 3]
    assert one.ledger.accounts()["probe"] == report.flops


@pytest.mark.parametrize("judged_by", ["validation", "training"])
def test_a_probe_never_overdraws_the_budget(judged_by: str) -> None:
    one = trainer(config(epochs=None, gflop=2e-4))
    one.run_epoch()
    report = one.probe(probing(judged_by, (ProbeRound(10, 4),)))
    assert 0 < len(report.scores) < 4
    assert one.ledger.spent <= 200_000


@pytest.mark.parametrize("judged_by", ["validation", "training"])
def test_what_a_probe_books_is_what_torchs_own_counter_counts(judged_by: str) -> None:
    one = trained()
    with FlopCounterMode(display=False) as theirs:
        report = one.probe(probing(judged_by))
    assert report.flops == one.ledger.of(Account.PROBE) == theirs.get_total_flops()


def test_a_budget_that_is_nearly_spent_makes_no_fork_at_all() -> None:
    one = trainer(config(epochs=None, gflop=2e-4))
    while not one.finished:
        one.run_epoch()
    spent = one.ledger.spent
    assert one.probe(probing()).scores == ()
    assert one.ledger.spent == spent


GOOD = Candidate("one", "BP003", {"width": 2.0})
NONSENSE: dict[str, tuple[object, str]] = {
    "no plan": (object(), "a probe takes a ProbePlan, not a object"),
    "unknown site": (asking(replace(GOOD, site="nowhere")), "names nowhere; the sites are one, two"),
    "unknown blueprint": (asking(replace(GOOD, blueprint_id="BP999")), "there is no blueprint 'BP999'"),
    "wrong layout": (asking(replace(GOOD, blueprint_id="BP004")), "does not grow on site one, a vector"),
    "settings missing": (asking(replace(GOOD, parameters={})), "takes the settings width"),
    "settings out of range": (asking(replace(GOOD, parameters={"width": 0.0})), "takes a whole width"),
    "settings no numbers": (asking(replace(GOOD, parameters={"width": "a"})), "wrong type"),
    "one site twice": (asking(GOOD, GOOD), "two grafts at one site"),
    "no grafts": (asking(), "a contender without grafts"),
    "no contenders": (ProbePlan("p", (), ROUNDS), "has no contenders"),
    "grafts of no type": (ProbePlan("p", (Contender(None),), ROUNDS), "wrong type"),  # type: ignore[arg-type]
    "contender of no type": (ProbePlan("p", (object(),), ROUNDS), "wrong type"),  # type: ignore[arg-type]
    "no rounds": (replace(asking(GOOD), rounds=()), "has no rounds"),
    "no steps": (replace(asking(GOOD), rounds=(ProbeRound(0, 1),)), "0 steps that keeps 1"),
    "keeps none": (replace(asking(GOOD), rounds=(*ROUNDS, ProbeRound(3, 0))), "3 steps that keeps 0"),
    "no rate": (replace(asking(GOOD), rate_multiplier=math.nan), "rate multiplier nan"),
    "fewer than no examples": (replace(asking(GOOD), validation_examples=-1), "-1 validation examples"),
    "judged by nobody": (replace(asking(GOOD), judged_by="luck"), "wrong type"),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_refused_before_anything_is_forked(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork(*_: object) -> None:
        raise AssertionError("a fork was made")

    asked, message = NONSENSE[kind]
    one = trained()
    one._build = CATALOGUE.build
    before, accounts, stream = weights(one), one.ledger.accounts(), torch.get_rng_state()
    monkeypatch.setattr(probe, "Fork", no_fork)
    with pytest.raises(PlanRefused, match=message):
        one.probe(asked)  # type: ignore[arg-type]
    assert same(weights(one), before)
    assert one.ledger.accounts() == accounts
    assert torch.equal(stream, torch.get_rng_state())
    assert one.assemble().growth.evidence is None


def test_the_newest_report_is_part_of_the_view_from_then_on() -> None:
    one = trained()
    assert one.assemble().growth.evidence is None
    report = one.probe(probing())
    one.apply(plan())
    one.run_epoch()
    assert one.assemble().growth.evidence == report


def test_a_probe_trains_at_the_present_rate_times_the_plans_multiple() -> None:
    slow, usual = trained(), trained()
    still = slow.probe(ProbePlan("p", CONTENDERS[:1], (ProbeRound(3, 1),), rate_multiplier=1e-9))
    moved = usual.probe(ProbePlan("p", CONTENDERS[:1], (ProbeRound(3, 1),)))
    assert still.scores[0].gain == pytest.approx(0.0, abs=1e-6)
    assert abs(moved.scores[0].gain) > 1e-6


def test_a_contender_can_grow_at_several_sites_at_once() -> None:
    one = trained()
    alone = one.probe(ProbePlan("p", CONTENDERS[:1], (ProbeRound(3, 1),)))
    both = Contender((*CONTENDERS[0].grafts, *CONTENDERS[2].grafts))
    together = one.probe(ProbePlan("p", (both,), (ProbeRound(3, 1),)))
    assert together.scores[0].contender == both
    assert together.scores[0].step_flops > alone.scores[0].step_flops
    assert together.scores[0].loss_control == alone.scores[0].loss_control


def test_a_stop_ends_a_probe_after_the_present_step_and_what_was_spent_is_booked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, steps, step = trained(), [0], Fork._step

    def stopped_in_the_third(*args: Any) -> None:
        step(*args)
        steps[0] += 1
        if steps[0] == 3:
            one.stop()

    monkeypatch.setattr(Fork, "_step", stopped_in_the_third)
    report = one.probe(probing(rounds=(ProbeRound(8, 4),)))
    assert steps == [3]
    assert report.scores == ()
    assert report.flops == one.ledger.accounts()["probe"] > 0
