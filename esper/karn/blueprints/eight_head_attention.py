"""BP025, eight-head attention: BP023 with eight heads, each `width` channels wide and of its own reach."""

from typing import ClassVar

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from esper.karn.blueprints.single_head_attention import SingleHeadAttention


class EightHeadAttention(SingleHeadAttention):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP025",
        name="eight-head attention",
        tier=BlueprintTier.SAFE,
        description="Eight attentions side by side, from near to far; causal for tokens.",
        allowed_parameters={"width": BlueprintParameterBounds(1, 128)},
        risk=0.22,
        stage=3,
    )
    tags = ("attention", "global", "multi-head")
    heads: ClassVar[int] = 8
