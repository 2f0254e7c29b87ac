"""Only registered parameters learn: what reaches into the host, or grows there unasked, is taken out."""

import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from contracts.growth import Operation
from contracts.lifecycle import Stage
from esper.karn.blueprint import is_dangerous
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.gates import breach
from esper.kasmina.graft import GraftError
from esper.kasmina.plan import Insert, SetAlpha
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria.world import (
    HIDDEN,
    SITES,
    Host,
    SmallSeed,
    host_weights,
    insert,
    live,
    plan,
    record,
    remove,
    same,
    trainer,
)


class Hook(nn.Module):
    """Contributes 0 and does something else once, when it is first run in training."""

    def __init__(self, host: Host, act: Callable[["Hook", Host], None]) -> None:
        super().__init__()
        self.host = weakref.ref(host)  # what it holds itself would be refused at the graft
        self.act = act
        self.done = False
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        host = self.host()
        if self.training and torch.is_grad_enabled() and not self.done and host is not None:
            self.done = True
            self.act(self, host)
        return h * self.scale


def late_in_itself(hook: Hook, host: Host) -> None:
    hook.extra = nn.Parameter(torch.zeros(3))


def late_child(hook: Hook, host: Host) -> None:
    hook.child = nn.Linear(2, 2)


def adds_a_layer(hook: Hook, host: Host) -> None:
    host.extra = nn.Linear(2, 2)


def adds_a_parameter(hook: Hook, host: Host) -> None:
    host.enter.extra = nn.Parameter(torch.zeros(3))


def replaces_a_weight(hook: Hook, host: Host) -> None:
    host.middle.bias = nn.Parameter(torch.zeros(HIDDEN))


def replaces_a_layer(hook: Hook, host: Host) -> None:
    host.leave = nn.Linear(HIDDEN, 3)


def comes_to_share(hook: Hook, host: Host) -> None:
    hook.scale.data = host.enter.weight.data[0, 0]


LATE = [
    late_in_itself,
    late_child,
    adds_a_layer,
    adds_a_parameter,
    replaces_a_weight,
    replaces_a_layer,
    comes_to_share,
]


class Holds(nn.Module):
    """A module that has been given something of the host's."""

    def __init__(self, **held: object) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, h: Tensor) -> Tensor:
        return h * self.scale


REACHING: dict[str, Callable[[Host], nn.Module]] = {
    "a child": lambda host: Holds(child=host.middle),
    "a parameter": lambda host: Holds(weight=host.middle.weight),
    "a view": lambda host: Holds(view=nn.Parameter(host.middle.weight.data[1:])),
    "a transposed view": lambda host: Holds(view=nn.Parameter(host.middle.weight.data.T)),
    "a buffer's memory": lambda host: Holds(statistics=nn.Parameter(host.norm.running_mean.data)),
    "a module in a list": lambda host: Holds(known=[host.middle]),
    "a tensor in an attribute": lambda host: Holds(known={"w": [host.middle.weight.detach()]}),
    "a bound method": lambda host: Holds(call=host.middle.forward),
    "a closure": lambda host: Holds(call=lambda: host.middle),
    "no shape yet": lambda host: Holds(child=nn.LazyLinear(3)),
}


def host_of(one: Trainer) -> Host:
    host = one._grafts.model
    assert isinstance(host, Host)
    return host


def layout_of(one: Trainer) -> list[str]:
    return [*dict(one._grafts.model.named_modules()), *dict(one._grafts.model.named_parameters())]


@pytest.mark.parametrize("kind", REACHING)
def test_a_module_that_reaches_into_the_host_is_not_grafted_and_nothing_changes(kind: str) -> None:
    one, alone = trainer(), trainer()
    for run in (one, alone):
        run.run_epoch()
    layout, params = layout_of(one), one.params
    applied = one.apply(
        plan(Insert(record("one#0", Stage.GERMINATED), REACHING[kind](host_of(one))), live("one#0"))
    )
    assert "one#0 was not grafted: one#0 " in applied.refused[0]
    assert (applied.params_added, one.params, layout_of(one)) == (0, params, layout)
    assert one.run_epoch().train_loss == alone.run_epoch().train_loss
    assert same(host_weights(one), host_weights(alone))
    figures = one.assemble().figures["one#0"]
    verdict = breach(record("one#0", Stage.GERMINATED), figures, one._config.growth.gates)
    assert verdict is not None, "the engine takes its record out at the next boundary"
    one.apply(plan(remove("one#0")))
    assert one.assemble().figures["one#0"].cleared is True


