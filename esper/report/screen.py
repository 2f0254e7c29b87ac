"""A run as lines of styled text: while it runs, and what came of it at the end.

Lines are laid out here, not by rich's tables: a refresh has to be cheap beside a training thread.
"""

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.text import Text

from contracts.growth import SeedView, SiteView
from contracts.lifecycle import Stage
from contracts.report import EpochFacts, KernelFacts, Report
from contracts.view import RunView
from esper.report import headline, words
from esper.report.oneline import length, place

_BAR, _SPARK, _TAIL = 24, 40, 400
_SITES_MOST = 12
_SITES_LEAST = 2
_OTHERS = 12
"""Lines of the picture that are neither sites nor news, at most."""
_EVENTS_MOST = 6
_GRAFTS_MOST = 20
_COLUMNS = (24, 16, 18, 11, 10)
"""Widths of seed, stage, blueprint, parameters and gain."""

_STAGE_STYLES = {
    Stage.GERMINATED: "white",
    Stage.TRAINING: "cyan",
    Stage.BLENDING: "blue",
    Stage.SHADOWING: "magenta",
    Stage.PROBATIONARY: "yellow",
    Stage.FOSSILIZED: "green",
    Stage.CULLED: "red",
    Stage.EMBARGOED: "red",
}
_EVENT_STYLES = {
    "germinated": "cyan",
    "fossilized": "green",
    "culled": "red",
    "warning": "yellow",
    "alert": "bold red",
}
_OUTCOME_STYLES = {"fossilized": "green", "culled": "red", "terminated": "red"}


def render(view: RunView, rows: int = 50) -> Group:
    """The whole picture of a running run, in `rows` lines if that can be."""
    return Group(*lines(view, rows))


def lines(view: RunView, rows: int = 50) -> list[Text]:
    """The same line by line; no line wraps."""
    news = list(_news(view))
    sites_most = max(_SITES_LEAST, min(_SITES_MOST, rows - _OTHERS - len(news)))
    found = [
        *_head(view),
        Text(),
        *_learning(view),
        *_machinery(view),
        Text(),
        *_sites(view.sites, sites_most),
        *news,
    ]
    for text in found:
        text.no_wrap, text.overflow = True, "ellipsis"
    return found


def summary(report: Report, folder: str) -> list[Text]:
    """What came of a run, beside the ungrown host where there was one, and where the report lies."""
    found = [Text(headline.sentence(report), "bold")]
    if ending := headline.ending(report):
        found.append(Text(ending, "bold red"))
    found += [Text(), *_figures(report), *_grafts(report), *_kernels(report.kernels)]
    found += [Text(), Text.assemble(("report  ", "dim"), f"{folder}/report.html")]
    return found


def _head(view: RunView) -> Iterator[Text]:
    facts = view.facts
    yield Text.assemble(
        ("Esper ", "bold green"),
        (facts.workload, "bold"),
        f" · policy {facts.policy} · seed {facts.seed}",
        (f" · {view.phase}", "bold cyan"),
        (_mode(view), "bold yellow"),
        f" · {place(facts)}",
    )
    if view.progress is None:
        spent = words.flops(view.spent_flops)
        yield Text(f"epoch {words.count(view.epoch)} · {spent} · {words.duration(view.elapsed_s)}")
        return
    yield Text.assemble(
        (words.bar(view.progress, _BAR), "green"),
        f" {words.percent(view.progress, 0)} of {' '.join(length(facts))}",
        f" · epoch {words.count(view.epoch)} · {words.duration(view.elapsed_s)}",
        f" · {words.duration(view.left_s)} left" if view.left_s is not None else "",
    )


def _mode(view: RunView) -> str:
    """What is not as it should be, in two words at most."""
    level = "conservative" if view.conservative else view.emergency
    return f" · {level} mode" if level == "conservative" else f" · {level}" if level else ""


def _learning(view: RunView) -> Iterator[Text]:
    """Parameters, losses and accuracy; the little curves show all epochs, sampled."""
    yield _labelled("parameters", *_parameters(view))
    if not view.epochs:
        return
    newest, tail = view.epochs[-1], _sampled(view.epochs)
    losses = f"train {words.figure(newest.train_loss)}  val {words.figure(newest.val_loss)}"
    yield _labelled("loss", f"{losses:<28}", (words.sparkline([f.val_loss for f in tail], _SPARK), "cyan"))
    accuracy = f"val {words.percent(newest.val_accuracy)}"
    course = words.sparkline([f.val_accuracy for f in tail], _SPARK)
    yield _labelled("accuracy", f"{accuracy:<28}", (course, "green"))


def _parameters(view: RunView) -> Iterator[str]:
    if view.host_params:
        yield f"host {words.count(view.host_params)}, now {words.count(view.params)}"
        yield f", at most {words.count(view.max_params)}" if view.max_params else ""
    else:
        yield "loading torch and the workload"


