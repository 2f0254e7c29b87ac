"""What several live seeds did to each other over a whole run, for the page."""

from collections.abc import Sequence

import msgspec

from contracts.conflict import JOINT, ConflictFacts, PairFacts
from contracts.report import Report
from esper.report import words


class Row(msgspec.Struct, frozen=True):
    """Two objectives over all steps of the run that compared them."""

    one: str
    other: str
    steps: int
    share: float
    """Of these steps, those in which the two were in conflict."""
    cosine_mean: float
    cosine_min: float


def compared(report: Report) -> list[ConflictFacts]:
    """The epochs in which a step compared live seeds."""
    return [facts.conflict for facts in report.epochs if facts.conflict is not None and facts.conflict.steps]


def summary(report: Report) -> str:
    """How often seeds were compared, what came of it and what it cost; empty if they never were."""
    epochs = compared(report)
    if not epochs:
        return ""
    steps, conflicts = sum(facts.steps for facts in epochs), sum(facts.conflicts for facts in epochs)
    projected = sum(facts.projected for facts in epochs)
    resolved = (
        f"{words.counted(projected, 'step was', 'steps were')} projected"
        if projected
        else "none was projected"
    )
    return (
        f"Live seeds were compared in {words.counted(steps, 'step', 'steps')} of "
        f"{words.counted(len(epochs), 'epoch', 'epochs')}; in {words.percent(conflicts / steps)} of them "
        f"gradients of the host were in conflict, and {resolved}. "
        f"It took {words.flops(sum(facts.flops for facts in epochs))}."
    )


def rows(report: Report) -> list[Row]:
    """Every pair that was ever compared, in the order in which they came up."""
    found: dict[tuple[str, str], list[tuple[int, PairFacts]]] = {}
    for facts in compared(report):
        for pair in facts.pairs:
            found.setdefault((pair.one, pair.other), []).append((facts.steps, pair))
    return [_row(one, other, parts) for (one, other), parts in found.items()]


def _row(one: str, other: str, parts: Sequence[tuple[int, PairFacts]]) -> Row:
    steps = sum(count for count, _ in parts)
    return Row(
        one="all seeds" if one == JOINT else f"{one} alone",
        other=f"{other} alone",
        steps=steps,
        share=sum(pair.conflicts for _, pair in parts) / steps,
        cosine_mean=sum(count * pair.cosine_mean for count, pair in parts) / steps,
        cosine_min=min(pair.cosine_min for _, pair in parts),
    )
