"""MNIST-1D (Greydanus and Kobak, arXiv 2011.14439): 40 values a sequence, 10 classes, made locally.

The frozen arrays that the authors published are not used: the generator of the `mnist1d` package makes
the data, with its default arguments for the 4,000 training and 1,000 test sequences and with seeds of
our own for the validation and the fresh test sequences.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esper.tolaria.randomness import derived_seed
from esper.tolaria.task import Task, Tensors, class_accuracy
from esper.workloads.cache import cached
from esper.workloads.workload import Workload

CHANNELS = 4
LENGTH = 40
CLASSES = 10


@dataclass(frozen=True)
class Draw:
    """One call of the generator: which seed, how many sequences."""

    seed: int
    sequences: int

    @property
    def key(self) -> str:
        return f"mnist1d-seed{self.seed}-n{self.sequences}"


PUBLISHED = Draw(seed=42, sequences=5_000)
"""The generator's default arguments; the first 4,000 train, the last 1,000 test."""
TRAIN_SEQUENCES = 4_000
VALIDATION = Draw(seed=90_101, sequences=2_000)
FRESH = Draw(seed=90_202, sequences=10_000)


class ConvBase(nn.Module):
    """The convolutional host of the MNIST-1D paper, with C channels: (B, 1, 40) → (B, 10)."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, channels, 5, stride=2, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv1d(channels, channels, 3, stride=2, padding=1)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv1d(channels, channels, 3, stride=2, padding=1)
        self.relu3 = nn.ReLU()
        self.head = nn.Linear(5 * channels, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        h = self.relu1(self.conv1(inputs))  # (B, C, 19)
        h = self.relu2(self.conv2(h))  # (B, C, 10)
        h = self.relu3(self.conv3(h))  # (B, C, 5)
        logits: Tensor = self.head(h.flatten(1))
        return logits


def conv_base(seed: int, channels: int = CHANNELS) -> ConvBase:
    """A ConvBase with the initial weights of `seed`, whatever was drawn before; the global stream is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "host"))
        return ConvBase(channels)


def task(seed: int) -> Task:
    """ConvBase(4) and the data; a first call generates for about 4 seconds, later ones read the cache."""
    published = sequences(PUBLISHED)
    return Task(
        model=conv_base(seed),
        train=published.first(TRAIN_SEQUENCES),
        validation=sequences(VALIDATION),
        test=Tensors(published.inputs[TRAIN_SEQUENCES:], published.targets[TRAIN_SEQUENCES:]),
        loss_fn=F.cross_entropy,
        accuracy_fn=class_accuracy,
        fresh=lambda: sequences(FRESH),
    )


def sequences(draw: Draw) -> Tensors:
    """Inputs (n, 1, 40) float32 and targets (n,) int64 of one draw, from the cache if it is there."""
    tensors = cached(draw.key, "mnist1d", lambda: _generate(draw))
    return Tensors(tensors["inputs"], tensors["targets"])


def _generate(draw: Draw) -> dict[str, Tensor]:
    # The package takes 2 s to import (scipy, matplotlib), which a warm cache saves.
    import random

    import numpy as np

    with _room_for_matplotlib():
        from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.seed, arguments.num_samples = draw.seed, draw.sequences
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:  # the generator seeds and draws from numpy's global stream
        made = make_dataset(arguments)
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
    x = np.concatenate([made["x"], made["x_test"]])
    y = np.concatenate([made["y"], made["y_test"]])
    return {
        "inputs": torch.from_numpy(x.astype(np.float32)).unsqueeze(1),
        "targets": torch.from_numpy(y.astype(np.int64)),
    }


@contextmanager
def _room_for_matplotlib() -> Iterator[None]:
    """Matplotlib, which the package imports, complains on the terminal if it can't write into its folder."""
    if "MPLCONFIGDIR" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="esper-", ignore_cleanup_errors=True) as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]


MNIST1D = Workload(
    name="mnist1d",
    description="MNIST-1D sequences, a convolutional host of 338 parameters (arXiv 2011.14439)",
    sites=("relu1", "relu2", "relu3"),
    max_params=1_300,
    gflop=30.0,
    task=task,
)
