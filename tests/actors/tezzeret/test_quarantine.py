"""Quarantine in real processes: what hangs, leaks or forks is ended from outside, and the parent goes on."""

import os
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace as changed
from torch import nn

from actors.tezzeret.quarantine import LIMITS, HostNotPortable, Quarantine, packed
from actors.tezzeret.sandbox import Limits
from esper.drill.report import TrialTerms
from esper.drill.trial import Subject
from tests.esper.drill.ground import subject, trial

SHORT = TrialTerms(steps=4)
QUICK = Limits(job_s=3.0, memory_bytes=LIMITS.memory_bytes, background=False)


@pytest.mark.slow
def test_a_harmless_blueprint_passes_and_a_dangerous_one_does_not_with_the_parent_s_host_untouched() -> None:
    mine = subject()
    before = [tensor.detach().clone() for tensor in mine.model.parameters()]
    with Quarantine() as quarantine:
        passed = quarantine.hold(trial("BP003", terms=SHORT), mine)
        failed = quarantine.hold(trial("BP045", 6, terms=SHORT), mine)
    assert passed.passed, passed.reason
    assert (failed.passed, failed.check, failed.steps) == (False, "finite", 2)
    assert all(torch.equal(now, was) for now, was in zip(mine.model.parameters(), before, strict=True))


@pytest.mark.parametrize("part", ["loss", "model"])
def test_a_host_that_can_not_be_pickled_is_refused_and_says_why(part: str) -> None:
    mine = subject()
    if part == "loss":
        mine = Subject(mine.model, mine.sites, lambda outputs, targets: outputs.sum(), mine.batches)
    else:
        mine.model.odd = lambda: None  # type: ignore[assignment]
    with pytest.raises(HostNotPortable, match=r"can't be taken to quarantine: .*lambda"):
        packed(mine)


@pytest.mark.slow
def test_a_host_that_can_not_be_rebuilt_over_there_is_refused() -> None:
    class Elsewhere(nn.Module):
        pass

    Elsewhere.__qualname__ = "Gone"
    Elsewhere.__module__ = "tests.actors.tezzeret.test_quarantine"
    globals()["Gone"] = Elsewhere
    mine = subject()
    mine.model.gone = Elsewhere()
    try:
        with Quarantine() as quarantine, pytest.raises(HostNotPortable, match="Gone"):
            quarantine.hold(trial("BP003", terms=SHORT), mine)
    finally:
        del globals()["Gone"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blueprint_id", "check"), [("BP046", "time"), ("BP047", "memory"), ("BP048", "time")]
)
def test_what_never_ends_is_ended_from_outside(blueprint_id: str, check: str) -> None:
    with Quarantine(QUICK) as quarantine:
        ready = quarantine.hold(trial("BP001", terms=SHORT), subject())
        pid = quarantine.pid
        report = quarantine.hold(trial(blueprint_id, 5, terms=changed(SHORT, steps=40)), subject())
        assert not Path(f"/proc/{pid}").exists()
        again = quarantine.hold(trial("BP001", terms=SHORT), subject())
    assert ready.passed
    assert pid not in (None, os.getpid())
    assert (report.passed, report.check) == (False, check)
    assert "outside" in report.reason
    assert report.steps >= 1
    assert again.passed


@pytest.mark.slow
def test_tries_to_start_a_process_are_refused_and_told() -> None:
    with Quarantine(worker="tests.actors.tezzeret.curious_worker") as quarantine:
        report = quarantine.hold(trial("DRILL-LOUD", terms=SHORT), subject())
    assert (report.passed, report.check, report.steps) == (False, "escape", 0)
    assert "tried 12 times to start a process or to reach the network" in report.reason
