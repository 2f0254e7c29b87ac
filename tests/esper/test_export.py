"""Claims about keeping a grown model and rebuilding it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from contracts.growth import SeedRecord
from contracts.lifecycle import Stage
from esper.export import DESCRIPTION, WEIGHTS, DamagedModel, load_grown, save_grown
from esper.karn.catalogue import CATALOGUE, Catalogue, UnknownBlueprint
from esper.kasmina.graft import Grafts
from esper.kasmina.sites import find_sites
from esper.workloads.mnist1d import ConvBase, conv_base


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(5, 1, 40, generator=torch.Generator().manual_seed(3))


def grown(stages: dict[str, Stage]) -> tuple[Grafts, list[SeedRecord]]:
    """A host with one gated unit a site, its weights shaken so that each contributes."""
    model = conv_base(1).eval()
    sites = find_sites(model, ("relu1", "relu2"), torch.zeros(2, 1, 40))
    grafts, records = Grafts(model, sites), []
    stream = torch.Generator().manual_seed(4)
    for site in sites:
        blueprint = CATALOGUE.get("BP003")
        settings = blueprint.fit(site, 300)
        assert settings is not None
        seed_id, stage = f"{site.name}#0", stages[site.name]
        grafts.insert(seed_id, site.name, blueprint.build(site, settings, stream))
        for _, parameter in grafts.named_parameters(seed_id):
            parameter.data.add_(torch.randn(parameter.shape, generator=stream), alpha=0.1)
        alpha = 1.0 if stage is Stage.FOSSILIZED else 0.0
        grafts.set_alpha(seed_id, alpha)
        records.append(SeedRecord(seed_id, site.name, stage, "BP003", 300, settings, alpha=alpha))
    return grafts, records


def test_a_rebuilt_model_computes_the_same_bits(tmp_path: Path, inputs: Tensor) -> None:
    grafts, records = grown({"relu1": Stage.FOSSILIZED, "relu2": Stage.FOSSILIZED})
    save_grown(tmp_path, grafts, records, "mnist1d", 1)
    rebuilt = load_grown(tmp_path, conv_base(99)).eval()
    assert torch.equal(rebuilt(inputs), grafts.model(inputs))
    with grafts.host_only():
        assert not torch.equal(rebuilt(inputs), grafts.model(inputs)), "the seeds do contribute"


class Counting(ConvBase):
    """Keeps more than tensors, and among it what no file takes."""

    said: Any = None
    sealed = False

    def get_extra_state(self) -> Any:
        return object() if self.sealed else self.said

    def set_extra_state(self, state: Any) -> None:
        self.said = state


def test_what_modules_keep_beside_tensors_is_part_of_the_model(tmp_path: Path, inputs: Tensor) -> None:
    grafts, records = grown({"relu1": Stage.FOSSILIZED, "relu2": Stage.FOSSILIZED})
    grafts.model.__class__ = Counting
    said = {"steps": 7, "mean": torch.tensor([0.1, 0.2], dtype=torch.float64), "seen": (1, float("inf"))}
    grafts.model.said = said  # type: ignore[assignment]
    save_grown(tmp_path, grafts, records, "mnist1d", 1)
    host = conv_base(99)
    host.__class__ = Counting
    rebuilt = load_grown(tmp_path, host).eval()
    assert torch.equal(rebuilt(inputs), grafts.model(inputs))
    assert (rebuilt.said["steps"], rebuilt.said["seen"]) == (7, (1, float("inf")))
    assert torch.equal(rebuilt.said["mean"], said["mean"])  # type: ignore[arg-type]


def test_what_no_file_takes_costs_nothing_but_itself(tmp_path: Path, inputs: Tensor) -> None:
    grafts, records = grown({"relu1": Stage.FOSSILIZED, "relu2": Stage.FOSSILIZED})
    grafts.model.__class__ = Counting
    grafts.model.sealed = True  # type: ignore[assignment]
    for parameter in grafts.model.parameters():
        if parameter.ndim == 3:  # as memory formats do
            parameter.data = parameter.data.transpose(0, 2).contiguous().transpose(0, 2)
    save_grown(tmp_path, grafts, records, "mnist1d", 1)
    host = conv_base(99)
    host.__class__ = Counting
    host.said = "its own"
    rebuilt = load_grown(tmp_path, host).eval()
    assert torch.equal(rebuilt(inputs), grafts.model(inputs))
    assert rebuilt.said == "its own"


def test_an_isolated_seed_is_left_out_and_left_alone(tmp_path: Path, inputs: Tensor) -> None:
    grafts, records = grown({"relu1": Stage.FOSSILIZED, "relu2": Stage.TRAINING})
    before = {name: tensor.clone() for name, tensor in grafts.model.state_dict().items()}
    description = save_grown(tmp_path, grafts, records, "mnist1d", 1)
    assert [seed.seed_id for seed in description.seeds] == ["relu1#0"]
    after = grafts.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(load_grown(tmp_path, conv_base(99)).eval()(inputs), grafts.model(inputs))


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    grafts, records = grown({"relu1": Stage.FOSSILIZED, "relu2": Stage.FOSSILIZED})
    save_grown(tmp_path, grafts, records, "mnist1d", 1)
    (tmp_path / name).unlink()
    with pytest.raises(DamagedModel, match=name):
        load_grown(tmp_path, conv_base(1))


def test_flipped_bits_are_noticed(tmp_path: Path) -> None:
    grafts, records = grown({"relu1": Stage.FOSSILIZED, "relu2": Stage.FOSSILIZED})
    save_grown(tmp_path, grafts, records, "mnist1d", 1)
    weights = bytearray((tmp_path / WEIGHTS).read_bytes())
    weights[-3] ^= 1
    (tmp_path / WEIGHTS).write_bytes(weights)
    with pytest.raises(DamagedModel, match="SHA-256"):
        load_grown(tmp_path, conv_base(1))


def test_another_host_is_refused(tmp_path: Path) -> None:
    grafts, records = grown({"relu1": Stage.FOSSILIZED, "relu2": Stage.FOSSILIZED})
    save_grown(tmp_path, grafts, records, "mnist1d", 1)
    with pytest.raises(DamagedModel, match="not the one that grew"):
        load_grown(tmp_path, ConvBase(6))


def test_a_model_is_rebuilt_from_the_catalogue_that_it_grew_from(tmp_path: Path, inputs: Tensor) -> None:
    grafts, records = grown({"relu1": Stage.FOSSILIZED, "relu2": Stage.FOSSILIZED})
    save_grown(tmp_path, grafts, records, "mnist1d", 1)
    rebuilt = load_grown(tmp_path, conv_base(99), Catalogue([CATALOGUE.get("BP003")])).eval()
    assert torch.equal(rebuilt(inputs), grafts.model(inputs))
    with pytest.raises(UnknownBlueprint, match="BP003"):
        load_grown(tmp_path, conv_base(1), Catalogue([]))
