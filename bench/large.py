"""Networks of 0.1, 1 and 10 million parameters, trained with Adam on data that cost nothing."""

import torch
from torch import nn

from contracts.config import CheckpointConfig, Config, GateConfig, GrowthConfig, RunConfig, TrainConfig
from contracts.growth import Candidate, GrowthView, Path
from contracts.messages import SystemState
from esper.assembly import Parts, assemble_parts
from esper.karn.catalogue import CATALOGUE
from esper.tamiyo.action import Action, Germinate, Wait
from esper.tamiyo.baselines import NeverGrow
from esper.tamiyo.passage import due
from esper.tolaria.task import Task, Tensors

WIDTHS = {"0.1M": 290, "1M": 980, "10M": 3_140}
"""Of the host's square layer, by parameters."""
FEATURES, CLASSES, BATCH, STEPS = 64, 10, 8, 2
SITE, BLUEPRINT = "1", "BP008"
FOR_EVER = 1_000_000
"""Epochs, rollbacks and milliseconds that never come."""


class Sower(NeverGrow):
    """Has one seed, which comes into the forward pass and stays there."""

    def act(self, state: SystemState, view: GrowthView) -> Action:
        site = view.sites[0]
        if site.free and not view.active:
            settings = CATALOGUE.get(BLUEPRINT).fit(site.site, 8 * site.site.channels)
            assert settings is not None
            return Germinate(Candidate(site.site.name, BLUEPRINT, settings), Path(0, FOR_EVER, 0, 0))
        return due(view) or Wait()


def large_config(epochs: int) -> Config:
    """Nothing in it holds the seed up, and all that it can goes to the disk; all else is the default."""
    return Config(
        run=RunConfig(epochs=epochs, threads=1),
        train=TrainConfig(batch_size=BATCH, epoch_steps=STEPS, learning_rate=1e-4),
        growth=GrowthConfig(
            sites=(SITE,),
            max_params=10**9,
            shadow_every=1,
            gates=GateConfig(rms_ratio_max=1e6, grad_norm_min=0.0, grad_norm_max=1e9),
        ),
        checkpoint=CheckpointConfig(every_s=0.0, keep=1),
    )


def large_parts(width: int, config: Config) -> Parts:
    """A run of a host of this width, ready to begin."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(FEATURES, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, CLASSES),
        )
        data = Tensors(torch.randn(4 * BATCH, FEATURES), torch.randint(CLASSES, (4 * BATCH,)))
    task = Task(model, data, data, data, nn.functional.cross_entropy)
    torch.set_num_threads(1)
    return assemble_parts(config, task, "bench", Sower())
