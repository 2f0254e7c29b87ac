"""Whole runs with every actor and a real network, on a virtual clock, into which a bad number is put once.

clean = run()
harmed = run(Dose("loss nan", epoch=5, step=0))     # at the first step of the fifth epoch

While it runs each optimizer step is looked at before and after it is taken: nothing that it uses and nothing
that it leaves may be NaN or infinite, and no step may be taken with what was harmed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from statistics import mean, stdev
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor

from actors.company import Company, Outcome
from actors.orders import Orders
from actors.play import play_of
from actors.runtime.simulation import run_simulated
from contracts.config import Config, EmergencyConfig
from contracts.emergency import SeedOrder
from contracts.growth import Candidate, GrowthView, ProbePlan, ProbeReport
from contracts.lifecycle import Stage
from contracts.messages import SystemState
from contracts.view import RunFacts
from esper.assembly import Parts, assemble_parts
from esper.kasmina.plan import GraftPlan
from esper.tamiyo.action import Action, Cull, Germinate, Wait
from esper.tamiyo.baselines import NeverGrow
from esper.tamiyo.passage import due
from esper.tolaria.results import Applied, Assembled, EpochResult, FinalFigures
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.task import Tensors, class_accuracy
from esper.tolaria.trainer import Trainer
from tests.actors.fakes import Spectator
from tests.actors.staging import surroundings, way_of
from tests.esper.tolaria.runs import PATH, WITH_RESTLESS, config, same_value, task_of
from tests.hosts import HOSTS, loss_fn

HOST = HOSTS[0]
EPOCHS, STEPS, SEED = 24, 6, 5
CULLED_AT, TERMINATED_AT = 12, 18
"""Epochs after which a seed on probation is taken out, so that its site rests, and a fossil is taken down."""
TRAIN, VALIDATED, TEST = 90, 60, 400
"""Examples. The network is validated on what it learns, so that what it learns is a gain and seeds stay."""


class Dose(NamedTuple):
    """What is put in, and where; epochs are counted from 1, steps from 0."""

    harm: str
    epoch: int
    step: int


@dataclass
class Poisoner:
    """The training loop's loss function, which does harm once; and what it sees on its way."""

    parts: Parts
    dose: Dose | None
    epoch: int = 0
    """The one that is being trained."""
    step: int = -1
    """Of it, counted from its first try on."""
    harmed: bool = False
    """This step's numbers are bad."""
    given: bool = False
    training: bool = False
    """The task's loss is called for a step."""
    steps_taken: int = 0
    stages: dict[int, tuple[Stage, ...]] = field(default_factory=dict)
    """Of every seed, by epoch."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        epoch = self.parts.trainer._at.epoch + 1
        self.step = self.step + 1 if epoch == self.epoch else 0
        self.epoch = epoch
        self.stages.setdefault(epoch, tuple(one.stage for one in self.parts.engine.records()))
        self.training = True
        dose, loss = self.dose, self.task_loss(outputs, targets)
        self.training = False
        self.harmed = dose is not None and not self.given and dose[1:] == (epoch, self.step)
        if dose is None or not self.harmed:
            return loss
        if dose.harm == BESIDE:  # this step is sound: what comes beside it is not
            self.harmed = False
            return loss
        self.given = True
        return HARMS[dose.harm](self, loss)

    def task_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The task's own loss, which also those call who measure beside training."""
        loss, dose = loss_fn(outputs, targets), self.dose
        if self.training or self.given or dose is None or dose.harm != BESIDE:
            return loss
        self.given = (self.epoch, self.step) >= dose[1:]
        return loss * float("nan") if self.given else loss

    def before_a_step(self) -> None:
        """What the optimizer is about to use."""
        assert not self.harmed, "a step is taken with what was harmed"
        model = self.parts.model
        assert_finite({name: one.grad for name, one in model.named_parameters() if one.grad is not None})
        assert_finite(dict(model.named_buffers()))
        self.steps_taken += 1

    def after_a_step(self) -> None:
        """What it has made of it."""
        assert_finite(dict(self.parts.model.named_parameters()))


