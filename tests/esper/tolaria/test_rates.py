import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from esper.tolaria.optimizer import admit, dismiss, join_host
from esper.tolaria.rates import HOST, Rates
from esper.tolaria.schedule import Cycled, Linear, OneCycle, Schedule, Settings
from esper.tolaria.watch import TOLD_MAX, ForeignChange

SCHEDULE = Linear(peak=0.01, decay_from=0.7, final_rate=0.02)
ONE_CYCLE = OneCycle(0.01, 0.5, 0.5, 0.5, Cycled("momentum", 0.8, 0.9))


def groups(*names: str) -> list[dict[str, Any]]:
    return [{"params": [torch.zeros(1, requires_grad=True)], "name": name} for name in names]


def optimizer(*names: str) -> Optimizer:
    return SGD(groups(*names), lr=0.01, momentum=0.9, weight_decay=0.1)


def test_a_seed_warms_up_linearly_to_its_own_multiple() -> None:
    opt = optimizer(HOST, "seed")
    rates = Rates(opt, SCHEDULE)
    rates.admit("seed", multiplier=0.5, warmup_steps=4)
    seen = []
    for _ in range(6):
        rates.apply(0.0)
        seen.append(opt.param_groups[1]["lr"])
    assert seen == pytest.approx([0.00125, 0.0025, 0.00375, 0.005, 0.005, 0.005])
    assert opt.param_groups[0]["lr"] == 0.01


def test_a_dismissed_seed_follows_the_host() -> None:
    opt = optimizer(HOST, "seed")
    rates = Rates(opt, SCHEDULE)
    rates.admit("seed", multiplier=0.5, warmup_steps=0)
    rates.apply(0.0)
    rates.dismiss("seed")
    rates.apply(0.0)
    assert opt.param_groups[1]["lr"] == 0.01
    assert rates.foreign_changes == 0


def test_a_rate_changed_by_someone_else_is_found_at_the_next_step_and_overwritten() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    rates.apply(0.0)
    opt.param_groups[0]["lr"] = 1.0
    rates.apply(0.0)
    assert rates.foreign_changes == 1
    assert opt.param_groups[0]["lr"] == 0.01
    rates.apply(0.8)
    assert rates.foreign_changes == 1


def test_a_rate_changed_before_the_first_step_is_found_too() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    opt.param_groups[0]["lr"] = 1.0
    rates.apply(0.0)
    assert rates.take_told() == (ForeignChange(HOST, "lr", "0.01", "1.0"),)


@pytest.mark.parametrize(
    ("key", "value", "was", "found"),
    [
        ("momentum", 0.5, "0.9", "0.5"),
        ("weight_decay", 0.0, "0.1", "0.0"),
        ("lr", torch.tensor(0.01), "0.01", "tensor(0.0100)"),
        ("lr", torch.tensor([1.0, 2.0]), "0.01", "tensor([1., 2.])"),
        ("lr", "fast", "0.01", "fast"),
        ("lr", float("nan"), "0.01", "nan"),
    ],
)
def test_what_someone_else_changed_is_told_with_group_from_and_to(
    key: str, value: object, was: str, found: str
) -> None:
    opt = optimizer(HOST, "seed")
    rates = Rates(opt, SCHEDULE)
    rates.apply(0.0)
    before = opt.param_groups[1][key]
    opt.param_groups[1][key] = value
    rates.apply(0.0)
    assert opt.param_groups[1][key] == before
    (told,) = rates.take_told()
    assert told == ForeignChange("seed", key, was, found)
    assert told.text == (
        f"someone else changed {key} of the optimizer's group seed from {was} to {found}; it is changed back"
    )
    assert rates.take_told() == ()
    assert rates.foreign_changes == 1


def test_a_setting_that_someone_deleted_is_put_back() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    del opt.param_groups[0]["momentum"]
    rates.apply(0.0)
    assert opt.param_groups[0]["momentum"] == 0.9
    assert rates.take_told() == (ForeignChange(HOST, "momentum", "0.9", "nothing"),)


def test_betas_are_watched_and_what_nobody_schedules_is_not() -> None:
    opt = Adam(groups(HOST), lr=0.01)
    rates = Rates(opt, SCHEDULE)
    opt.param_groups[0].update(betas=(0.5, 0.999), eps=1e-3)
    rates.apply(0.0)
    assert [change.setting for change in rates.take_told()] == ["betas"]
    assert opt.param_groups[0]["betas"] == (0.9, 0.999)
    assert opt.param_groups[0]["eps"] == 1e-3


