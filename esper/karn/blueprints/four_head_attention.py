"""BP024, four-head attention: BP023 with four heads, each `width` channels wide and of its own reach."""

from typing import ClassVar

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from esper.karn.blueprints.single_head_attention import SingleHeadAttention


class FourHeadAttention(SingleHeadAttention):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP024",
        name="four-head attention",
        tier=BlueprintTier.SAFE,
        description="Four attentions side by side, from near to far; causal for tokens.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 256)},
        risk=0.22,
        stage=3,
    )
    tags = ("attention", "global", "multi-head")
    heads: ClassVar[int] = 4
