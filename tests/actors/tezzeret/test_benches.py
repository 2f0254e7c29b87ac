"""The first process is not starved before it has made a kernel; all others give way from the start."""

import queue
from pathlib import Path

import pytest

from actors.tezzeret.bench import Finished
from actors.tezzeret.benches import Benches
from actors.tezzeret.failures import Died
from actors.tezzeret.sandbox import Answer, Limits, Sandbox
from actors.tezzeret.shop import Shop
from contracts.growth import Layout
from contracts.kernels import Design, KernelSpec, Strategy
from esper.karn.catalogue import CATALOGUE
from esper.tezzeret.agenda import Task
from esper.tezzeret.forge import forge

SPEC = KernelSpec(Design("BP001", Layout.VECTOR, (4,), 4), 0)
TASK = Task(SPEC, Strategy.EMERGENCY)


def test_processes_have_a_head_start_until_the_first_kernel_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Limits] = []

    def call(self: Sandbox, header: bytes, *, limits: Limits) -> Answer:
        asked.append(limits)
        raise Died(1, "")

    monkeypatch.setattr(Sandbox, "call", call)
    given = Limits(job_s=7.0)
    shop = Shop(tmp_path, limits=given)
    benches = Benches(shop)
    inbox: queue.SimpleQueue[Finished] = queue.SimpleQueue()
    failed = Finished(TASK, Died(1, ""))
    made = Finished(TASK, forge(SPEC, Strategy.EMERGENCY, CATALOGUE))
    for outcome in (failed, made, made):
        assert benches.begin(TASK, inbox.put)
        inbox.get(timeout=60.0)
        benches.free(outcome)
    benches.close()
    assert [limits.head_start for limits in asked] == [shop.head_start, shop.head_start, None]
    assert {(limits.job_s, limits.background) for limits in asked} == {(given.job_s, given.background)}