def test_a_group_that_someone_added_is_taken_out_again_with_its_state() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    theirs = nn.Parameter(torch.ones(2))
    opt.add_param_group({"params": [theirs], "lr": 0.5})
    opt.state[theirs]["momentum_buffer"] = torch.ones(2)
    rates.apply(0.0)
    assert [group["name"] for group in opt.param_groups] == [HOST]
    assert theirs not in opt.state
    (told,) = rates.take_told()
    assert (told.group, told.setting, told.was) == ("without a name", "group", "absent")
    assert told.found == "added with lr 0.5 and 1 tensors"


def test_a_foreign_group_that_bears_the_hosts_name_is_not_taken_for_the_host() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    host, theirs = opt.param_groups[0], nn.Parameter(torch.ones(2))
    opt.param_groups.insert(0, {**host, "params": [theirs]})
    rates.apply(0.0)
    assert len(opt.param_groups) == 1
    assert opt.param_groups[0] is host


def test_a_group_that_someone_took_out_is_put_back_and_set() -> None:
    opt = optimizer(HOST, "seed")
    rates = Rates(opt, SCHEDULE)
    rates.apply(0.0)
    seed = opt.param_groups.pop(1)
    rates.apply(0.9)
    assert opt.param_groups[1] is seed
    assert seed["lr"] == opt.param_groups[0]["lr"] < 0.01
    assert rates.take_told() == (ForeignChange("seed", "group", "present", "taken out"),)


def test_a_foreign_group_is_gone_when_the_epoch_is_over_too() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    rates.apply(0.0)
    opt.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    rates.epoch_over(1.0)
    assert len(opt.param_groups) == 1
    assert rates.foreign_changes == 1


def test_state_that_someone_loads_into_the_optimizer_is_told_only_where_it_differs() -> None:
    opt = optimizer(HOST, "seed")
    rates = Rates(opt, SCHEDULE)
    rates.apply(0.0)
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    rates.apply(0.0)
    assert rates.foreign_changes == 0
    loaded = copy.deepcopy(opt.state_dict())
    loaded["param_groups"][1]["lr"] = 7.0
    opt.load_state_dict(loaded)
    rates.apply(0.0)
    assert rates.take_told() == (ForeignChange("seed", "lr", "0.01", "7.0"),)
    assert opt.param_groups[1]["lr"] == 0.01


def test_our_own_growing_is_no_foreign_change() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    rates.apply(0.0)
    seeds = {name: [(name, nn.Parameter(torch.ones(2)))] for name in ("stays", "goes")}
    for name, named in seeds.items():
        admit(opt, name, named, rates.of(HOST))
        rates.apply(0.0)
        rates.admit(name, 1.0, 2)
        rates.apply(0.0)
    join_host(opt, "stays")
    rates.dismiss("stays")
    dismiss(opt, seeds["goes"])
    rates.dismiss("goes")
    rates.apply(0.0)
    assert rates.foreign_changes == 0
    assert [group["name"] for group in opt.param_groups] == [HOST]
    assert rates.of("goes") == 0.0


def test_many_changes_are_all_counted_and_the_newest_told() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    for number in range(TOLD_MAX + 5):
        opt.param_groups[0]["lr"] = float(number + 1)
        rates.apply(0.0)
    told = rates.take_told()
    assert rates.foreign_changes == TOLD_MAX + 5
    assert len(told) == TOLD_MAX
    assert told[-1].found == f"{TOLD_MAX + 5}.0"


def test_a_host_of_several_groups_keeps_their_ratios_and_their_own_weight_decay() -> None:
    made = groups(HOST, f"{HOST}/1", f"{HOST}/2")
    made[1]["lr"], made[1]["weight_decay"], made[2]["momentum"] = 0.1, 0.0, 0.5
    opt = SGD(made, lr=0.01, momentum=0.9, weight_decay=0.1)
    rates = Rates(opt, ONE_CYCLE)
    for progress in (0.0, 0.3, 0.5, 0.9):
        base = rates.apply(progress)
        first, second, third = opt.param_groups
        assert (first["lr"], second["lr"], third["lr"]) == (base, pytest.approx(10 * base), base)
        assert [group["weight_decay"] for group in opt.param_groups] == [0.1, 0.0, 0.1]
        assert first["momentum"] == second["momentum"] == ONE_CYCLE.at(progress)["momentum"]
        assert third["momentum"] == 0.5
    assert rates.foreign_changes == 0


