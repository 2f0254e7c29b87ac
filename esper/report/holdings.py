"""What a kernel store holds, as a person reads it: one line each, and the store's size against its limit."""

from collections.abc import Sequence

from esper.report import words
from esper.urza.holdings import Holding
from esper.urza.library import LibraryStatistics

_MIB = 1 << 20
_REF_CHARS = 12
"""Of a name, which is longer than a line; so many are enough to mean it."""
_HEAD = ("state", "blueprint", "site", "settings", "made", "version", "bytes", "name", "tags")


def text(holdings: Sequence[Holding], stats: LibraryStatistics) -> list[str]:
    """The table, then the totals. What others may have written is shown without its control characters."""
    rows = [tuple(map(words.plain, _cells(one))) for one in holdings]
    lines = _table([_HEAD, *rows]) if rows else []
    for line, one in zip(lines[1:], holdings, strict=True):
        if one.reason:
            tried = f"{words.counted(one.attempts, 'attempt', 'attempts')} failed: " if one.attempts else ""
            line.append(f"    {tried}{words.plain(one.reason)}")
        if one.miscompiled:
            line.append(f"    its native code is not kept: {words.plain(one.miscompiled)}")
    return [*(each for line in lines for each in line), totals(stats)]


def totals(stats: LibraryStatistics) -> str:
    """How much there is of everything."""
    kernels, programs = (
        words.counted(stats.kernels, "kernel", "kernels"),
        words.counted(stats.programs, "program", "programs"),
    )
    return (
        f"{kernels} and {programs}, {megabytes(stats.bytes)} of {megabytes(stats.limit_bytes)}; "
        f"{stats.held} held by runs, {stats.wanted} wanted, {stats.given_up} given up, "
        f"{stats.quarantined} in quarantine"
    )


def megabytes(nbytes: int) -> str:
    """`1_500_000` as `1.4 MB`, of 2^20 bytes as in the settings."""
    return f"{nbytes / _MIB:.1f} MB"


def short(ref: str) -> str:
    """A name as it is shown, and may be given."""
    return ref[:_REF_CHARS]


def _table(rows: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """Each row as the first of its lines."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()]
        for row in rows
    ]


def _cells(one: Holding) -> tuple[str, ...]:
    site = f"{one.layout} {'x'.join(map(str, one.shape))}" if one.layout is not None else words.ABSENT
    made = f"{one.kind}, {one.strategy}" if one.strategy is not None else one.kind
    return (
        f"{one.state}, held" if one.holders else one.state,
        one.blueprint_id or words.ABSENT,
        site,
        words.settings(one.settings),
        made,
        str(one.version or ""),
        words.count(one.size) if one.ref else "",
        short(one.ref),
        " ".join(one.tags),
    )