def assert_finite(tensors: Mapping[str, object]) -> None:
    """Looks at those of the values that are tensors of floats."""
    floats = {key: one for key, one in tensors.items() if isinstance(one, Tensor) and one.is_floating_point()}
    if floats and not bool(torch.cat([one.detach().flatten() for one in floats.values()]).isfinite().all()):
        bad = [name for name, tensor in floats.items() if not bool(tensor.isfinite().all())]
        raise AssertionError(f"{', '.join(bad)}: not finite")


def _in_a_gradient(value: float) -> Callable[[Poisoner, Tensor], Tensor]:
    """One number of the gradient of one parameter, the youngest; the loss and all others are sound."""

    def harm(poisoner: Poisoner, loss: Tensor) -> Tensor:
        *_, parameter = poisoner.parts.model.parameters()

        def spoil(gradient: Tensor) -> Tensor:
            handle.remove()
            spoilt = gradient.clone()
            spoilt.view(-1)[-1] = value
            return spoilt

        handle = parameter.register_hook(spoil)  # type: ignore[no-untyped-call]
        return loss

    return harm


def _in_the_pass(poisoner: Poisoner, loss: Tensor) -> Tensor:
    """As a bad activation leaves it: running statistics are bad before the loss is even known."""
    for name, buffer in poisoner.parts.model.named_buffers():
        if name.endswith("running_mean"):
            buffer.data.fill_(float("nan"))
    return loss * float("nan")


HARMS: Mapping[str, Callable[[Poisoner, Tensor], Tensor]] = {
    "loss nan": lambda poisoner, loss: loss * float("nan"),
    "loss inf": lambda poisoner, loss: loss + float("inf"),
    "gradient nan": _in_a_gradient(float("nan")),
    "gradient inf": _in_a_gradient(float("-inf")),
    "pass nan": _in_the_pass,
}
BESIDE = "beside nan"
"""The first loss from this step on that is no step's own: of a seed in isolation, or of a measurement."""


class Tour(NeverGrow):
    """Takes one seed through every stage to fossilization, and another one as far as probation and out again.

    It decides by the view alone, and so it has nothing to remember.
    """

    def act(self, state: SystemState, view: GrowthView) -> Action:
        for number, site in enumerate(view.sites):
            if site.free and not site.fossils and view.epoch == 1 + 2 * number:
                return Germinate(Candidate(site.site.name, "BP900"), PATH)
        second = view.sites[1].seed
        if second is not None and second.record.stage is Stage.PROBATIONARY and view.epoch >= CULLED_AT:
            return Cull(second.record.seed_id, reason="to see its site rest")
        return due(view) or Wait()


class Restored(NamedTuple):
    """Where a way back led to."""

    epoch: int
    steps: int
    """Taken by then."""
    equal: bool
    """The network was bit for bit as it had been kept there."""


class Watched:
    """The trainer, as its lane uses it; has a fossil taken down at last."""

    def __init__(self, trainer: Trainer, orders: Callable[[], Orders]) -> None:
        self._trainer, self._orders = trainer, orders
        self.results: list[EpochResult] = []
        self.restored: list[Restored] = []
        self._kept: dict[int, Mapping[str, Tensor]] = {}

    @property
    def finished(self) -> bool:
        return self._trainer.finished

    def run_epoch(self) -> EpochResult:
        result = self._trainer.run_epoch()
        self.results.append(result)
        return result

    def assemble(self) -> Assembled:
        facts = self._trainer.assemble()
        if facts.growth.epoch == TERMINATED_AT:
            for seed in facts.growth.sites[0].fossils:
                self._orders().put(SeedOrder("terminate", seed.record.seed_id), 0)
        return facts

    def keep(self, restored: Snapshot | None = None) -> Snapshot:
        snapshot = self._trainer.keep(restored)
        self._kept[snapshot.position.epoch] = snapshot.network.tensors
        assert_finite(snapshot.network.tensors)
        for entries in snapshot.optimizer.entries.values():
            assert_finite(entries)
        return snapshot

    def restore(self, snapshot: Snapshot, *, behind_break: bool) -> EpochResult | None:
        result = self._trainer.restore(snapshot, behind_break=behind_break)
        there, epoch = self._trainer.keep(), snapshot.position.epoch
        equal = same_value(dict(there.network.tensors), dict(self._kept[epoch]))
        self.restored.append(Restored(there.position.epoch, there.position.step, equal))
        return result

    def apply(self, plan: GraftPlan) -> Applied:
        return self._trainer.apply(plan)

    def probe(self, plan: ProbePlan, tell: Callable[[int, int], None]) -> ProbeReport:
        return self._trainer.probe(plan, tell)

    def final(self) -> FinalFigures:
        return self._trainer.final()

    def stop(self) -> None:
        self._trainer.stop()


