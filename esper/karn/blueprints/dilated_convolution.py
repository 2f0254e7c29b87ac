"""BP005, dilated convolution: BP004 with `dilation` - 1 positions left out between the taps.

Yu and Koltun 2016, "Multi-scale context aggregation by dilated convolutions".
"""

from collections.abc import Mapping
from typing import ClassVar

from contracts.blueprint import BlueprintDescriptor, BlueprintParameterBounds, BlueprintTier
from esper.karn.blueprints.convolution import Convolution


class DilatedConvolution(Convolution):
    descriptor = BlueprintDescriptor(
        blueprint_id="BP005",
        name="dilated convolution",
        tier=BlueprintTier.SAFE,
        description="Two kernel-3 convolutions that look further than their neighbours.",
        allowed_parameters={
            "width": BlueprintParameterBounds(1, 4096),
            "dilation": BlueprintParameterBounds(2, 64),
        },
        risk=0.12,
        stage=1,
    )
    tags: ClassVar[tuple[str, ...]] = ("convolution", "dilated")
    fixed: ClassVar[Mapping[str, float]] = {"dilation": 2.0}
