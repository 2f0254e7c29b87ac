"""The catalogue: every blueprint there is, in the order of their ids. A new one is one line here."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

import torch
from torch import nn

from contracts.growth import Candidate, SiteInfo
from esper.karn.blueprint import Blueprint
from esper.karn.blueprints.adversarial_noise import AdversarialNoise
from esper.karn.blueprints.bottleneck import Bottleneck
from esper.karn.blueprints.channel_attention import ChannelAttention
from esper.karn.blueprints.conv_transformer import ConvTransformer
from esper.karn.blueprints.convolution import Convolution
from esper.karn.blueprints.cross_attention import CrossAttention
from esper.karn.blueprints.deadlock import Deadlock
from esper.karn.blueprints.deformable_convolution import DeformableConvolution
from esper.karn.blueprints.dense_connections import DenseConnections
from esper.karn.blueprints.depthwise_separable import DepthwiseSeparable
from esper.karn.blueprints.dilated_convolution import DilatedConvolution
from esper.karn.blueprints.dynamic_convolution import DynamicConvolution
from esper.karn.blueprints.eight_head_attention import EightHeadAttention
from esper.karn.blueprints.endless_loop import EndlessLoop
from esper.karn.blueprints.exploding_gradient import ExplodingGradient
from esper.karn.blueprints.fast_weights import FastWeights
from esper.karn.blueprints.feature_pyramid import FeaturePyramid
from esper.karn.blueprints.four_head_attention import FourHeadAttention
from esper.karn.blueprints.gated_linear import GatedLinear
from esper.karn.blueprints.graph_attention import GraphAttention
from esper.karn.blueprints.group_norm import GroupNorm
from esper.karn.blueprints.grouped_convolution import GroupedConvolution
from esper.karn.blueprints.hierarchical_attention import HierarchicalAttention
from esper.karn.blueprints.highway import Highway
from esper.karn.blueprints.identity import Identity
from esper.karn.blueprints.layer_norm import LayerNorm
from esper.karn.blueprints.layer_scale import LayerScale
from esper.karn.blueprints.learned_activation import LearnedActivation
from esper.karn.blueprints.learned_positions import LearnedPositions
from esper.karn.blueprints.linear_map import LinearMap
from esper.karn.blueprints.local_attention import LocalAttention
from esper.karn.blueprints.low_rank import LowRank
from esper.karn.blueprints.memory import Memory
from esper.karn.blueprints.memory_leak import MemoryLeak
from esper.karn.blueprints.mixture_of_experts import MixtureOfExperts
from esper.karn.blueprints.neural_ode import NeuralOde
from esper.karn.blueprints.non_local import NonLocal
from esper.karn.blueprints.operation_choice import OperationChoice
from esper.karn.blueprints.pooling_branches import PoolingBranches
from esper.karn.blueprints.position_mixing import PositionMixing
from esper.karn.blueprints.recursive_block import RecursiveBlock
from esper.karn.blueprints.rms_norm import RmsNorm
from esper.karn.blueprints.shared_state import SharedState
from esper.karn.blueprints.single_head_attention import SingleHeadAttention
from esper.karn.blueprints.spatial_attention import SpatialAttention
from esper.karn.blueprints.squeeze_excite import SqueezeExcite
from esper.karn.blueprints.sudden_nan import SuddenNan
from esper.karn.blueprints.temporal_convolution import TemporalConvolution
from esper.karn.blueprints.transformer_block import TransformerBlock
from esper.karn.blueprints.vanishing_gradient import VanishingGradient
from esper.karn.query import Description, Index, Query


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
        self._index = Index(self)

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
            BlueprintError: the site or the settings are not the blueprint's, or it is for drills alone.
        """
        return self.get(candidate.blueprint_id).build(site, candidate.parameters, generator)

    def get_ready(self, sites: Iterable[SiteInfo]) -> None:
        """Count costs at these sites now: the first query about a shape takes ten times as long as others.

        Raises:
            BlueprintError: one of them is not what its layout says.
        """
        self._index.get_ready(sites)

    def query(self, query: Query) -> tuple[Blueprint, ...]:
        """Every blueprint that the query allows, in the order of curriculum stage, risk and id.

        Raises:
            BlueprintError: the query's site is not what its layout says.
        """
        return self._index.find(query)

    def describe(self, query: Query) -> tuple[Description, ...]:
        """What there is that satisfies the query, whoever may grow it: to be read, not to be built.

        Raises:
            BlueprintError: the query's site is not what its layout says.
        """
        return self._index.describe(query)

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
        LinearMap(),
        LayerScale(),
        LayerNorm(),
        RmsNorm(),
        GroupNorm(),
        LearnedActivation(),
        Highway(),
        ChannelAttention(),
        SpatialAttention(),
        GroupedConvolution(),
        DynamicConvolution(),
        DeformableConvolution(),
        TemporalConvolution(),
        LearnedPositions(),
        SingleHeadAttention(),
        FourHeadAttention(),
        EightHeadAttention(),
        CrossAttention(),
        NonLocal(),
        LocalAttention(),
        GraphAttention(),
        TransformerBlock(),
        ConvTransformer(),
        FeaturePyramid(),
        DenseConnections(),
        PoolingBranches(),
        PositionMixing(),
        MixtureOfExperts(),
        HierarchicalAttention(),
        Memory(),
        NeuralOde(),
        OperationChoice(),
        FastWeights(),
        RecursiveBlock(),
        ExplodingGradient(),
        VanishingGradient(),
        SuddenNan(),
        EndlessLoop(),
        MemoryLeak(),
        Deadlock(),
        SharedState(),
        AdversarialNoise(),
    )
)