@dataclass(frozen=True)
class Ran:
    """One run, and all that can be asked about it."""

    outcome: Outcome
    poisoner: Poisoner
    training: Watched

    @property
    def accuracy(self) -> float:
        """On fresh examples."""
        final = self.outcome.conclusion.final
        assert final is not None
        assert final.test_accuracy is not None
        return final.test_accuracy

    @property
    def way(self) -> list[tuple[int, int, str]]:
        return way_of(self.outcome)

    @property
    def tried_again(self) -> list[int]:
        """Epochs that broke once and were trained again with everyone."""
        results = self.training.results
        return [one.epoch for one in results if any("tried again" in text for text in one.notices)]

    @property
    def tensors(self) -> dict[str, Tensor]:
        return dict(self.poisoner.parts.trainer.keep().network.tensors)


@dataclass(frozen=True)
class Noise:
    """What chance alone does to the accuracy: runs that differ in the order of their data, and in nothing
    else that matters."""

    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        return mean(self.accuracies)

    @property
    def stdev(self) -> float:
        return stdev(self.accuracies)

    @property
    def width(self) -> float:
        """From the worst to the best of them."""
        return max(self.accuracies) - min(self.accuracies)


def run(dose: Dose | None = None, *, seed: int = SEED, epochs: int = EPOCHS) -> Ran:
    """A run to its end; `seed` is of the data's order and the seeds' own chance, not of the host's weights.

    Raises:
        AssertionError: a number that is not finite came into the network or its optimizer.
    """
    train, test = Tensors(*HOST.batch(TRAIN, 1)), Tensors(*HOST.batch(TEST, 13))
    task = replace(task_of(HOST), train=train, validation=train.first(VALIDATED), test=test)
    task = replace(task, accuracy_fn=class_accuracy, loss_fn=lambda *batch: poisoner.task_loss(*batch))
    policy = Tour()
    parts = assemble_parts(_config(seed, epochs), task, "run", policy, WITH_RESTLESS)
    machine = parts.trainer._machine
    poisoner = Poisoner(parts, dose)
    machine.loop.loss_fn = poisoner
    optimizer = machine.parts.optimizer
    hooks = (
        optimizer.register_step_pre_hook(lambda *_: poisoner.before_a_step()),
        optimizer.register_step_post_hook(lambda *_: poisoner.after_a_step()),
    )
    outcome, training = run_simulated(lambda: _perform(parts), seed=0)
    for hook in hooks:
        hook.remove()
    return Ran(outcome, poisoner, training)


@cache
def clean(seed: int = SEED, epochs: int = EPOCHS) -> Ran:
    """A run to which nothing happens; not to be changed."""
    return run(seed=seed, epochs=epochs)


def noise(seeds: Iterable[int], epochs: int = EPOCHS) -> Noise:
    return Noise(tuple(clean(seed, epochs).accuracy for seed in seeds))


def _config(seed: int, epochs: int) -> Config:
    plain = config(epochs=epochs, epoch_steps=STEPS)
    return msgspec.structs.replace(
        plain,
        run=msgspec.structs.replace(plain.run, seed=seed),
        growth=msgspec.structs.replace(plain.growth, sites=HOST.sites),
        emergency=EmergencyConfig(slow_boundaries=1_000_000),  # a virtual lane's turn begins when it ends
    )


async def _perform(parts: Parts) -> tuple[Outcome, Watched]:
    run = parts.config.run
    training = Watched(parts.trainer, lambda: company.orders)
    facts = RunFacts(HOST.name, parts.policy.name, run.seed, "nowhere", epochs=run.epochs)
    company = Company(play_of(parts, "run", facts, Spectator(), training), surroundings())
    return await company.perform(), training
