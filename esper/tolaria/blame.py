"""Whether what broke a training step is a seed's doing: an error of the user's own code is never hidden."""

from collections.abc import Iterator, Sequence
from types import TracebackType

from torch import nn

from esper.kasmina.graft import GraftError
from esper.kasmina.slot import Slot
from esper.tolaria.errors import TrainingDiverged

_BACKWARD = "torch/autograd/__init__.py"
"""In a backward pass there is no frame of the module whose forward pass made it fail."""


def may_be_a_seeds(error: Exception, seeds: Sequence[nn.Module]) -> bool:
    """Whether one of these modules may have caused it: numbers that are not finite, a backward pass that
    fails, or an error that was raised inside of one of them."""
    if isinstance(error, TrainingDiverged):
        return True
    if isinstance(error, GraftError | AssertionError):
        return False
    theirs = {id(part) for seed in seeds for part in seed.modules()}
    return any(_is_suspicious(trace, theirs) for trace in _steps(error.__traceback__))


def attempts(suspects: Sequence[str], *, second_try: bool) -> Iterator[tuple[str, ...]]:
    """Whom to do without, one attempt after the other: nobody, since what breaks once may be nobody's fault;
    then each alone, the youngest first; then all of them."""
    if second_try:
        yield ()
    for suspect in reversed(suspects):
        yield (suspect,)
    if len(suspects) > 1:
        yield tuple(suspects)


def _is_suspicious(trace: TracebackType, theirs: set[int]) -> bool:
    frame = trace.tb_frame
    owner = frame.f_locals.get("self")
    inside = id(owner) in theirs or isinstance(owner, Slot)  # a slot: of a copy, whose FLOPs are counted
    return inside or frame.f_code.co_filename.endswith(_BACKWARD)


def _steps(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next
