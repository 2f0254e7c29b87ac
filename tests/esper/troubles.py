"""A run that meets all that can befall one, each time the same: its data, its policy, what is planted.

    a seed that writes into the host         isolation violations, quarantine, embargo
    a module that can't be built             the breaker of germination opens, and closes again
    one that holds a part of the host        refused at the graft: the breaker of insertion opens
    one that is NaN after some passes        set aside in its epoch, taken out, the host rolled back
    a poisoned example, and a loud one       not finite, exploding: rollback, conservative mode
    an operator                              terminates a fossil

Everything hangs on the data's order and on the view, nothing on time.
"""

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar
from unittest.mock import patch

import msgspec
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from actors.orders import Orders
from contracts.blueprint import BlueprintDescriptor
from contracts.config import Config, GateConfig
from contracts.emergency import NONE, SeedOrder
from contracts.growth import Candidate, GrowthView, Path, ProbePlan, SeedView, SiteInfo
from contracts.lifecycle import Stage
from contracts.messages import AdaptationCommand, SystemState, WallNs
from esper.breaker import Breaker, BreakerMemory, BreakerState
from esper.karn.blueprint import EVERY_LAYOUT, Blueprint
from esper.karn.blueprints.identity import Identity
from esper.karn.catalogue import Catalogue
from esper.moment import Memories
from esper.settings import load
from esper.tamiyo.action import Action, Germinate, Pause, Wait
from esper.tamiyo.passage import due
from esper.tolaria.randomness import generator_for
from esper.tolaria.results import Assembled
from esper.tolaria.task import Task, Tensors, class_accuracy
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria.runs import Restless
from tests.hosts import CLASSES, HOSTS, loss_fn

HOST = HOSTS[0]
SEED, EPOCHS, STEPS, BATCH, PARAMS_MAX = 5, 40, 3, 10, 5_000
LOUD_IN, POISONED_IN = 28, 29
"""Epochs that meet the two bad examples."""
TERMINATED_AT = 31
"""Boundary at which the operator takes the first fossil down."""
LOUD = 1e4
"""What the loss of the loud example is multiplied by."""

SHORT = Path(blending_epochs=1, probation_epochs=1)
LONG = Path(training_epochs=2, blending_epochs=1, shadowing_epochs=1, probation_epochs=5)
ISOLATED = Path(training_epochs=9)
SETTINGS = (
    f"run.seed={SEED}", f"train.epoch_steps={STEPS}", f"train.batch_size={BATCH}", "train.clip_norm=5",
    "growth.shadow_every=2", "growth.embargo_epochs=1", "growth.counterfactual_every=1",
    "growth.pause_epochs_max=1", "growth.max_stage=3",
    "growth.gates.rms_ratio_max=1e6", "growth.gates.interface_loss_ratio_max=1e6",
    "growth.gates.gain_min=0", "growth.gates.grad_norm_min=0", "growth.gates.jump_max=1e6",
    "growth.guard.failures_max=2", "growth.guard.rest_epochs=4",
    "growth.guard.graft_ms=0", "growth.guard.change_ms=0", "growth.guard.rollback_ms=0",
    "emergency.calm_epochs=2", "emergency.slow_boundaries=1000000",
    "budgets.tamiyo_inference_ms=60000", "budgets.epoch_boundary_ms=60000",
    "kernels.prefetch=false", "checkpoint.every_s=0",
)  # fmt: skip


class Leak(nn.Module):
    """Writes into the host whenever it learns."""

    def __init__(self, host: "weakref.ref[nn.Module]") -> None:
        super().__init__()
        self.host = host
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        host = self.host()
        if torch.is_grad_enabled() and host is not None:
            host.get_parameter("head.bias").detach().add_(1e-3)
        return h * self.scale


class Holder(nn.Module):
    """Holds a layer of the host's: it can't be grafted."""

    def __init__(self, host: nn.Module) -> None:
        super().__init__()
        self.known = [host.get_submodule("head")]
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        return h * self.scale


class Sudden(nn.Module):
    """Gives NaN from its sixth pass in training on."""

    passes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, h: Tensor) -> Tensor:
        self.passes += self.training
        return h * (self.scale + (torch.nan if self.passes > 5 else 0.0))


