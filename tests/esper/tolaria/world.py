"""A small host, small data and small seeds to train in tests."""

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.config import Config, GrowthConfig, RunConfig, TrainConfig
from contracts.growth import Candidate, Layout, Path, SeedRecord, SiteInfo
from contracts.lifecycle import Stage
from esper.kasmina.graft import Grafts
from esper.kasmina.plan import Change, Fossilize, GraftPlan, Insert, Isolate, Remove, SetAlpha
from esper.tolaria.task import Task, Tensors, class_accuracy
from esper.tolaria.trainer import Timekeeping, Trainer

FEATURES, HIDDEN, CLASSES = 6, 5, 3
SITES = (
    SiteInfo("one", Layout.VECTOR, (HIDDEN,), HIDDEN, 0),
    SiteInfo("two", Layout.VECTOR, (HIDDEN,), HIDDEN, 1),
)


class Host(nn.Module):
    """(B, 6) → (B, 3), with batch norm and, if asked for, dropout: buffers and a random stream to guard."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.enter = nn.Linear(FEATURES, HIDDEN)
        self.norm = nn.BatchNorm1d(HIDDEN)
        self.one = nn.Tanh()
        self.drop = nn.Dropout(dropout)
        self.middle = nn.Linear(HIDDEN, HIDDEN)
        self.two = nn.ReLU()
        self.leave = nn.Linear(HIDDEN, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        h = self.drop(self.one(self.norm(self.enter(inputs))))
        out: Tensor = self.leave(self.two(self.middle(h)))
        return out


class SmallSeed(nn.Module):
    """(B, 5) → (B, 5), contributing exactly 0 at first."""

    def __init__(self, generator: torch.Generator, dropout: float = 0.0) -> None:
        super().__init__()
        self.down = nn.Linear(HIDDEN, 2)
        self.drop = nn.Dropout(dropout)
        self.up = nn.Linear(2, HIDDEN)
        with torch.no_grad():
            self.down.weight.normal_(generator=generator)
            self.down.bias.zero_()
            self.up.weight.zero_()
            self.up.bias.zero_()

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.up(self.drop(torch.tanh(self.down(h))))
        return out


def split(seed: int, examples: int) -> Tensors:
    """Three classes that a small host can tell apart, with noise."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (examples,), generator=generator)
    centres = torch.eye(CLASSES).repeat(1, 2)
    inputs = centres[targets] + 0.7 * torch.randn(examples, FEATURES, generator=generator)
    return Tensors(inputs, targets)


def task(dropout: float = 0.0) -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = Host(dropout)
    return Task(
        model=model,
        train=split(1, 80),
        validation=split(2, 50),
        test=split(3, 30),
        loss_fn=F.cross_entropy,
        accuracy_fn=class_accuracy,
        fresh=lambda: split(4, 40),
    )


def config(
    epochs: int | None = 20,
    gflop: float | None = None,
    seed: int = 3,
    growth: GrowthConfig | None = None,
    **train: float,
) -> Config:
    settings = {"batch_size": 10, "epoch_steps": 6, **train}
    return Config(
        run=RunConfig(epochs=epochs, gflop=gflop, seed=seed),
        train=msgspec.convert(settings, TrainConfig),
        growth=growth or GrowthConfig(shadow_every=2),
    )


def frozen_time() -> Timekeeping:
    return Timekeeping(wall_ns=lambda: 1_000, seconds=lambda: 0.0)


def build(site: SiteInfo, candidate: Candidate, generator: torch.Generator) -> nn.Module:
    return SmallSeed(generator)


def trainer(
    settings: Config | None = None,
    dropout: float = 0.0,
    the_task: Task | None = None,
    counts_validation: bool = True,
) -> Trainer:
    the_task = the_task or task(dropout)
    return Trainer(
        the_task,
        Grafts(the_task.model, SITES),
        settings or config(),
        "run",
        counts_validation=counts_validation,
        build=build,
        timekeeping=frozen_time(),
    )


def record(
    seed_id: str, stage: Stage, epoch: int = 0, alpha: float = 0.0, path: Path | None = None
) -> SeedRecord:
    return SeedRecord(
        seed_id=seed_id,
        site=seed_id.partition("#")[0],
        stage=stage,
        blueprint_id="BP000",
        params=27,
        path=path or Path(),
        alpha=alpha,
        born_epoch=epoch,
        stage_epoch=epoch,
    )


def plan(*changes: Change) -> GraftPlan:
    return GraftPlan("plan", changes)


def insert(seed_id: str, epoch: int = 0, dropout: float = 0.0) -> Insert:
    module = SmallSeed(torch.Generator().manual_seed(11), dropout)
    return Insert(record(seed_id, Stage.GERMINATED, epoch), module)


def learn(seed_id: str, epoch: int = 0) -> Isolate:
    return Isolate(record(seed_id, Stage.TRAINING, epoch), learns=True)


def rest(seed_id: str, epoch: int = 0) -> Isolate:
    return Isolate(record(seed_id, Stage.SHADOWING, epoch), learns=False)


def live(seed_id: str, epoch: int = 0, alpha: float = 1.0) -> SetAlpha:
    stage = Stage.PROBATIONARY if alpha == 1.0 else Stage.BLENDING
    return SetAlpha(record(seed_id, stage, epoch, alpha), alpha)


def fossilize(seed_id: str, epoch: int = 0) -> Fossilize:
    return Fossilize(record(seed_id, Stage.FOSSILIZED, epoch, 1.0))


def remove(seed_id: str, epoch: int = 0, rollback: bool = False) -> Remove:
    culled = msgspec.structs.replace(record(seed_id, Stage.CULLED, epoch), rolled_back=rollback)
    return Remove(culled, rollback)


def weights(of: Trainer) -> dict[str, Tensor]:
    """Every tensor of the trainer's network, copied: weights and buffers."""
    model = of._grafts.model
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def host_weights(of: Trainer) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights(of).items() if "esper_graft" not in name}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
