"""A run in single lines: how it begins, where it is, what happened."""

from collections.abc import Mapping, Sequence

from contracts.growth import ProbeScore
from contracts.view import Event, RunFacts, RunView
from esper.report import words
from esper.report.record import finite


def opening(facts: RunFacts) -> str:
    """The first line of a run: what is run, for how long, and where it writes to."""
    return " · ".join(
        (facts.workload, f"policy {facts.policy}", f"seed {facts.seed}", *length(facts), place(facts))
    )


def place(facts: RunFacts) -> str:
    """Where a run writes to, as closely as that is known."""
    return facts.folder or facts.out


def progress_line(view: RunView) -> str:
    """A run's state in one line."""
    parts = [f"epoch {words.count(view.epoch)}", view.phase]
    if view.progress is not None:
        parts.append(words.percent(view.progress, 0))
    if view.epochs:
        newest = view.epochs[-1]
        parts.append(f"train loss {words.figure(newest.train_loss)}")
        parts.append(f"val loss {words.figure(newest.val_loss)}")
        parts.append(f"val accuracy {words.percent(newest.val_accuracy)}")
    if view.params:
        parts.append(f"{words.count(view.params)} parameters")
    if view.boundary is not None and view.phase != "comparing":  # the ungrown host has none
        parts.append(f"boundary p99 {words.milliseconds(view.boundary.p99_ms)}")
    if view.left_s is not None:
        parts.append(f"{words.duration(view.left_s)} left")
    return "  ".join(parts)


def event_line(event: Event) -> str:
    return f"epoch {words.count(event.epoch)}  {event.kind}  {event.text}"


def probed(scores: Sequence[ProbeScore], names: Mapping[str, str]) -> str:
    """What a probe has shown; `scores` are its contenders', the best first, `names` the blueprints' by id."""
    best = scores[0]
    grafts, gain = best.contender.grafts, words.figure(finite(best.gain))
    kind = grafts[0].blueprint_id
    what = f"{names.get(kind, kind)} at {', '.join(graft.site for graft in grafts)}"
    if len(scores) == 1:
        return f"probed {what} beside the ungrown network: gain {gain}"
    told = f"probed {words.count(len(scores))} contenders"
    if best.gain > 0:
        return f"{told}: {what} leads, gain {gain}"
    return f"{told}: {what} comes closest, but no better than the ungrown network, gain {gain}"


def length(facts: RunFacts) -> list[str]:
    """How long the run is to be, in words; empty if the workload says so itself."""
    if facts.budget_flops:
        return [words.flops(facts.budget_flops)]
    return [words.counted(facts.epochs, "epoch", "epochs")] if facts.epochs else []
