"""Claims about what is told of a run's kernels."""

from actors.kernel_news import KernelNews
from actors.witness import RunWitness
from contracts.report import AlertFacts
from contracts.view import KernelProgress, RunView
from tests.actors.witnessing import NAMES, ids


def test_that_kernels_can_not_be_compiled_is_an_alert_once_until_they_can_be_again() -> None:
    seen: list[AlertFacts] = []
    shown: list[RunView] = []

    def compile_so(witness: RunWitness) -> None:
        news = KernelNews(witness, NAMES)
        news.kernels(1, 9)
        news.compiling(("BP001", "BP999"), "")
        shown.append(witness.live.view())
        for epoch, trouble in enumerate(("no filter", "no filter", "no memory", "", "", "no filter"), 1):
            witness.reached(epoch)
            news.compiling((), trouble)
            if epoch == 3:
                shown.append(witness.live.view())
        seen.extend(witness.recorder.recorded.alerts)

    assert len(ids(compile_so)) == 3
    first, second = seen
    assert (first.name, first.epoch, first.cleared_epoch) == ("no_compiler", 1, 4)
    assert (second.name, second.epoch, second.cleared_epoch) == ("no_compiler", 6, None)
    assert "(no filter); plain modules stand in" in first.text
    making, troubled = shown
    assert making.kernels == KernelProgress(1, 9, ("identity", "BP999"))
    assert (making.alerts, troubled.alerts) == ((), (first.text,))


def test_a_store_that_can_not_be_used_is_one_alert_though_the_compiler_says_so_too() -> None:
    names: list[str] = []

    def fail(witness: RunWitness) -> None:
        news = KernelNews(witness, NAMES)
        news.no_store("the disk is full")
        news.compiling((), "the disk is full")
        news.compiling((), "")
        names.extend(alert.name for alert in witness.recorder.recorded.alerts)

    assert len(ids(fail)) == 1
    assert names == ["no_kernel_store"]


def test_that_native_code_is_wrong_is_told_and_is_no_alert() -> None:
    alerts: list[AlertFacts] = []

    def tell(witness: RunWitness) -> None:
        KernelNews(witness, NAMES).miscompiled("BP001", "its gradients differ")  # told at once
        alerts.extend(witness.recorder.recorded.alerts)

    assert len(ids(tell)) == 1
    assert not alerts