def test_a_momentum_that_is_cycled_is_watched_like_a_rate() -> None:
    opt = optimizer(HOST, "seed")
    rates = Rates(opt, ONE_CYCLE)
    rates.apply(0.1)
    opt.param_groups[1]["momentum"] = 0.0
    rates.apply(0.2)
    assert [group["momentum"] for group in opt.param_groups] == [ONE_CYCLE.at(0.2)["momentum"]] * 2
    assert rates.foreign_changes == 1


def test_a_restored_warm_up_goes_on_where_it_was() -> None:
    opt = optimizer(HOST, "seed")
    rates = Rates(opt, SCHEDULE)
    rates.admit("seed", 1.0, warmup_steps=10)
    for _ in range(3):
        rates.apply(0.0)
    state = rates.state()
    rates.apply(0.0)
    expected = opt.param_groups[1]["lr"]
    rates.apply(0.0)
    rates.restore(state)
    rates.apply(0.0)
    assert opt.param_groups[1]["lr"] == expected
    assert rates.foreign_changes == 0


def test_what_someone_else_changed_behind_the_last_step_is_not_kept_as_ours() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    rates.apply(0.0)
    opt.param_groups[0].update(lr=1.0, momentum=0.0)
    state = rates.state()
    assert state.rates == {HOST: 0.01}
    assert state.settings == {HOST: {"momentum": 0.9, "weight_decay": 0.1}}
    rates.restore(state)
    assert (opt.param_groups[0]["lr"], opt.param_groups[0]["momentum"]) == (0.01, 0.9)
    assert rates.foreign_changes == 0


def test_foreign_changes_are_part_of_the_state() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    opt.param_groups[0]["lr"] = 1.0
    rates.apply(0.0)
    anew = Rates(optimizer(HOST), SCHEDULE)
    anew.restore(rates.state())
    assert anew.foreign_changes == 1
    assert anew.state() == rates.state()
    told = rates.take_told()
    assert (len(told), anew.take_told()) == (1, told), "what nobody has asked for yet is told there"
    assert anew.state().untold == ()


def test_going_back_tells_no_foreign_change_twice_and_forgets_none() -> None:
    opt = optimizer(HOST)
    rates = Rates(opt, SCHEDULE)
    before = rates.state()
    opt.param_groups[0]["lr"] = 1.0
    rates.apply(0.0)
    found = rates.state()
    rates.restore(before)
    assert rates.state().untold == found.untold, "what was found since stays to be told"
    rates.restore(found)
    assert rates.take_told() == found.untold


@dataclass
class Random(Schedule):
    """A schedule of settings given beforehand."""

    has_steps = True
    settings: list[tuple[float, float]]
    step: int = 0
    rest: dict[str, float] = field(default_factory=dict)

    def at(self, progress: float) -> Settings:
        rate, momentum = self.settings[self.step % len(self.settings)]
        return {"lr": rate, "momentum": momentum}

    def step_taken(self) -> None:
        self.step += 1


NUMBERS = st.sampled_from([0.0, 0.25, 0.5, 0.75])
CHANGES = st.tuples(st.integers(0, 1), st.sampled_from(["lr", "momentum", "weight_decay"]), NUMBERS)


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6),
    st.lists(st.lists(CHANGES, max_size=3), min_size=1, max_size=8),
)
def test_whatever_someone_else_does_each_step_is_taken_with_ours_and_every_change_is_counted(
    scheduled: list[tuple[float, float]], foreign: list[list[tuple[int, str, float]]]
) -> None:
    opt = optimizer(HOST, "seed")
    rates = Rates(opt, Random(scheduled))
    rates.admit("seed", 0.5, 0)
    expected = 0
    for number, changes in enumerate(foreign):
        before = [dict(group) for group in opt.param_groups]
        for index, key, value in changes:
            opt.param_groups[index][key] = value
        expected += sum(
            group[key] != was[key]
            for group, was in zip(opt.param_groups, before, strict=True)
            for key in ("lr", "momentum", "weight_decay")
        )
        rates.apply(0.0)
        rate, momentum = scheduled[number % len(scheduled)]
        assert [group["lr"] for group in opt.param_groups] == [rate, rate * 0.5]
        assert {group["momentum"] for group in opt.param_groups} == {momentum}
        assert {group["weight_decay"] for group in opt.param_groups} == {0.1}
    assert rates.foreign_changes == expected == len(rates.take_told())
