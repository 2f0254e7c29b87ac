"""A small task of a host that another process can import, to hold trials and drills on."""

import torch
from msgspec.structs import replace
from torch import nn
from torch.nn import functional as F

from contracts.config import Config
from contracts.growth import SiteInfo
from contracts.kernels import KernelSpec, design_of
from esper.drill.benign import DRILL_CATALOGUE
from esper.drill.programme import drill_config
from esper.drill.report import Trial, TrialTerms
from esper.drill.trial import Subject
from esper.kasmina.sites import find_sites
from esper.tolaria.task import Task, Tensors, class_accuracy
from esper.workloads.mnist1d import CLASSES, LENGTH, conv_base

EPOCHS = 20
SITE_NAMES = ("relu1", "relu2")


def split(seed: int, examples: int) -> Tensors:
    """Labels of a wide random network over the sequence: a small host learns some of it."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, 1, LENGTH, generator=generator)
    planted = torch.Generator().manual_seed(99)
    first = torch.randn(LENGTH, 64, generator=planted) / LENGTH**0.5
    last = torch.randn(64, CLASSES, generator=planted)
    return Tensors(inputs, (torch.relu(inputs[:, 0] @ first) @ last).argmax(dim=1))


def task(seed: int) -> Task:
    return Task(
        model=conv_base(seed),
        train=split(1, 400),
        validation=split(2, 200),
        test=split(3, 200),
        loss_fn=F.cross_entropy,
        accuracy_fn=class_accuracy,
    )


def config(epochs: int = EPOCHS) -> Config:
    """Twenty steps an epoch."""
    base = drill_config("planted", 0, epochs)
    return replace(
        base,
        train=replace(base.train, epoch_steps=20, batch_size=20),
        growth=replace(base.growth, sites=SITE_NAMES, max_params=2_000),
    )


def sites(model: nn.Module) -> tuple[SiteInfo, ...]:
    return find_sites(model, SITE_NAMES, split(1, 2).inputs)


def subject(of: Task | None = None) -> Subject:
    of = of or task(0)
    batches = [
        (of.train.inputs[i : i + 20].clone(), of.train.targets[i : i + 20].clone()) for i in range(0, 80, 20)
    ]
    return Subject(of.model, sites(of.model), of.loss_fn, batches)


def trial(blueprint_id: str, onset: int | None = None, terms: TrialTerms | None = None) -> Trial:
    site = sites(conv_base(0))[0]
    settings = DRILL_CATALOGUE.get(blueprint_id).fit(site, 200)
    assert settings is not None
    if onset is not None:
        settings["onset"] = float(onset)
    return Trial(KernelSpec(design_of(site, blueprint_id, settings), 7), site.name, terms or TrialTerms())
