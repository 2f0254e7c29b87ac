"""`report.html`: one page that needs nothing but itself."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import jinja2
import msgspec
from markupsafe import Markup

from contracts.report import CandidateFacts, ProbeFacts, Report
from esper import settings
from esper.report import charts, headline, rivals, words

_ROWS_MOST = 200
"""Rows of one table; the rest is in report.json."""
_CANDIDATES_MOST = 12


class CandidateRow(msgspec.Struct, frozen=True):
    """A candidate with the length of its bar (a share of the probe's best gain), and whether it was grown."""

    facts: CandidateFacts
    bar: float
    grown: bool


class ProbeTable(msgspec.Struct, frozen=True):
    """A probe as it is shown."""

    facts: ProbeFacts
    rows: tuple[CandidateRow, ...]
    left_out: int


def page(report: Report) -> str:
    """The whole page."""
    return _template().render(
        report=report,
        title=headline.sentence(report),
        ending=headline.ending(report),
        rows=headline.rows(report),
        kernels=headline.kernels(report.kernels),
        curves=charts.curves(report),
        lives=[drawing for drawing in (charts.timelines(report), charts.boundary(report)) if drawing],
        rivalry=rivals.summary(report),
        rivals=rivals.rows(report),
        flops=charts.flops(report),
        probes=_probes(report),
        config=settings.to_toml(report.config),
        rows_most=_ROWS_MOST,
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": words.count,
        "counted": words.counted,
        "flops": words.flops,
        "percent": words.percent,
        "figure": words.figure,
        "signed": words.signed,
        "minus": words.minus,
        "ms": words.milliseconds,
        "duration": words.duration,
        "settings": words.settings,
    }
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    environment.globals["style"] = Markup(style)
    return environment.get_template("page.html")


def _probes(report: Report) -> list[ProbeTable]:
    """The probes; a candidate counts as grown if it germinated after its probe and before the next."""
    found = []
    ends = [*(probe.epoch for probe in report.probes), math.inf][1:]
    for probe, end in zip(report.probes, ends, strict=True):
        grown = {
            (graft.site, graft.blueprint_id)
            for graft in report.grafts
            if graft.stages and probe.epoch <= graft.stages[0].epoch < end
        }
        shown = probe.candidates[:_CANDIDATES_MOST]
        rows = tuple(_candidates(shown, grown))
        found.append(ProbeTable(probe, rows, len(probe.candidates) - len(shown)))
    return found


def _candidates(candidates: Sequence[CandidateFacts], grown: set[tuple[str, str]]) -> list[CandidateRow]:
    """The rows; of several contenders for the same sites and blueprint the first one was grown."""
    best = max((candidate.gain or 0.0 for candidate in candidates), default=0.0)
    found = []
    for candidate in candidates:
        grafts = {(site, candidate.blueprint_id) for site in candidate.sites}
        share = max(0.0, candidate.gain or 0.0) / best if best > 0 else 0.0
        found.append(CandidateRow(candidate, share, grafts <= grown))
        grown -= grafts
    return found
