"""Drawing: elements, text and lines of an inline SVG. Whatever is not markup is escaped."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from esper.report.thin import Point


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element; `font_size` becomes `font-size`, `class_` becomes `class`; None is left out."""
    text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{name}{text}>{inner}</{name}>" if inner else f"<{name}{text}/>")


def number(value: object) -> str:
    """A coordinate with one decimal: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Markup:
    return tag("text", words, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def rect(
    x: float, y: float, width: float, height: float, class_: str, title: str = "", rx: float = 0.0
) -> Markup:
    """A rectangle that says `title` when it is pointed at."""
    said = (tag("title", title),) if title else ()
    return tag("rect", *said, x=x, y=y, width=width, height=height, rx=rx or None, class_=class_)


def path(runs: Iterable[Sequence[Point]], class_: str) -> Markup:
    """Lines through the points of each run; a run of one point is a dot."""
    parts = (f"M{_points(run)}" if len(run) > 1 else f"M{_points(run)}h0" for run in runs)
    return tag("path", d="".join(parts), class_=class_)


def dots(points: Sequence[Point], class_: str) -> Markup:
    """One path of dots (`stroke-linecap: round` draws them)."""
    return tag("path", d="".join(f"M{_points([point])}h0" for point in points), class_=class_)


def _points(run: Sequence[Point]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in run)


def drawing(width: float, height: float, label: str, *children: str) -> Markup:
    """The SVG element itself; `label` is read out to those who can't see it."""
    box = f"0 0 {number(width)} {number(height)}"
    return tag("svg", *children, viewBox=box, role="img", aria_label=label)