def _sampled(epochs: Sequence[EpochFacts]) -> Sequence[EpochFacts]:
    """About `_TAIL` epochs, evenly taken: enough for a little curve, cheap however long the run is."""
    return epochs[:: max(1, len(epochs) // _TAIL)]


def _machinery(view: RunView) -> Iterator[Text]:
    """The boundary against its budget, the bus, and the probe that is running."""
    budget = view.facts.boundary_budget_ms
    if view.boundary is not None:
        p50, p99 = view.boundary.p50_ms, view.boundary.p99_ms
        yield _labelled(
            "boundary",
            f"p50 {words.milliseconds(p50)}  ",
            (f"p99 {words.milliseconds(p99)}", "red" if p99 > budget else "green"),
            (f"  of {budget:g} ms", "dim"),
            f"   bus {words.count(view.bus_depth)} waiting",
        )
    kernels = view.kernels
    if kernels is not None and kernels.ready < kernels.wanted:
        share = kernels.ready / kernels.wanted
        told = (
            f" {words.count(kernels.ready)} of {words.count(kernels.wanted)} ready for what may be grown next"
        )
        if kernels.making:
            told += f"; now {', '.join(kernels.making)}"
        yield _labelled("kernels", (words.bar(share, _BAR // 2), "cyan"), told)
    probe = view.probe
    if probe is not None:
        share = probe.done / probe.total if probe.total else 0.0
        lead = f", {probe.best} leads {words.signed(probe.best_gain)}" if probe.best else ""
        yield _labelled(
            "probe",
            (words.bar(share, _BAR // 2), "cyan"),
            f" {words.count(probe.done)} of {words.counted(probe.total, 'step', 'steps')}",
            f", {words.counted(probe.candidates, 'contender', 'contenders')}{lead}",
        )


def _labelled(label: str, *parts: str | tuple[str, str]) -> Text:
    return Text.assemble((f"{label:<12}", "dim"), *parts)


def _sites(sites: Sequence[SiteView], most: int) -> Iterator[Text]:
    """A line for each seed, `most` at most, and for each site without one; these are the first to be left
    out."""
    if not sites:
        return
    seeds = [(site, seed) for site in sites for seed in site.seeds]
    live = [(site, seed) for site, seed in seeds if seed.record.stage is not Stage.DORMANT]
    grown = {site.site.name for site, _ in live}
    dormant = [site for site in sites if site.site.name not in grown]
    yield Text(_row("seed or site", "stage", "blueprint", "parameters", "gain"), "dim")
    for _, seed in live[-most:]:
        yield _seed(seed)
    room = max(0, most - len(live))
    for site in dormant[:room]:
        yield Text(_row(site.site.name, "dormant", "", "", ""), "dim")
    left_out = max(0, len(live) - most), max(0, len(dormant) - room)
    if any(left_out):
        yield Text(f"and {left_out[0]} more seeds, {left_out[1]} more dormant sites", "dim")


def _seed(seed: SeedView) -> Text:
    record = seed.record
    stage = record.stage.name.lower()
    if record.stage is Stage.BLENDING:
        stage += f" α {record.alpha:.2f}"
    cells = (record.seed_id, stage, record.blueprint_id, words.count(record.params), words.signed(seed.gain))
    text = Text(_row(*cells))
    text.stylize(_STAGE_STYLES.get(record.stage, ""), _COLUMNS[0], _COLUMNS[0] + len(stage))
    return text


def _row(seed: str, stage: str, blueprint: str, params: str, gain: str) -> str:
    a, b, c, d, e = _COLUMNS
    name = seed if len(seed) < a else f"…{seed[2 - a :]}"
    kind = blueprint if len(blueprint) < c else f"{blueprint[: c - 2]}…"
    return f"{name:<{a}}{stage:<{b}}{kind:<{c}}{params:>{d}}{gain:>{e}}".rstrip()


def _news(view: RunView) -> Iterator[Text]:
    if view.alerts or view.events:
        yield Text()
    for alert in view.alerts[-_EVENTS_MOST:]:
        yield Text(f"! {alert}", "bold red")
    for event in view.events[-_EVENTS_MOST:]:
        style = _EVENT_STYLES.get(event.kind, "")
        yield Text.assemble((f"{event.epoch:>7,}  ", "dim"), (f"{event.kind:<12}", style), event.text)


def _figures(report: Report) -> Iterator[Text]:
    """The headline figures as columns."""
    rows = headline.rows(report)
    if report.compare:
        yield Text(f"{'':<24}{'this run':>16}{'ungrown host':>16}   growing brought", "dim")
    for row in rows:
        text = Text(f"{row.label:<24}{row.grown:>16}{row.ungrown:>16}   {row.brought}".rstrip())
        if row.better is not None:
            text.stylize("green" if row.better else "red", 59)
        yield text


def _grafts(report: Report) -> Iterator[Text]:
    if not report.grafts:
        return
    yield Text()
    yield Text(_row("seed", "outcome", "blueprint", "parameters", "gain"), "dim")
    for graft in report.grafts[-_GRAFTS_MOST:]:
        blueprint = f"{graft.blueprint_id} {graft.blueprint_name}".rstrip()
        cells = (graft.seed_id, graft.outcome, blueprint, words.count(graft.params), words.signed(graft.gain))
        text = Text(_row(*cells))
        style = _OUTCOME_STYLES.get(graft.outcome, "")
        text.stylize(style, _COLUMNS[0], _COLUMNS[0] + len(graft.outcome))
        yield text
    if len(report.grafts) > _GRAFTS_MOST:
        yield Text(f"and {len(report.grafts) - _GRAFTS_MOST} earlier ones in report.json", "dim")


def _kernels(facts: KernelFacts) -> Iterator[Text]:
    told = headline.kernels(facts)
    if told:
        yield Text.assemble("\n", ("kernels ", "dim"), told)
