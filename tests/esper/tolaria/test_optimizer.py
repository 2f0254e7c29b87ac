import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from contracts.config import TrainConfig
from esper.tolaria.optimizer import (
    admit,
    dismiss,
    holds,
    join_host,
    make_optimizer,
    restore_state,
    state_by_name,
)
from esper.tolaria.rates import HOST
from tests.esper.tolaria.world import Host

Named = list[tuple[str, nn.Parameter]]
Make = Callable[[Named], Optimizer]
RATE = 0.01
TRAIN = TrainConfig(learning_rate=RATE)


def grouped(named: Named) -> list[dict[str, object]]:
    return [{"params": [p for _, p in named], "name": HOST}]


KINDS: dict[str, Make] = {
    "adam": lambda named: Adam(grouped(named), lr=RATE),
    "fused adam": lambda named: make_optimizer(named, TRAIN),
    "adam with amsgrad": lambda named: Adam(grouped(named), lr=RATE, amsgrad=True),
    "adamw": lambda named: AdamW(grouped(named), lr=RATE, weight_decay=0.1),
    "sgd with momentum": lambda named: SGD(grouped(named), lr=RATE, momentum=0.9, nesterov=True),
    "rmsprop": lambda named: RMSprop(grouped(named), lr=RATE, momentum=0.5, centered=True),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def host() -> Named:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return list(Host().named_parameters())


def seed() -> Named:
    return [("seed.weight", nn.Parameter(torch.ones(3, 2))), ("seed.bias", nn.Parameter(torch.ones(3)))]


def step(optimizer: Optimizer, named: Named, number: int) -> None:
    """One step with gradients that depend on the parameter's name and the step alone."""
    for name, parameter in named:
        generator = torch.Generator().manual_seed(sum(map(ord, name)) * 1_000 + number)
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def values(named: Named) -> list[Tensor]:
    return [p.detach().clone() for _, p in named]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def state_equal(optimizer: Optimizer, named: Named, before: dict[str, dict[str, object]]) -> bool:
    now = state_by_name(optimizer, named)
    return now.keys() == before.keys() and all(
        torch.equal(torch.as_tensor(now[name][key]), torch.as_tensor(value))
        for name, entries in before.items()
        for key, value in entries.items()
        if value is not None
    )


@every_kind
def test_admitting_a_seed_keeps_the_old_state_bit_for_bit(kind: str) -> None:
    named = host()
    optimizer = KINDS[kind](named)
    for number in range(3):
        step(optimizer, named, number)
    before, weights = state_by_name(optimizer, named), values(named)
    admit(optimizer, "seed", seed(), RATE)
    assert state_equal(optimizer, named, before)
    assert equal(values(named), weights)


@every_kind
def test_the_host_trains_as_if_the_seed_had_never_been_admitted_or_dismissed(kind: str) -> None:
    plain, grown, guest = host(), host(), seed()
    alone, together = KINDS[kind](plain), KINDS[kind](grown)
    for number in range(9):
        if number == 2:
            admit(together, "seed", guest, RATE)
        if number == 6:
            dismiss(together, guest)
        step(alone, plain, number)
        step(together, grown + guest if 2 <= number < 6 else grown, number)
    assert equal(values(plain), values(grown))
    assert not holds(together, guest)
    assert len(together.param_groups) == 1


OPERATIONS = st.sampled_from(["step", "admit", "dismiss", "join", "keep", "go back"])


@every_kind
@settings(max_examples=15)
@given(st.lists(OPERATIONS, max_size=14))
def test_whatever_grows_the_hosts_weights_and_state_are_torchs_bit_for_bit(
    kind: str, operations: list[str]
) -> None:
    plain, named = host(), host()
    alone, optimizer = KINDS[kind](plain), KINDS[kind](named)
    open_seeds: dict[str, Named] = {}
    joined: Named = []
    number, kept = 0, None
    for index, operation in enumerate([*operations, "step"]):
        if operation == "admit":
            guest = [(f"{index}.{name}", parameter) for name, parameter in seed()]
            admit(optimizer, str(index), guest, RATE / 2)
            open_seeds[str(index)] = guest
        elif operation == "dismiss" and open_seeds:
            dismiss(optimizer, open_seeds.popitem()[1])
        elif operation == "join" and open_seeds:
            seed_id, guest = open_seeds.popitem()
            join_host(optimizer, seed_id)
            joined += guest
        elif operation == "keep":
            kept = (number, values(named), state_by_name(optimizer, named))
            beside = copy.deepcopy(([p for _, p in plain], alone))
        elif operation == "go back" and kept is not None:
            number, weights, state = kept
            restore_state(optimizer, named, state)
            with torch.no_grad():
                for (_, parameter), weight in zip(named, weights, strict=True):
                    parameter.copy_(weight)
            parameters, alone = copy.deepcopy(beside)
            plain = [(name, p) for (name, _), p in zip(plain, parameters, strict=True)]
        else:
            step(alone, plain, number)
            step(
                optimizer, [*named, *joined, *(one for guest in open_seeds.values() for one in guest)], number
            )
            number += 1
        assert equal(values(named), values(plain))
        assert state_equal(optimizer, named, state_by_name(alone, plain))
    assert [group["name"] for group in optimizer.param_groups] == [HOST, *open_seeds]


@every_kind
def test_a_seed_trains_as_torch_would_train_it_from_its_admission(kind: str) -> None:
    named, guest, twin = host(), seed(), seed()
    optimizer, theirs = KINDS[kind](named), KINDS[kind](twin)
    step(optimizer, named, 0)
    admit(optimizer, "seed", guest, RATE)
    for number in range(1, 6):
        step(optimizer, named + guest, number)
        step(theirs, twin, number)
    assert equal(values(guest), values(twin))


@every_kind
def test_joining_the_host_changes_no_number(kind: str) -> None:
    apart, joined = host() + seed(), host() + seed()
    optimizers = []
    for named in (apart, joined):
        optimizer = KINDS[kind](named[:-2])
        admit(optimizer, "seed", named[-2:], RATE)
        step(optimizer, named, 0)
        optimizers.append(optimizer)
    join_host(optimizers[1], "seed")
    for number in range(1, 4):
        step(optimizers[0], apart, number)
        step(optimizers[1], joined, number)
    assert [group["name"] for group in optimizers[1].param_groups] == [HOST]
    assert equal(values(apart), values(joined))


@every_kind
def test_state_restored_by_name_continues_bit_for_bit(kind: str) -> None:
    named = host()
    optimizer = KINDS[kind](named)
    for number in range(3):
        step(optimizer, named, number)
    kept, weights = state_by_name(optimizer, named), values(named)
    step(optimizer, named, 3)
    expected = values(named)
    step(optimizer, named, 4)
    restore_state(optimizer, named, kept)
    with torch.no_grad():
        for (_, parameter), weight in zip(named, weights, strict=True):
            parameter.copy_(weight)
    step(optimizer, named, 3)
    assert equal(values(named), expected)


def test_a_copied_optimizer_goes_on_as_the_original() -> None:
    named = host()
    optimizer = make_optimizer(named, TRAIN)
    step(optimizer, named, 0)
    twin, theirs = copy.deepcopy((optimizer, named))
    step(optimizer, named, 1)
    assert not equal(values(named), values(theirs))
    step(twin, theirs, 1)
    assert equal(values(named), values(theirs))


def test_state_copied_by_name_does_not_change_when_training_goes_on() -> None:
    named = host()
    optimizer = make_optimizer(named, TRAIN)
    step(optimizer, named, 0)
    kept = state_by_name(optimizer, named)
    first = kept["enter.weight"]["exp_avg"].clone()
    step(optimizer, named, 1)
    assert torch.equal(kept["enter.weight"]["exp_avg"], first)


def test_a_parameter_without_state_has_none_after_a_restore_either() -> None:
    named = host()
    optimizer = make_optimizer(named, TRAIN)
    kept = state_by_name(optimizer, named)
    step(optimizer, named, 0)
    restore_state(optimizer, named, kept)
    assert state_by_name(optimizer, named) == {}


def test_a_group_name_is_given_once_and_a_refusal_changes_nothing() -> None:
    named, guest = host(), seed()
    optimizer = make_optimizer(named, TRAIN)
    admit(optimizer, "seed", guest, RATE)
    with pytest.raises(ValueError, match="dismiss it first"):
        admit(optimizer, "seed", seed(), RATE)
    with pytest.raises(ValueError, match="more than one"):
        admit(optimizer, "again", guest, RATE)
    assert [group["name"] for group in optimizer.param_groups] == [HOST, "seed"]


def test_a_seed_without_parameters_needs_no_group() -> None:
    optimizer = make_optimizer(host(), TRAIN)
    admit(optimizer, "seed", [], RATE)
    assert len(optimizer.param_groups) == 1
