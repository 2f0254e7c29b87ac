"""The table that a drill ends with, and the sentence under it."""

from collections.abc import Sequence

import msgspec

from esper.drill.outcome import DrillResult
from esper.drill.programme import BENIGN, HAZARDS

HEADINGS = ("blueprint", "begins", "caught by", "within", "epoch", "host", "accuracy", "control", "verdict")
LIMIT = (
    "What hangs or locks only after its trial holds up the run itself, for nothing inside a process can end "
    "it: the watchdog then halts the run, and taken up again it goes on without the seed."
)


class DrillReport(msgspec.Struct, frozen=True):
    """All that was drilled."""

    seed: int
    epochs: int
    accuracy_control: float | None
    noise: float
    """Loss of accuracy that chance alone explains: two standard deviations over other orders of the data."""
    results: tuple[DrillResult, ...]
    limit: str = LIMIT

    @property
    def right(self) -> bool:
        """Every dangerous blueprint was contained, every harmless one let through."""
        return bool(self.results) and all(result.right for result in self.results)


def table(results: Sequence[DrillResult]) -> list[str]:
    """One line a drill, the columns aligned, under a line of headings."""
    rows = [HEADINGS, *(_cells(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def conclusion(report: DrillReport) -> str:
    """How many blueprints were dealt with rightly; one that is drilled twice has to be, twice."""
    contained, harmful = _counted(report.results, HAZARDS)
    passed, harmless = _counted(report.results, BENIGN)
    parts = [f"{contained} of {harmful} dangerous blueprints contained"] * bool(harmful)
    parts += [f"{passed} of {harmless} harmless ones let through"] * bool(harmless)
    return f"{', '.join(parts)}. Chance alone moves the accuracy by {report.noise:.1%}."


def line(result: DrillResult) -> str:
    """One drill in one line, as it is over."""
    begins = "harmless" if result.onset == "never" else f"begins {_WHERE[result.onset]}"
    caught = f"; {result.caught_by}: {result.reason}" if result.caught_by else ""
    return f"{result.blueprint_id} {result.name}, {begins}: {result.verdict}{caught}"


_WHERE = {"trial": "in its trial", "isolated": "in isolation", "live": "in the live network"}


def _counted(results: Sequence[DrillResult], among: Sequence[str]) -> tuple[int, int]:
    """Blueprints of `among` that were dealt with rightly in every drill, and those that were drilled."""
    drilled = {one.blueprint_id for one in results} & set(among)
    wrong = {one.blueprint_id for one in results if not one.right}
    return len(drilled - wrong), len(drilled)


def _cells(result: DrillResult) -> tuple[str, ...]:
    unit = "trial steps" if result.trial is not None and not result.trial.passed else "steps"
    return (
        f"{result.blueprint_id} {result.name}",
        "" if result.onset == "never" else result.onset,
        result.caught_by,
        "" if result.steps is None else f"{result.steps} {unit}",
        "" if result.epoch is None else str(result.epoch),
        result.host,
        _percent(result.accuracy),
        _percent(result.accuracy_control),
        result.verdict,
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