def _descriptor(number: int, name: str) -> BlueprintDescriptor:
    return replace(Identity.descriptor, blueprint_id=f"BP{number}", name=name)


class _Planted(Blueprint):
    """One parameter; `host` is the model that is trained."""

    layouts = EVERY_LAYOUT
    knob: ClassVar[str | None] = None

    def __init__(self, host: nn.Module) -> None:
        self._host = weakref.ref(host)

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 1

    def _forward_flops(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        return 0


class Leaking(_Planted):
    descriptor = _descriptor(901, "leak")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return Leak(self._host)


class Unbuildable(_Planted):
    descriptor = _descriptor(902, "unbuildable")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        raise RuntimeError("its plans are lost")


class Holding(_Planted):
    descriptor = _descriptor(903, "holder")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        host = self._host()
        assert host is not None
        return Holder(host)


class SuddenNan(_Planted):
    descriptor = _descriptor(904, "sudden")

    def _build(self, site: SiteInfo, size: Mapping[str, int], generator: torch.Generator) -> nn.Module:
        return Sudden()


def catalogue(host: nn.Module) -> Catalogue:
    """Sound and planted blueprints for this host."""
    return Catalogue((Restless(), Leaking(host), Unbuildable(host), Holding(host), SuddenNan(host)))


class Attempt(msgspec.Struct, frozen=True):
    """A seed that is to be tried at one of the two sites; with `insists` until it is in."""

    blueprint: str
    site: int
    path: Path
    insists: bool = False


SCRIPT = (
    Attempt("BP903", 0, SHORT),
    Attempt("BP903", 1, SHORT),
    Attempt("BP900", 0, SHORT, insists=True),
    Attempt("BP901", 1, ISOLATED, insists=True),
    Attempt("BP902", 0, SHORT),
    Attempt("BP902", 0, SHORT),
    Attempt("BP900", 0, LONG, insists=True),
    Attempt("BP904", 1, SHORT, insists=True),
    Attempt("BP900", 1, LONG, insists=True),
)


class Scripted:
    """Makes one attempt after the other whenever nothing is due; how far it is, is all that it remembers."""

    name = "scripted"
    version = "scripted-1"
    reads_validation = False

    def __init__(self) -> None:
        self._next = 0

    def memory(self) -> bytes:
        return str(self._next).encode()

    def take_over(self, memory: bytes) -> None:
        self._next = int(memory)

    def survey(self, state: SystemState, view: GrowthView) -> ProbePlan | None:
        return None

    def act(self, state: SystemState, view: GrowthView) -> Action:
        if self._next < len(SCRIPT) and _is_in(SCRIPT[self._next], view):
            self._next += 1
        for seed in view.active:
            if _to_be_paused(seed, view.epoch):
                return Pause(seed.record.seed_id, reason="to see it rest")
        return due(view) or self._attempt(view) or Wait("nothing is due")

    def _attempt(self, view: GrowthView) -> Action | None:
        if self._next == len(SCRIPT) or view.resting:
            return None
        attempt = SCRIPT[self._next]
        site = view.sites[attempt.site]
        if not site.free:
            return None
        self._next += not attempt.insists
        return Germinate(Candidate(site.site.name, attempt.blueprint), attempt.path)


def _to_be_paused(seed: SeedView, epoch: int) -> bool:
    """Once in its life, when a seed on the long way has been learning for an epoch."""
    record = seed.record
    fresh = not record.paused and not record.paused_epochs and record.path == LONG
    return fresh and record.stage is Stage.TRAINING and epoch == record.stage_epoch + 1


def _is_in(attempt: Attempt, view: GrowthView) -> bool:
    """Whether what it insists on is on its way."""
    wanted = (view.sites[attempt.site].site.name, attempt.blueprint, attempt.path)
    records = (seed.record for seed in view.active)
    return attempt.insists and wanted in {(one.site, one.blueprint_id, one.path) for one in records}


def task() -> Task:
    """Two of the training examples are bad; each epoch is trained on as many as the next ones."""
    train = Tensors(*HOST.batch(EPOCHS * STEPS * BATCH * 2))
    order = torch.randperm(len(train), generator=generator_for(SEED, "batches"))
    train.targets[order[_first_of(LOUD_IN)]] += CLASSES
    train.targets[order[_first_of(POISONED_IN)]] += 2 * CLASSES
    validation, test = (Tensors(*HOST.batch(40, seed)) for seed in (1, 2))
    return Task(HOST.model(), train, validation, test, marked_loss, class_accuracy)


def _first_of(epoch: int) -> int:
    """Number of the second batch's first example in this epoch, if none was repeated before."""
    return ((epoch - 1) * STEPS + 1) * BATCH


def marked_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The labels of the bad examples are of another four each, which the loss knows."""
    loss = loss_fn(outputs, targets % CLASSES)
    worst = int(targets.max()) // CLASSES
    return loss * (1.0, LOUD, torch.nan)[worst]


def config(*more: str) -> Config:
    return load(
        None,
        [*SETTINGS, *more],
        {"run.epochs": EPOCHS, "growth.sites": list(HOST.sites), "growth.max_params": PARAMS_MAX},
    )


@contextmanager
def operated() -> Iterator[None]:
    """An operator takes down the first fossil at one boundary, whichever process comes there."""
    assemble, following = Trainer.assemble, Orders.next
    wanted: list[SeedOrder] = []

    def assembled(self: Trainer, *, conservative: bool = False) -> Assembled:
        facts = assemble(self, conservative=conservative)
        fossils = facts.growth.sites[0].fossils
        wanted[:] = (
            [SeedOrder("terminate", fossils[0].record.seed_id)]
            if facts.growth.epoch == TERMINATED_AT and fossils
            else []
        )
        return facts

    def ordered(self: Orders, now_ns: WallNs, deadline_ms: int) -> AdaptationCommand | None:
        while wanted:
            self.put(wanted.pop(), now_ns)
        return following(self, now_ns, deadline_ms)

    with patch.object(Trainer, "assemble", assembled), patch.object(Orders, "next", ordered):
        yield


TOUCHES_MAX = GateConfig().isolation_violations_max
MET = frozenset(
    {
        *(stage.name for stage in Stage if stage is not Stage.UNKNOWN),
        "paused",
        "touched the host",
        "quarantined",
        "insert failed",
        "insert is open",
        "insert is half open",
        "germinate failed",
        "germinate is open",
        "germinate is half open",
        "set aside",
        "gone back",
        "gone back further",
        "notice",
        "elevated",
        "conservative",
        "well again",
    }
)
"""Everything that the run meets at some boundary."""


def met_at(epoch: int, memories: Memories) -> set[str]:
    """What a run is in, or has just met, at this boundary."""
    met: set[str] = set()
    for seed in memories.engine.records:
        touches = memories.isolations.get(seed.seed_id, 0)
        met.add(seed.stage.name)
        met |= {"paused"} if seed.paused else set()
        met |= {"touched the host"} if touches and seed.stage is Stage.TRAINING else set()
        met |= {"quarantined"} if touches > TOUCHES_MAX and seed.stage is Stage.CULLED else set()
    met |= {_standing(name, memory, epoch) for name, memory in memories.engine.breakers.items()}
    recorded, level = memories.witness.recorded, memories.emergency.own
    met |= {"set aside" for one in recorded.alerts if one.name == "seed_set_aside" and one.epoch == epoch - 1}
    for rollback in recorded.rollbacks[-1:]:
        if epoch - rollback.to_epoch in (0, 1):
            further = rollback.epoch - rollback.to_epoch > 1
            met.add("gone back further" if further else "gone back")
    if level is not NONE:
        met.add(level.name.lower())
    elif recorded.rollbacks:
        met.add("well again")
    return met


def _standing(operation: str, memory: BreakerMemory, epoch: int) -> str:
    """How a breaker that is not as new stands."""
    guard = config().growth.guard
    state = Breaker(guard.failures_max, guard.rest_epochs, memory).state(epoch)
    words = {
        BreakerState.CLOSED: "failed",
        BreakerState.OPEN: "is open",
        BreakerState.HALF_OPEN: "is half open",
    }
    return f"{operation} {words[state]}"
