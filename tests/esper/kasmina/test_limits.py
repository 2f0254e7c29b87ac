"""Limits on seeds at once: a refusal names limit, figure and what would work, and the room it names fits."""

import random
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.config import CheckpointConfig, Config, GrowthConfig, TrainConfig
from contracts.growth import Layout, Path, SiteInfo
from contracts.lifecycle import SeedOperation
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.graft import Grafts
from esper.kasmina.limits import ADAMS, BYTES_PER_MB, Burden, Limits, burden_of
from esper.tamiyo.action import Germinate, Wait
from esper.tamiyo.baselines import GrowBlindly
from esper.tolaria.optimizer import admit, make_optimizer
from esper.tolaria.undo import take_undo
from tests.esper.kasmina.engine_world import AT_ONCE, Rig
from tests.esper.tamiyo.views import state, view

counts = st.integers(0, 5_000)
maybe = st.none() | st.integers(1, 5_000)


@given(
    st.lists(counts, max_size=3), counts, st.integers(0, 20_000), maybe, maybe, st.none() | st.integers(1, 3)
)
def test_what_is_named_as_room_fits_and_one_parameter_more_does_not(
    active: list[int],
    params: int,
    params_now: int,
    together: int | None,
    whole: int | None,
    megabytes: int | None,
) -> None:
    limits = Limits(
        GrowthConfig(max_active=4, max_params=whole, max_active_params=together, max_active_mb=megabytes)
    )
    room = limits.room(active, params_now)
    if whole is not None:
        room = min(room, max(0, whole - params_now))
    refusal = limits.refusal(params, active, params_now)
    if params:
        assert (refusal == "") == (params <= room)
    if refusal:
        assert re.search(r"and (max_params|max_active_params|max_active_mb) is \d+: .", refusal)
        assert limits.refusal(room, active, params_now) == "" or room == 0
    if named := re.search(r"at most (\d+) fit", refusal):
        assert int(named[1]) >= room


@pytest.mark.parametrize(
    ("growth", "said"),
    [
        (
            GrowthConfig(path=AT_ONCE, max_active_params=159),
            "80 more parameters would make 160 of seeds whose fate is open, and max_active_params is 159: "
            "at most 79 fit, or fossilize or cull one first",
        ),
        (
            GrowthConfig(path=AT_ONCE, max_active_params=80),
            "max_active_params is 80: fossilize or cull one first",
        ),
    ],
)
def test_parameters_at_once_are_counted_to_the_last_one_until_a_seed_is_decided(
    growth: GrowthConfig, said: str
) -> None:
    rig = Rig(growth)
    rig.grown(SeedOperation.GERMINATE)
    refused = rig.do(rig.germinate("b"))
    assert not refused.applied
    assert said in refused.refusal
    assert rig.world.in_place == {"a#0"}
    rig.do(rig.command(SeedOperation.FOSSILIZE))
    assert rig.do(rig.germinate("b")).applied


def test_a_seed_that_no_decision_could_make_room_for_is_told_to_raise_the_limit() -> None:
    rig = Rig(GrowthConfig(path=AT_ONCE, max_active_mb=1))
    rig.params = 100_000  # a copy of the network to go back to takes 1.2 MB
    refused = rig.propose(rig.germinate())
    assert not refused.applied
    assert refused.refusal == (
        "with 80 more parameters the seeds whose fate is open would take 1.2 MB, "
        "and max_active_mb is 1: raise it"
    )
    rig.params = 80_000
    assert rig.propose(rig.germinate()).applied


@pytest.mark.parametrize(
    "train",
    [
        TrainConfig(),
        TrainConfig(optimizer="adamw"),
        TrainConfig(optimizer="adam_amsgrad"),
        TrainConfig(optimizer="sgd"),
        TrainConfig(optimizer="sgd", momentum=0.0),
        TrainConfig(optimizer="rmsprop"),
        TrainConfig(optimizer="rmsprop", momentum=0.5),
    ],
    ids=lambda train: f"{train.optimizer} {train.momentum}",
)
def test_memory_is_that_of_the_tensors_that_are_really_kept(train: TrainConfig) -> None:
    """Weights, gradients and optimizer state of the seed, the way back, as many boundaries as are kept."""
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    grafts = Grafts(model, [SiteInfo("0", Layout.VECTOR, (64,), 64, 0)])
    optimizer = make_optimizer(grafts.host_named_parameters(), train)

    def step() -> None:
        optimizer.zero_grad()
        F.mse_loss(model(torch.ones(4, 64)), torch.zeros(4, 64)).backward()
        optimizer.step()

    step()
    params_now = sum(parameter.numel() for parameter in model.parameters())
    undo = take_undo(model, optimizer)
    module = nn.Linear(64, 64)
    grafts.insert("0#0", "0", module)
    grafts.set_alpha("0#0", 1.0)
    admit(optimizer, "0#0", grafts.named_parameters("0#0"), 1e-3)
    step()
    own = [t for p in module.parameters() for t in (p, p.grad, *optimizer.state[p].values())]
    kept = take_undo(module, optimizer).nbytes
    really = sum(t.nbytes for t in own if isinstance(t, Tensor)) + undo.nbytes + 3 * kept
    burden = burden_of(grafts, Config(train=train, checkpoint=CheckpointConfig(boundaries=3)))
    params = sum(parameter.numel() for parameter in module.parameters())
    assert burden.of([params], params_now) == pytest.approx(really, rel=1e-3)


def test_a_host_of_64_bits_takes_twice_as_much() -> None:
    model = nn.Sequential(nn.Linear(8, 8)).double()
    burden = burden_of(Grafts(model, [SiteInfo("0", Layout.VECTOR, (8,), 8, 0)]), Config())
    assert burden == Burden(value_bytes=8)
    assert burden.of([10, 20], 100) == 2 * ADAMS.of([10, 20], 100)


@pytest.mark.parametrize(("limit", "grows"), [(0, 0), (120, 3)])
def test_blind_growth_waits_without_a_refusal_while_there_is_no_room_and_fits_what_there_is(
    limit: int, grows: int
) -> None:
    """The seeds at once may have `limit` parameters; each is decided before the next is due."""
    growth = GrowthConfig(path=Path(0, 0, 0, 2))
    policy = GrowBlindly(CATALOGUE, random.Random(1), growth, seeds=3, window=(0.1, 0.4))
    grown = []
    for epoch in range(100):
        seen = view(epoch, progress=epoch / 100, seed_params_max=limit)
        action = policy.act(state(epoch), seen)
        if isinstance(action, Germinate):
            grown.append(action.candidate.params)
        else:
            assert isinstance(action, Wait)
    assert len(grown) == grows
    assert all(0 < params <= limit for params in grown)


def test_the_megabytes_are_of_a_million_bytes() -> None:
    limits = Limits(GrowthConfig(max_active_mb=1), Burden(value_bytes=1, state_values=0, boundaries=0))
    assert limits.room([], 0) == BYTES_PER_MB // 2
    assert limits.refusal(BYTES_PER_MB // 2, [], 0) == ""
    assert "at most 500000 fit" in limits.refusal(BYTES_PER_MB // 2 + 1, [], 0)
