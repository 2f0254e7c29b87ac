"""The result of a run in one sentence and a few rows, for the page and for the terminal."""

from collections.abc import Callable

import msgspec

from contracts.report import Brought, Figure, FinalFacts, KernelFacts, Report
from esper.report import words


class Row(msgspec.Struct, frozen=True):
    """One figure of the grown network beside the ungrown host's; empty texts where there is none."""

    label: str
    grown: str
    ungrown: str = ""
    brought: str = ""
    better: bool | None = None
    """Whether growing made it better; None where more is neither."""


def sentence(report: Report) -> str:
    """What came of the run, and where it was cut short."""
    return f"{_cut_short(report)}{result(report)}"


def result(report: Report) -> str:
    """What came of the run, however it ended."""
    start, end = report.host.params, report.final.params
    if start == end:
        text = f"{report.workload} stayed at {words.count(start)} parameters"
    else:
        text = f"{report.workload} grew from {words.count(start)} to {words.count(end)} parameters"
    name, accuracy, brought = _best_known(report)
    if accuracy is not None:
        text += f" and reached {words.percent(accuracy)} on {name}"
    if brought is not None:
        text += f", {_apart(brought)} the same host ungrown at equal training FLOPs"
    return text + "."


def ending(report: Report) -> str:
    """Why the run did not end as planned; empty if it did."""
    if report.ended.kind == "finished":
        return ""
    kind = report.ended.kind.capitalize()
    return f"{kind}: {report.ended.reason}" if report.ended.reason else f"{kind}."


def _cut_short(report: Report) -> str:
    """What stands before the result of a run that did not come to its end."""
    if report.ended.kind == "finished" or report.ended.complete:
        return ""
    epoch = report.epochs[-1].epoch if report.epochs else 0
    return f"{report.ended.kind.capitalize()} at epoch {words.count(epoch)}: "


def kernels(facts: KernelFacts) -> str:
    """Where the grafts' modules came from, and what was amiss; empty if there is nothing to tell."""
    told = []
    if facts.used or facts.built:
        grafts = words.counted(facts.used + facts.built, "graft", "grafts")
        told.append(f"{facts.used} of {grafts} from the store, {facts.built} built on the spot")
    if facts.fetched:
        told.append(f"{words.count(facts.fetched)} fetched ahead")
    if facts.damaged:
        told.append(
            f"{words.counted(facts.damaged, 'damaged one', 'damaged ones')} set aside to be made again"
        )
    if facts.left_out:
        told.append(f"left out: {', '.join(facts.left_out)}")
    if facts.built_here:
        told.append(f"never compiled: {', '.join(facts.built_here)}")
    if facts.miscompiled:
        told.append(f"native code refused: {', '.join(facts.miscompiled)}")
    return "; ".join(told)


def rows(report: Report) -> list[Row]:
    """The headline figures."""
    final, ungrown = report.final, report.compare.final if report.compare else None
    brought = report.compare.brought if report.compare else None
    accuracies = (
        _accuracy("fresh data", final.fresh_accuracy, lambda f: f.fresh_accuracy, ungrown, brought),
        _accuracy("test data", final.test_accuracy, lambda f: f.test_accuracy, ungrown, brought),
        _accuracy("validation", final.val_accuracy, lambda f: f.val_accuracy, ungrown, brought),
    )
    return [
        *(row for row in accuracies if row.grown != words.ABSENT),
        Row(
            "loss, test data",
            words.figure(final.test_loss),
            words.figure(ungrown.test_loss) if ungrown else "",
            words.signed(brought.test_loss) if brought else "",
            None if brought is None or brought.test_loss is None else brought.test_loss < 0,
        ),
        _amount("parameters", words.count, final.params, ungrown.params if ungrown else None),
        _amount("training FLOPs", words.flops, final.train_flops, ungrown.train_flops if ungrown else None),
    ]


def _accuracy(
    data: str,
    grown: Figure,
    of: Callable[[FinalFacts | Brought], Figure],
    ungrown: FinalFacts | None,
    brought: Brought | None,
) -> Row:
    difference = of(brought) if brought else None
    return Row(
        f"accuracy, {data}",
        words.percent(grown),
        words.percent(of(ungrown)) if ungrown else "",
        words.points(difference) if brought else "",
        None if difference is None else difference > 0,
    )


def _amount(label: str, wording: Callable[[int], str], grown: int, ungrown: int | None) -> Row:
    if ungrown is None:
        return Row(label, wording(grown))
    times = f"× {words.significant(grown / ungrown)}" if ungrown else ""
    return Row(label, wording(grown), wording(ungrown), times)


def _best_known(report: Report) -> tuple[str, Figure, Figure]:
    """The accuracy that says most of those measured: its data, itself, and what growing brought."""
    final, brought = report.final, report.compare.brought if report.compare else None
    if final.fresh_accuracy is not None:
        return "fresh data", final.fresh_accuracy, brought.fresh_accuracy if brought else None
    if final.test_accuracy is not None:
        return "test data", final.test_accuracy, brought.test_accuracy if brought else None
    return "validation data", final.val_accuracy, brought.val_accuracy if brought else None


def _apart(brought: float) -> str:
    distance = f"{100 * abs(brought):.1f} points"
    return f"{distance} above" if brought > 0 else f"{distance} below" if brought < 0 else "as much as"
