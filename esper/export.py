"""Keeps a grown model as data, and rebuilds it: weights in safetensors, the growth in a JSON file.

    model.safetensors   the grown model's state dict; the host's own keys are the host's own
    model.json          which seed hangs where, from which blueprint, and the weights' SHA-256

Isolated seeds are not part of the model that was trained, and are left out.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from contracts.growth import SeedRecord, SiteInfo
from contracts.lifecycle import LIVE
from esper.karn.blueprint import is_dangerous
from esper.karn.catalogue import CATALOGUE, Catalogue
from esper.kasmina.graft import Grafts
from esper.tolaria.plain import NotPlain
from esper.tolaria.typed import DamagedRecord, Reader, Writer

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
EXTRA = "extra state/"
"""Before the names of tensors that are part of a module's extra state."""


class GrownSeed(msgspec.Struct, frozen=True):
    """One seed that is part of the model."""

    seed_id: str
    site: str
    blueprint_id: str
    parameters: dict[str, float]
    alpha: float


class GrownModel(msgspec.Struct, frozen=True):
    """What is needed beside the weights to rebuild a grown model from a plain host."""

    workload: str
    seed: int
    sites: tuple[SiteInfo, ...]
    seeds: tuple[GrownSeed, ...]
    """In the order in which they were grafted."""
    sha256: str
    """Of the weights' file."""
    extras: str = "{}"
    """JSON: what modules say by `get_extra_state` that is no tensor, by its key; tensors in it are in the
    weights' file. What can't be written is left out."""


class DamagedModel(ValueError):
    """A model's files don't fit each other or the host."""


def save_grown(
    folder: Path, grafts: Grafts, records: Iterable[SeedRecord], workload: str, seed: int
) -> GrownModel:
    """Write the grown model into `folder`; the model itself is left as it is."""
    by_id = {record.seed_id: record for record in records}
    live = [by_id[seed_id] for seed_id in grafts.live_ids()]
    assert all(record.stage in LIVE for record in live)
    with grafts.uprooted(*grafts.isolated_ids()):
        state = grafts.model.state_dict()
        extras, tensors = _extras(state)
        weights = save_tensors({name: _copy(tensor) for name, tensor in tensors.items()})
    description = GrownModel(
        workload,
        seed,
        grafts.sites,
        tuple(
            GrownSeed(one.seed_id, one.site, one.blueprint_id, one.parameters, grafts.alpha(one.seed_id))
            for one in live
        ),
        hashlib.sha256(weights).hexdigest(),
        extras,
    )
    (folder / WEIGHTS).write_bytes(weights)
    (folder / DESCRIPTION).write_bytes(msgspec.json.format(msgspec.json.encode(description), indent=1))
    return description


def load_grown(folder: Path, host: nn.Module, catalogue: Catalogue = CATALOGUE) -> nn.Module:
    """The grown model of `folder`, built onto `host`: a plain one of the same architecture, changed in place.

    Raises:
        DamagedModel: a file is missing or damaged, or the host has other tensors. The host may have
            been grown by then; take a new one.
        UnknownBlueprint: `catalogue`, whose blueprints are the ones that grew, lacks one of them.
    """
    try:
        weights = (folder / WEIGHTS).read_bytes()
        description = msgspec.json.decode((folder / DESCRIPTION).read_bytes(), type=GrownModel)
    except (OSError, msgspec.MsgspecError) as error:
        raise DamagedModel(f"{folder} holds no grown model: {error}") from error
    if hashlib.sha256(weights).hexdigest() != description.sha256:
        raise DamagedModel(
            f"{folder / WEIGHTS} is not what {DESCRIPTION} was written with; its SHA-256 differs"
        )
    regrow(host, description, catalogue)
    try:
        host.load_state_dict(_state(load_tensors(weights), description.extras, host))
    except (RuntimeError, DamagedRecord, json.JSONDecodeError) as error:
        raise DamagedModel(f"the host is not the one that grew: {error}") from error
    return host


def _extras(state: Mapping[str, Any]) -> tuple[str, dict[str, Tensor]]:
    """What of a state dict is no tensor, as JSON; and all tensors, those that it holds included."""
    writer, extras = Writer(), {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            with suppress(NotPlain):
                extras[name] = writer.write(value, Any, f"{EXTRA}{name}")
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return json.dumps(extras), {**writer.tensors, **tensors}


def _state(tensors: Mapping[str, Tensor], extras: str, host: nn.Module) -> dict[str, Any]:
    """The state dict that was saved; what was left out of it is the host's own."""
    reader = Reader({name: value for name, value in tensors.items() if name.startswith(EXTRA)})
    own = {name: value for name, value in host.state_dict().items() if not isinstance(value, Tensor)}
    said = {name: reader.read(value, Any, name) for name, value in json.loads(extras).items()}
    weights = {name: value for name, value in tensors.items() if not name.startswith(EXTRA)}
    return {**own, **said, **weights}


def _copy(tensor: Tensor) -> Tensor:
    """As safetensors takes it: contiguous, with memory of its own."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def regrow(host: nn.Module, description: GrownModel, catalogue: Catalogue) -> Grafts:
    """Hang freshly initialised seeds where the description says; the weights are still to be loaded.

    Raises:
        UnknownBlueprint: the catalogue does not have a seed's blueprint.
        DamagedModel: a seed's blueprint is one that is never for use.
    """
    grafts = Grafts(host, description.sites)
    sites = {site.name: site for site in description.sites}
    for seed in description.seeds:
        blueprint = catalogue.get(seed.blueprint_id)
        if is_dangerous(blueprint.descriptor):
            raise DamagedModel(f"{seed.seed_id} is of {seed.blueprint_id}, which is grown in drills alone")
        generator = torch.Generator().manual_seed(0)
        grafts.insert(seed.seed_id, seed.site, blueprint.build(sites[seed.site], seed.parameters, generator))
        grafts.set_alpha(seed.seed_id, seed.alpha)
    return grafts
