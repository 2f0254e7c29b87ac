"""The catalogue as a person reads it: one line a blueprint, where it grows, and what it costs at one site."""

from collections.abc import Sequence

import msgspec

from contracts.blueprint import BlueprintDescriptor
from contracts.growth import Layout, SiteInfo
from esper.karn.blueprint import is_dangerous
from esper.karn.query import Description
from esper.report import words


class Line(msgspec.Struct, frozen=True):
    """One blueprint; costs are those of its smallest form at the site that was asked about."""

    blueprint_id: str
    name: str
    tier: str
    stage: int
    risk: float
    layouts: list[str]
    tags: list[str]
    needs: str
    """What has to be so before it may be grown; empty for none."""
    params: int | None
    flops: int | None
    description: str


def site_of(layout: Layout | None, shape: tuple[int, ...] | None) -> SiteInfo | None:
    """The site that is asked about; None if no shape was given.

    Raises:
        ValueError: a shape without a layout.
    """
    if shape is None:
        return None
    if layout is None:
        raise ValueError("--shape needs its layout: give --layout too")
    name = f"of shape {'x'.join(map(str, shape))}"
    return SiteInfo(name, layout, shape, shape[-1] if layout is Layout.TOKENS else shape[0], 0)


def listed(blueprints: Sequence[Description]) -> list[Line]:
    """The blueprints in their order; without a site nothing is said of costs."""
    return [_line(one) for one in blueprints]


def text(lines: Sequence[Line]) -> list[str]:
    """Two lines a blueprint for a terminal, however narrow: its figures, and what it does."""
    widths = [
        max((len(str(value)) for value in column), default=0)
        for column in zip(*map(_cells, lines), strict=True)
    ]
    shown = []
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(_cells(line), widths, strict=True))
        needs = f" Needs {line.needs}." if line.needs else ""
        shown += ["  ".join(cells).rstrip(), f"       {line.description}{needs}"]
    return shown


def _cells(line: Line) -> tuple[str, ...]:
    costs: tuple[str, ...] = ()
    if line.params is not None and line.flops is not None:
        costs = (f"{words.count(line.params)} parameters, {words.flops(line.flops)}",)
    standing = f"stage {line.stage}, risk {line.risk:.2f}"
    return line.blueprint_id, line.name, line.tier, standing, *costs, " ".join(line.layouts)


def _line(blueprint: Description) -> Line:
    about = blueprint.about
    params, flops = blueprint.cost or (None, None)
    return Line(
        blueprint_id=about.blueprint_id,
        name=about.name,
        tier=about.tier.name.lower().replace("_", "-"),
        stage=about.stage,
        risk=about.risk,
        layouts=[layout.value for layout in Layout if layout in blueprint.layouts],
        tags=list(blueprint.tags),
        needs=_needs(about),
        params=params,
        flops=flops,
        description=about.description,
    )


def _needs(about: BlueprintDescriptor) -> str:
    if is_dangerous(about):
        return "a drill"
    if about.approval_required:
        return f"""--set 'growth.approved=["{about.blueprint_id}"]' --set growth.max_stage={about.stage}"""
    return f"--set growth.max_stage={about.stage}" if about.stage > 1 else ""
