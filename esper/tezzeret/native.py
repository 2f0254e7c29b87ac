"""Native compilation (Inductor), kept only where it is measured to pay.

For small modules on a CPU the plain module is often as fast, and compiling takes seconds to a minute. What is
kept are the compiler's cache artifacts: whoever loads them compiles the same module again in a moment.
"""

import warnings
from typing import NamedTuple, cast

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError

from contracts.kernels import Design
from esper.tezzeret.examination import inputs
from esper.tezzeret.timing import BATCH, ratio

PAYS_FROM = 1.15
"""Speed-up of a forward and backward pass from which the artifacts are kept."""


class Native(NamedTuple):
    speedup: float
    artifacts: bytes | None
    """None where it does not pay."""


def compiled(trained: nn.Module, design: Design) -> Native | None:
    """Compile forward and backward for the design's shape and time them; None where there is no compiler."""
    torch.compiler.reset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about itself
            native = cast(nn.Module, torch.compile(trained))
            speedup = ratio(trained, native, inputs(BATCH, design.shape))
    except (TorchDynamoException, InductorError):
        return None
    finally:
        torch.compiler.reset()
    kept = torch.compiler.save_cache_artifacts()
    return Native(speedup, kept[0] if kept is not None and speedup >= PAYS_FROM else None)