@pytest.mark.parametrize("act", LATE)
def test_what_a_seed_does_later_is_found_within_the_epoch_and_undone(
    act: Callable[[Hook, Host], None],
) -> None:
    one = trainer()
    one.run_epoch()
    host = host_of(one)
    layout, own = layout_of(one), [id(p) for _, p in one._grafts.host_named_parameters()]
    one.apply(plan(Insert(record("one#0", Stage.GERMINATED), Hook(host, act)), live("one#0")))
    one.run_epoch()
    figures = one.assemble().figures["one#0"]
    assert figures.foreign_parameters > 0
    verdict = breach(record("one#0", Stage.PROBATIONARY, alpha=1.0), figures, one._config.growth.gates)
    assert verdict is not None
    assert "foreign_parameters is" in verdict.reason
    one.apply(plan(remove("one#0")))
    assert layout_of(one) == layout
    assert [id(p) for p in host.parameters()] == own
    known = {id(p) for p in host.parameters()}
    optimizer = one._machine.parts.optimizer
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == known
    assert {id(p) for p in optimizer.state} <= known
    assert one._machine.safe_point.look() == ()
    one.run_epoch()


def test_harmless_seeds_are_never_accused() -> None:
    one = trainer()
    for number, seed_id in enumerate(("one#0", "two#0")):
        one.apply(plan(insert(seed_id), live(seed_id)))
        one.run_epoch()
        assert one._machine.safe_point.look() == ()
        assert one.assemble().figures[seed_id].foreign_parameters == 0, number
    one.apply(plan(remove("one#0")))
    one.restore(one.keep())
    one.run_epoch()
    assert one._machine.safe_point.look() == ()


def test_every_blueprint_that_fits_can_be_grafted() -> None:
    harmless = [one for one in CATALOGUE if not is_dangerous(one.descriptor)]
    fitting = [one for one in harmless if SITES[0].layout in one.layouts and not one.refusal(SITES[0])]
    assert len(fitting) >= 5
    for blueprint in fitting:
        settings = blueprint.fit(SITES[0], 1_000)
        assert settings is not None
        module = blueprint.build(SITES[0], settings, torch.Generator().manual_seed(1))
        one = trainer()
        one._grafts.insert("one#0", "one", module)
        assert one._grafts.registry.foreign() == ()


def test_a_strangers_parameter_is_told_and_nothing_is_grafted_beside_it() -> None:
    one = trainer()
    one.run_epoch()
    host_of(one).extra = nn.Linear(2, 2)
    one.run_epoch()
    names = [stranger.name for stranger in one._machine.safe_point.strangers]
    assert names == ["extra.weight", "extra.bias"]
    applied = one.apply(plan(insert("one#0")))
    assert "nothing is grafted while the model has foreign parameters: extra.weight" in applied.refused[0]
    del host_of(one).extra
    one.run_epoch()
    assert one._machine.safe_point.strangers == ()


def test_a_parameter_that_someone_gives_the_optimizer_is_found() -> None:
    one = trainer()
    one.run_epoch()
    optimizer = one._machine.parts.optimizer
    optimizer.param_groups[0]["params"].append(nn.Parameter(torch.zeros(2)))
    (found,) = one._machine.safe_point.look()
    assert "learns there" in str(found)


def test_a_parameter_that_someone_takes_out_of_the_optimizer_is_found_and_learns_on() -> None:
    one = trainer()
    one.run_epoch()
    group = one._machine.parts.optimizer.param_groups[0]
    gone = group["params"].pop()
    assert gone in one._machine.parts.optimizer.state, "its state alone does not let it learn"
    one.run_epoch()
    (found,) = one._machine.safe_point.strangers
    assert str(found) == "leave.bias is not in the optimizer"
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    assert one.assemble().figures["one#0"].foreign_parameters == 1, "it may be the seed's doing"
    before = gone.detach().clone()
    one.run_epoch()
    assert not torch.equal(gone, before)
    assert one._machine.safe_point.look() == ()


class Fails(SmallSeed):
    """Raises when it is put in."""

    def train(self, mode: bool = True) -> "Fails":
        raise RuntimeError("it won't be trained")


def test_an_insertion_that_raises_costs_the_seed_and_opens_the_breaker_in_the_end() -> None:
    one = trainer()
    one.run_epoch()
    guard = one._machine.safe_point.guard
    layout = layout_of(one)
    for number in range(3):
        broken = Fails(torch.Generator().manual_seed(0))
        applied = one.apply(plan(Insert(record(f"one#{number}", Stage.GERMINATED), broken)))
        assert "it won't be trained" in applied.refused[0]
        one.apply(plan(remove(f"one#{number}")))
        assert layout_of(one) == layout
    assert "insert is refused: it failed 3 times in a row" in guard.refusal(Operation.INSERT, 0)
    one.run_epoch()


def test_a_change_that_fails_sets_its_seed_aside() -> None:
    one = trainer()
    one.apply(plan(insert("one#0")))
    too_much = SetAlpha(record("one#0", Stage.BLENDING, alpha=1.0), 1.5)
    applied = one.apply(plan(too_much))
    assert "alpha of one#0 failed, and it was set aside" in applied.refused[0]
    assert one._grafts.alpha("one#0") == 0.0
    assert one._machine.parts.growth.seeds["one#0"].figures.finite is False
    with pytest.raises(GraftError):
        one._grafts.set_alpha("one#0", 1.5)
