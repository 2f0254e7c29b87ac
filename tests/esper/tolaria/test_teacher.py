"""The teacher teaches, and nothing can teach the teacher."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.config import Config, DistillConfig, GrowthConfig
from esper.kasmina.graft import Grafts
from esper.tolaria.errors import BadData
from esper.tolaria.flops import Account
from esper.tolaria.record import from_record, to_record
from esper.tolaria.task import Task, Tensors
from esper.tolaria.teacher import Teacher, distance_for, soft_divergence
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria.world import (
    SITES,
    SmallSeed,
    config,
    fossilize,
    insert,
    learn,
    live,
    plan,
    remove,
    same,
    task,
    trainer,
    weights,
)

DISTILL = DistillConfig(weight=0.5, temperature=2.0)


def distilling(distill: DistillConfig = DISTILL, dropout: float = 0.0) -> Trainer:
    settings: Config = config(growth=GrowthConfig(shadow_every=2, distill=distill))
    one = trainer(settings, dropout)
    one.run_epoch()
    return one


def taught() -> Trainer:
    """One whose teacher has taught its seed for an epoch."""
    one = distilling()
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    return one


def teacher_of(one: Trainer) -> Teacher | None:
    return one._machine.distillation.teacher


def bits(teacher: Teacher | None) -> dict[str, Tensor]:
    assert teacher is not None
    return {name: tensor.clone() for name, tensor in teacher.tensors().items()}


def test_a_teacher_is_the_network_before_it_ran_with_the_seed_and_stays_it() -> None:
    one = distilling()
    before = weights(one)
    one.apply(plan(insert("one#0"), live("one#0")))
    assert teacher_of(one) is None
    one.run_epoch()
    assert same(bits(teacher_of(one)), before)
    one.run_epoch()
    assert same(bits(teacher_of(one)), before)
    assert not same({name: weights(one)[name] for name in before}, before)


@pytest.mark.parametrize("end", [remove("one#0"), fossilize("one#0")], ids=["removed", "fossilized"])
def test_it_is_let_go_when_nothing_is_undecided(end: object) -> None:
    one = taught()
    one.apply(plan(end))  # type: ignore[arg-type]
    one.run_epoch()
    assert teacher_of(one) is None
    assert not one._grafts.model._forward_pre_hooks


def test_an_isolated_seed_has_no_teacher_and_the_host_trains_as_if_it_were_not_there() -> None:
    one, alone = distilling(), distilling()
    one.apply(plan(insert("one#0"), learn("one#0")))
    assert one.run_epoch().train_loss == alone.run_epoch().train_loss
    assert teacher_of(one) is None


def test_nothing_that_trains_can_change_a_teacher() -> None:
    one = taught()
    teacher = teacher_of(one)
    assert teacher is not None
    before = bits(teacher)
    parameters = [t for t in teacher.tensors().values() if isinstance(t, nn.Parameter)]
    assert parameters
    known = {id(p) for group in one._machine.parts.optimizer.param_groups for p in group["params"]}
    assert not known & {id(parameter) for parameter in parameters}
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        kind(parameters, lr=1.0, weight_decay=0.1).step()
    outputs = teacher.outputs(one._task.train.inputs[:4])
    assert not outputs.requires_grad
    for _ in range(2):
        one.run_epoch()
    assert all(not p.requires_grad and p.grad is None for p in parameters)
    assert teacher_of(one) is teacher
    assert same(bits(teacher), before)


def write(tensor: Tensor) -> None:
    with torch.no_grad():
        tensor.add_(1.0)


def write_unseen(tensor: Tensor) -> None:
    tensor.data.add_(1.0)


@pytest.mark.parametrize("somebody", [write, write_unseen])
def test_a_teacher_that_somebody_writes_to_is_let_go_before_the_next_epoch(
    somebody: Callable[[Tensor], None],
) -> None:
    one = taught()
    spoilt, network = teacher_of(one), weights(one)
    assert spoilt is not None
    somebody(spoilt.tensors()["enter.weight"])
    assert not spoilt.intact
    one.run_epoch()
    assert teacher_of(one) is not spoilt
    taken = bits(teacher_of(one))
    assert same(taken, {name: network[name] for name in taken})


@pytest.mark.parametrize("somebody", [write, write_unseen])
def test_what_is_kept_of_a_teacher_is_what_it_was_when_it_was_taken(
    somebody: Callable[[Tensor], None],
) -> None:
    one = taught()
    kept, before = one.keep().teacher, bits(teacher_of(one))
    assert kept is not None
    somebody(teacher_of(one).tensors()["enter.weight"])
    assert same(dict(kept), before)
    assert same(dict(one.keep().teacher or {}), before)


def test_a_buffer_that_lies_in_the_middle_of_another_can_be_summed_too() -> None:
    host = nn.Linear(5, 3)
    host.register_buffer("mask", torch.ones(9, dtype=torch.bool)[1:])
    teacher = Teacher(Grafts(host, ()), frozenset(), 0)
    assert teacher.intact
    teacher.tensors()["mask"].data[0] = False
    assert not teacher.intact


def test_a_teacher_draws_from_no_stream_of_the_run() -> None:
    """The weight is the smallest that there is: the loss moves by nothing, the streams by nothing either."""
    one, other = (
        distilling(DistillConfig(weight=1e-300), dropout=0.3),
        distilling(DistillConfig(), dropout=0.3),
    )
    for run in (one, other):
        run.apply(plan(insert("one#0", dropout=0.2), live("one#0")))
    for _ in range(2):
        assert one.run_epoch().train_loss == other.run_epoch().train_loss
    assert same(weights(one), weights(other))
    assert teacher_of(one) is not None


def test_the_loss_has_the_teachers_term_and_its_passes_are_booked() -> None:
    plain, taught = distilling(DistillConfig()), distilling()
    for run in (plain, taught):
        run.apply(plan(insert("one#0"), live("one#0")))
        run.run_epoch()
    assert not same(weights(plain), weights(taught))
    steps = taught._config.train.epoch_steps
    booked = taught.ledger.of(Account.SHADOW) - plain.ledger.of(Account.SHADOW)
    forward = taught._machine.costs.forward(taught._config.train.batch_size)
    assert 0 < booked <= steps * forward
    assert booked % steps == 0


def test_training_goes_on_bit_for_bit_from_a_copy_with_its_teacher() -> None:
    one = distilling()
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0")))
    one.run_epoch()
    one.apply(plan(insert("two#0"), live("two#0", alpha=0.5)))
    one.run_epoch()
    kept, taught = one.keep(), bits(teacher_of(one))
    one.run_epoch()
    expected = weights(one)
    one.apply(plan(remove("two#0")))
    one.run_epoch()
    assert teacher_of(one) is None
    one.restore(kept)
    assert same(bits(teacher_of(one)), taught)
    one.run_epoch()
    assert same(weights(one), expected)


def test_the_distance_of_soft_targets_is_the_papers() -> None:
    student, teacher = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)), torch.zeros(7, 3)
    p, q = torch.softmax(teacher / 3.0, -1), torch.softmax(student / 3.0, -1)
    expected = 9.0 * (p * (p / q).log()).sum() / 7
    assert float(soft_divergence(student, teacher, 3.0)) == pytest.approx(float(expected), rel=1e-5)
    assert float(soft_divergence(student, student, 3.0)) == pytest.approx(0.0, abs=1e-6)


def regression(outputs: int, targets: Tensor) -> Task:
    data = Tensors(torch.zeros(len(targets), 4), targets)
    return Task(nn.Linear(4, outputs), data, data, data, F.mse_loss)


def test_for_numbers_it_is_the_mean_squared_error() -> None:
    distance = distance_for(regression(2, torch.zeros(5, 2)), DISTILL)
    assert float(distance(torch.ones(5, 2), torch.full((5, 2), 3.0))) == 4.0


def test_where_there_is_no_distance_it_is_said_at_the_start() -> None:
    unfit = regression(2, torch.zeros(5, 3))
    with pytest.raises(
        BadData, match=r"growth.distill has no distance for outputs \(2, 2\) with targets \(2, 3\)"
    ):
        distance_for(unfit, DISTILL)


def test_a_teacher_shares_nothing_with_the_network() -> None:
    the_task = task()
    grafts = Grafts(the_task.model, SITES)
    teacher = Teacher(grafts, frozenset(), 0)
    theirs = {t.untyped_storage().data_ptr() for t in grafts.model.state_dict().values()}
    assert not theirs & {t.untyped_storage().data_ptr() for t in teacher.tensors().values()}


def test_a_teacher_comes_back_from_disk_and_training_goes_on_bit_for_bit() -> None:
    one = distilling()
    one.apply(plan(insert("one#0"), live("one#0"), fossilize("one#0")))
    one.run_epoch()
    one.apply(plan(insert("two#0"), live("two#0", alpha=0.5)))
    one.run_epoch()
    record, tensors = to_record(one.keep())
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    taught = bits(teacher_of(one))
    one.run_epoch()
    other = distilling()
    other.restore(from_record(record, tensors, lambda _: SmallSeed(torch.Generator().manual_seed(5))))
    assert same(bits(teacher_of(other)), taught)
    other.run_epoch()
    assert same(weights(other), weights(one))


def test_nothing_of_a_teacher_stays_on_a_finished_network() -> None:
    one = distilling()
    one.run_epoch()
    one.apply(plan(insert("one#0"), live("one#0")))
    one.run_epoch()
    assert teacher_of(one) is not None
    assert one._grafts.model._forward_pre_hooks
    one.final()
    assert teacher_of(one) is None
    assert not one._grafts.model._forward_pre_hooks
