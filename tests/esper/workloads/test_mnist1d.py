import random
from pathlib import Path

import numpy as np
import pytest
import torch

from esper.kasmina.sites import find_sites
from esper.workloads import mnist1d
from esper.workloads.mnist1d import MNIST1D, ConvBase, Draw, conv_base, sequences


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def parameters(channels: int) -> int:
    return sum(p.numel() for p in ConvBase(channels).parameters())


def test_the_host_has_338_parameters_and_the_published_one_5210() -> None:
    assert parameters(4) == 338
    assert parameters(25) == 5_210


def test_its_sites_are_the_outputs_of_its_three_activations() -> None:
    sites = find_sites(conv_base(0), MNIST1D.sites, torch.zeros(2, 1, 40))
    assert [site.shape for site in sites] == [(4, 19), (4, 10), (4, 5)]


def test_initial_weights_depend_on_the_seed_alone_and_leave_the_global_stream() -> None:
    before = torch.get_rng_state()
    first = conv_base(5)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    second, other = conv_base(5), conv_base(6)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_a_draw_is_the_same_every_time_and_leaves_the_global_streams() -> None:
    np.random.seed(1)
    random.seed(1)
    before = (np.random.get_state()[1].tolist(), random.getstate())
    made = mnist1d._generate(Draw(seed=7, sequences=50))
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before
    read = sequences(Draw(seed=7, sequences=50))
    assert torch.equal(made["inputs"], read.inputs)
    assert made["inputs"].shape == (50, 1, 40)
    assert made["inputs"].dtype == torch.float32
    assert sorted(made["targets"].unique().tolist()) == list(range(10))


def test_the_splits_have_their_sizes_and_share_no_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist1d, "PUBLISHED", Draw(42, 100))
    monkeypatch.setattr(mnist1d, "TRAIN_SEQUENCES", 80)
    monkeypatch.setattr(mnist1d, "VALIDATION", Draw(90_101, 40))
    monkeypatch.setattr(mnist1d, "FRESH", Draw(90_202, 60))
    task = MNIST1D.task(0)
    assert task.fresh is not None
    splits = (task.train, task.test, task.validation, task.fresh())
    assert [len(split) for split in splits] == [80, 20, 40, 60]
    rows = torch.cat([split.inputs.flatten(1) for split in splits])
    assert len(rows.unique(dim=0)) == 200


def test_the_training_and_test_data_are_the_generators_defaults() -> None:
    from mnist1d.data import get_dataset_args

    arguments = get_dataset_args()
    assert (arguments.seed, arguments.num_samples) == (mnist1d.PUBLISHED.seed, mnist1d.PUBLISHED.sequences)
    assert arguments.train_split * arguments.num_samples == mnist1d.TRAIN_SEQUENCES
