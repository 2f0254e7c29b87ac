"""What a run leaves in its folder: the report, the model, the page, in this order and each whole."""

import shutil
import tempfile
from pathlib import Path

from contracts.report import BusFigures, Comparison, Ending, FinalFacts, Report
from esper.assembly import Parts
from esper.comparison import final_facts
from esper.errors import CannotWrite
from esper.export import DESCRIPTION, WEIGHTS, save_grown
from esper.report.build import PAGE, REPORT, Closing, build, write
from esper.report.page import page
from esper.report.record import Recorded
from esper.tolaria.results import FinalFigures
from esper.versions import versions

LEFT = (REPORT, WEIGHTS, DESCRIPTION, PAGE)
"""In the order in which they are written."""
BESIDE = ".model-"
"""How folders are called in which the model is written before it gets its place."""


def report_of(
    parts: Parts,
    recorded: Recorded,
    final: FinalFigures | None,
    bus: BusFigures,
    comparison: Comparison | None,
    ended: Ending,
    wall_s: float,
) -> Report:
    """The report of a run that is over; `final` is None if the network could not be judged."""
    trainer = parts.trainer
    closing = Closing(
        config=parts.config,
        versions=versions(),
        host_params=sum(p.numel() for _, p in parts.grafts.host_named_parameters()),
        final=FinalFacts(None, None, None, None, trainer.params, trainer.ledger.spent)
        if final is None
        else final_facts(final),
        flops=trainer.ledger.accounts(),
        bus=bus,
        wall_s=wall_s,
        ended=ended,
        compare=comparison,
        run_id=trainer.run_id,
        policy=parts.policy.name,
        kernels=parts.stock.facts(),
        operations=trainer.guard.figures(recorded.epochs[-1].epoch if recorded.epochs else 0),
    )
    return build(recorded, closing)


def leave(folder: Path, parts: Parts, report: Report) -> None:
    """Write the report, the grown model and the page.

    Raises:
        CannotWrite: the disk does not take all of it; what it took is whole.
    """
    try:
        write(report, folder, page(report), lambda: _save_model(folder, parts))
    except OSError as error:
        written = [name for name in LEFT if (folder / name).exists()]
        holds = f"it holds {', '.join(written)}" if written else "neither report nor model was written"
        raise CannotWrite(f"{folder}: {error.strerror or error}; {holds}") from error


def is_complete(folder: Path) -> bool:
    """Whether all of what a run leaves is there and of one ending: nothing is older than the report."""
    try:
        written = [(folder / name).stat().st_mtime_ns for name in LEFT]
    except OSError:
        return False
    return min(written) >= written[0]


def _save_model(folder: Path, parts: Parts) -> None:
    """Both files beside their place first, then each into it; what a kill has left there goes."""
    run = parts.config.run
    for left in sorted(folder.glob(f"{BESIDE}*")):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=BESIDE) as beside:
        save_grown(Path(beside), parts.grafts, parts.engine.records(), run.workload, run.seed)
        for name in (WEIGHTS, DESCRIPTION):
            (Path(beside) / name).replace(folder / name)
