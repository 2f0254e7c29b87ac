"""Native compilation (Inductor), kept only where it computes the same and is measured to pay.

For small modules on a CPU the plain module is often as fast, and compiling takes seconds to a minute. What is
kept are the compiler's cache artifacts: whoever loads them compiles the same module again in a moment.
"""

import warnings
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from contracts.kernels import Design
from esper.tezzeret.examination import Pass, check_same, inputs, run
from esper.tezzeret.timing import BATCH, ratio

PAYS_FROM = 1.15
"""Speed-up of a forward and backward pass from which the artifacts are kept."""
_WRAPPED = "_orig_mod."
"""What `torch.compile` puts before the names of a module's parameters."""


class Native(NamedTuple):
    speedup: float
    artifacts: bytes | None
    """Of this module alone; None where it does not pay."""


def compiled(trained: nn.Module, design: Design) -> Native | None:
    """Compile forward and backward for the design's shape, compare them with the plain module's, time them.

    They are compared at the batch size that is compiled and timed, within the examination's tolerance. None
    where there is no compiler.

    Raises:
        Unsound: what was made computes something else, however fast that is.
    """
    # loading torch's compiler takes seconds; who only makes or trains kernels goes without
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError
    from torch.compiler._cache import CacheArtifactManager

    h = inputs(BATCH, design.shape)
    torch.compiler.reset()
    try:
        # the compiler notes what it made for as long as the process lives: the designs before this one too
        with warnings.catch_warnings(), CacheArtifactManager.with_fresh_cache():
            warnings.simplefilter("ignore")  # torch's own, about itself
            native = cast(nn.Module, torch.compile(trained))
            check_same(trained, _passed(native, h), h)
            speedup = ratio(trained, native, h)
            kept = torch.compiler.save_cache_artifacts() if speedup >= PAYS_FROM else None
    except (TorchDynamoException, InductorError):
        return None
    finally:
        torch.compiler.reset()
    return Native(speedup, None if kept is None else kept[0])


def _passed(native: nn.Module, h: Tensor) -> Pass:
    """A pass of the compiled module, by the plain one's names."""
    output, gradients = run(native, h)
    return Pass(output, {name.removeprefix(_WRAPPED): value for name, value in gradients.items()})
