"""What a graft gains: the same batches with the seed and without it, never the host's own drift."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor, nn

from contracts.growth import SeedFigures
from esper.kasmina.aside import Inputs, device_of, evaluating
from esper.kasmina.graft import Grafts

Batches: TypeAlias = Sequence[tuple[Inputs, Tensor]]
"""Inputs and targets of each mini-batch."""
Score: TypeAlias = tuple[float, float | None]
"""Mean loss, and accuracy (a fraction) or None."""
Evaluate: TypeAlias = Callable[[nn.Module, Batches], Score]
"""The score of a model over batches."""


def compare(
    grafts: Grafts, seed_id: str, batches: Batches, evaluate: Evaluate, as_is: Score | None = None
) -> SeedFigures:
    """The seed's loss_with, loss_without, accuracy_with and accuracy_without.

    A live seed counts as it is, at its present alpha; an isolated one as it would at alpha 1. Everything
    else in the model stays as it is on both sides. Each side sees every batch once, in eval mode without
    gradients; modes, buffers and the global random streams are afterwards as they were. `as_is` is the
    score of the model as it is, where it is known already: that side is then not evaluated.

    Raises:
        GraftError: there is no such seed.
        ValueError: there are no batches.
    """
    if not batches:
        raise ValueError(f"{seed_id} can't be compared on no batches; give at least one")
    with evaluating(grafts.model, device_of(batches[0][0])):
        live = grafts.alpha(seed_id) > 0.0
        here = evaluate(grafts.model, batches) if as_is is None else as_is
        with grafts.without(seed_id) if live else grafts.with_(seed_id):
            other = evaluate(grafts.model, batches)
    present, absent = (here, other) if live else (other, here)
    return SeedFigures(
        seed_id=seed_id,
        loss_with=present[0],
        loss_without=absent[0],
        accuracy_with=present[1],
        accuracy_without=absent[1],
    )
