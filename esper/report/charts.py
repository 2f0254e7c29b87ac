"""A run's drawings: its curves, its boundary times, the lives of its seeds, and where the FLOPs went."""

import bisect
import math
from collections.abc import Callable, Sequence

import msgspec
from markupsafe import Markup

from contracts.lifecycle import Stage
from contracts.report import EpochFacts, Figure, GraftFacts, Report
from esper.report import svg, words
from esper.report.plot import WIDTH, Chart, Level, Mark, Series, draw, x_axis
from esper.report.scale import Scale

_ROW, _LABELS = 24.0, 168.0
_SEEDS_MOST = 60
_SEED_MOST = 18
VALIDATION = "validation"
"""The account of what the validation after each epoch takes."""
SHORTER = "training, shorter epoch"
_LOSSES_LOG_FROM = 25.0
"""Greatest over least loss from which losses are drawn on a logarithmic axis."""


class Drawing(msgspec.Struct, frozen=True):
    """A drawing with its title and the keys (class and words) of its legend."""

    title: str
    svg: Markup
    keys: tuple[tuple[str, str], ...] = ()
    note: str = ""


def curves(report: Report) -> list[Drawing]:
    """Accuracy and loss, over epochs and over training FLOPs."""
    return [
        _curve(report, over_flops=over_flops, losses=losses)
        for losses in (False, True)
        for over_flops in (False, True)
    ]


def _curve(report: Report, *, over_flops: bool, losses: bool) -> Drawing:
    greatest = max((facts.train_flops for facts in report.epochs), default=0)
    size, unit = words.flops_unit(greatest)
    x = (lambda facts: facts.train_flops / size) if over_flops else (lambda facts: float(facts.epoch))
    axis = f"training {unit}" if over_flops else "epoch"
    title = (
        f"{'Loss' if losses else 'Validation accuracy'} over {'training FLOPs' if over_flops else 'epochs'}"
    )
    series = _series(report, x, losses=losses)
    chart = Chart(
        title=title,
        x_name=axis,
        series=series,
        wording=words.figure if losses else words.percent,
        unit="" if losses else " %",
        unit_share=1.0 if losses else 0.01,
        marks=_marks(report, x),
        log_from=_LOSSES_LOG_FROM if losses else math.inf,
        least_span=0.0 if losses else 0.05,
    )
    keys = [
        (f"{'box dot' if entry.dotted else 'line'} {entry.class_}", entry.name) for entry in reversed(series)
    ]
    if report.grafts:
        keys.append(("line mark", "a seed germinates"))
    return Drawing(title, draw(chart), tuple(keys), _shorter_note(report) if losses else "")


def _series(report: Report, x: Callable[[EpochFacts], float], *, losses: bool) -> tuple[Series, ...]:
    """The grown network in front, the ungrown host behind it."""

    def of(name: str, epochs: Sequence[EpochFacts], class_: str, y: Callable[[EpochFacts], Figure]) -> Series:
        return Series(name, tuple((x(facts), y(facts)) for facts in epochs), class_)

    def validation(facts: EpochFacts) -> Figure:
        return facts.val_loss if losses else facts.val_accuracy

    found = []
    if report.compare:
        found.append(of("ungrown host", report.compare.epochs, "ungrown", validation))
    if losses:
        usual = report.config.train.epoch_steps
        whole = [None if shorter(facts, usual) else facts.train_loss for facts in report.epochs]
        cut = [facts.train_loss if shorter(facts, usual) else None for facts in report.epochs]
        xs = [x(facts) for facts in report.epochs]
        found.append(Series("training", tuple(zip(xs, whole, strict=True)), "training"))
        if any(loss is not None for loss in cut):
            found.append(Series(SHORTER, tuple(zip(xs, cut, strict=True)), "shorter", dotted=True))
    found.append(of("validation" if losses else "this run", report.epochs, "grown", validation))
    return tuple(found)


def shorter(facts: EpochFacts, usual: int) -> bool:
    """Whether an epoch had fewer than the usual number of steps: the end of the run, or of its budget, cut it
    short."""
    return 0 < facts.steps < usual


def _shorter_note(report: Report) -> str:
    """What is to be known of the newest shorter epoch's training loss; empty if there is none."""
    usual = report.config.train.epoch_steps
    found = [facts for facts in report.epochs if shorter(facts, usual) and facts.train_loss is not None]
    if not found:
        return ""
    newest = found[-1]
    return (
        f"Epoch {words.count(newest.epoch)} had {newest.steps} of {usual} steps. Its training loss is a mean "
        "over fewer examples than that of the others, so it is drawn apart."
    )


def _marks(report: Report, x: Callable[[EpochFacts], float]) -> tuple[Mark, ...]:
    """Where each seed germinated, named by site and blueprint."""
    epochs = [facts.epoch for facts in report.epochs]
    found = []
    for graft in report.grafts:
        index = bisect.bisect_left(epochs, graft.stages[0].epoch) if graft.stages else len(epochs)
        if index < len(epochs):
            title = (
                f"{graft.seed_id}: {label(graft)}, {words.count(graft.params)} parameters, {graft.outcome}"
            )
            found.append(Mark(x(report.epochs[index]), _short(graft), title, f"mark {graft.outcome}"))
    return tuple(found)


