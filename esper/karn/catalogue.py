"""The catalogue: every blueprint there is, in the order of their ids. A new one is one line here."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

import torch
from torch import nn

from contracts.growth import Candidate, Layout, SiteInfo
from esper.karn.blueprint import Blueprint
from esper.karn.blueprints.bottleneck import Bottleneck
from esper.karn.blueprints.convolution import Convolution
from esper.karn.blueprints.depthwise_separable import DepthwiseSeparable
from esper.karn.blueprints.dilated_convolution import DilatedConvolution
from esper.karn.blueprints.gated_linear import GatedLinear
from esper.karn.blueprints.identity import Identity
from esper.karn.blueprints.low_rank import LowRank
from esper.karn.blueprints.squeeze_excite import SqueezeExcite


class UnknownBlueprint(KeyError):
    """No blueprint has this id."""

    def __init__(self, blueprint_id: str, known: Iterable[str]) -> None:
        ids = sorted(known)
        nearest = get_close_matches(blueprint_id, ids, cutoff=0.0) or ["none: the catalogue is empty"]
        self.message = f"there is no blueprint {blueprint_id!r}; the nearest ids are {', '.join(nearest)}"
        super().__init__(self.message)

    def __str__(self) -> str:  # KeyError would show the message's repr
        return self.message


class Catalogue:
    """Blueprints by id.

    Raises:
        ValueError: two blueprints have the same id.
    """

    def __init__(self, blueprints: Iterable[Blueprint]) -> None:
        self._by_id: dict[str, Blueprint] = {}
        for blueprint in sorted(blueprints, key=lambda one: one.blueprint_id):
            if blueprint.blueprint_id in self._by_id:
                raise ValueError(f"two blueprints have the id {blueprint.blueprint_id}; each needs its own")
            self._by_id[blueprint.blueprint_id] = blueprint

    def get(self, blueprint_id: str) -> Blueprint:
        """The blueprint of this id.

        Raises:
            UnknownBlueprint: there is none; the message names the nearest ids.
        """
        blueprint = self._by_id.get(blueprint_id)
        if blueprint is None:
            raise UnknownBlueprint(blueprint_id, self._by_id)
        return blueprint

    def build(self, site: SiteInfo, candidate: Candidate, generator: torch.Generator) -> nn.Module:
        """The candidate's module, all its initial values from `generator`.

        Raises:
            UnknownBlueprint: there is none of that id.
            BlueprintError: the site or the settings are not the blueprint's.
        """
        return self.get(candidate.blueprint_id).build(site, candidate.parameters, generator)

    def offers(self, layout: Layout) -> tuple[Blueprint, ...]:
        """The blueprints that grow on `layout`, in the order of their ids."""
        return tuple(blueprint for blueprint in self if layout in blueprint.layouts)

    def __iter__(self) -> Iterator[Blueprint]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)


CATALOGUE = Catalogue(
    (
        Identity(),
        LowRank(),
        GatedLinear(),
        Convolution(),
        DilatedConvolution(),
        DepthwiseSeparable(),
        SqueezeExcite(),
        Bottleneck(),
    )
)