def boundary(report: Report) -> Drawing | None:
    """The boundary's time at each epoch against its budget, and its copy's; None if there was none."""
    facts = [(float(one.epoch), one.boundary_ms) for one in report.epochs if one.boundary_ms is not None]
    times = [(epoch, took.total) for epoch, took in facts]
    copying = [(epoch, took.keep or None) for epoch, took in facts]
    total = report.boundary.total
    if not times or total is None:
        return None
    budget = report.boundary.budget_ms
    series = [Series("boundary", tuple(times), "grown", dotted=True)]
    keys = [("box dot grown", "all of it")]
    if any(took for _, took in copying):
        series.append(Series("of it to copy the run", tuple(copying), "training"))
        keys.append(("line training", "of it to copy the run"))
    chart = Chart(
        title="Boundary times",
        x_name="epoch",
        series=tuple(series),
        wording=words.milliseconds,
        unit=" ms",
        levels=(
            Level(budget, f"budget {budget:g} ms", "budget"),
            Level(total.p99_ms, f"p99 {words.milliseconds(total.p99_ms)}"),
            Level(total.p50_ms, f"p50 {words.milliseconds(total.p50_ms)}"),
        ),
        log_from=3.0,
    )
    above = words.percent(report.boundary.share_above_budget, 2)
    note = f"{above} of {words.count(len(times))} boundaries were above the budget"
    return Drawing("Boundary: how long training stood still", draw(chart), tuple(keys), note)


def timelines(report: Report) -> Drawing | None:
    """A row for each seed with its stages over the epochs; None if no seed ever was."""
    shown = report.grafts[:_SEEDS_MOST]
    if not shown:
        return None
    last = max((facts.epoch for facts in report.epochs), default=0) + 1
    ends = [stage.epoch for graft in shown for stage in graft.stages]
    scale = Scale(0.0, float(max([last, *ends])), _LABELS, WIDTH - 14)
    height = _ROW * len(shown) + 44
    rows = [part for index, graft in enumerate(shown) for part in _row(graft, index, scale)]
    title = "The seeds and their stages"
    used = {stage.stage for graft in shown for stage in graft.stages} - {Stage.DORMANT.name}
    keys = tuple((f"box {stage.name}", stage.name.lower()) for stage in Stage if stage.name in used)
    left_out = len(report.grafts) - len(shown)
    note = f"{left_out} later seeds are in report.json" if left_out else ""
    return Drawing(
        title, svg.drawing(WIDTH, height, title, *x_axis(scale, height - 38, "epoch"), *rows), keys, note
    )


def _row(graft: GraftFacts, index: int, scale: Scale) -> list[Markup]:
    """One seed: its name, and a box from each stage to the next; fossilized stays to the end."""
    top = _ROW * index + 3
    name = svg.text(_LABELS - 8, top + 13, _short(graft), "tick", "end")
    found = [svg.tag("g", svg.tag("title", f"{graft.seed_id}: {label(graft)}"), name)]
    ends = [*(stage.epoch for stage in graft.stages[1:]), scale.high]
    for stage, end in zip(graft.stages, ends, strict=True):
        left, width = scale(stage.epoch), scale(end) - scale(stage.epoch)
        if width > 0 and stage.stage not in (Stage.DORMANT.name, Stage.TERMINATED.name):
            words_ = f"{graft.seed_id} {stage.stage.lower()}, epochs {stage.epoch} to {end:g}"
            found.append(svg.rect(left, top, width, _ROW - 8, f"box {stage.stage}", words_, rx=2))
    return found


def flops(report: Report) -> Drawing | None:
    """Training FLOPs by account as one bar; None if none were counted."""
    beside = _uncounted(report)
    counted = {name: spent for name, spent in report.flops.items() if name != VALIDATION or not beside}
    total = sum(counted.values())
    if total <= 0:
        return None
    parts, keys, left = [], [], 0.0
    for index, (name, spent) in enumerate(sorted(counted.items(), key=lambda item: -item[1])):
        if not spent:
            continue
        width = WIDTH * spent / total
        said = f"{name.replace('_', ' ')} {words.flops(spent)} ({words.percent(spent / total)})"
        parts.append(svg.rect(left, 0.0, max(width, 0.5), 26.0, f"account a{index % 8}", said))
        keys.append((f"box a{index % 8}", said))
        left += width
    title = "Where the training FLOPs went"
    note = (
        f"Validation took {words.flops(beside)} beside that: no decision went by it, so it is not counted."
        if beside
        else ""
    )
    return Drawing(title, svg.drawing(WIDTH, 26.0, title, *parts), tuple(keys), note)


def _uncounted(report: Report) -> int:
    """FLOPs of a validation that is no part of what the run spent; 0 if it is."""
    validation = report.flops.get(VALIDATION, 0)
    return validation if sum(report.flops.values()) - validation == report.final.train_flops else 0


def label(graft: GraftFacts) -> str:
    """A graft as people call it: its site and its blueprint."""
    return " ".join(part for part in (graft.site, graft.blueprint_id, graft.blueprint_name) if part)


def _short(graft: GraftFacts) -> str:
    """Seed and blueprint, short enough for a drawing: the end of a seed's id tells seeds apart."""
    seed = graft.seed_id if len(graft.seed_id) <= _SEED_MOST else f"…{graft.seed_id[1 - _SEED_MOST :]}"
    return f"{seed} {graft.blueprint_id}"
