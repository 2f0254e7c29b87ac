"""A smith makes what is wanted, whatever blueprints do to its processes, and goes on where it ended."""

import queue
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from torch import nn

from actors.oona.policy import BreakerPolicy
from actors.tezzeret.sandbox import Limits
from actors.tezzeret.shop import Announcement, Shop, Standing
from actors.tezzeret.smith import Smith
from contracts.growth import Layout, SiteInfo
from contracts.kernels import (
    KernelArtifactError,
    KernelArtifactReady,
    KernelCatalogUpdate,
    KernelSpec,
    Strategy,
    design_of,
)
from esper.karn.catalogue import CATALOGUE
from esper.karn.guard import guard_digest
from esper.tezzeret.agenda import Policy
from esper.tezzeret.forge import build, forge
from esper.tezzeret.native import PAYS_FROM
from esper.urza.errors import Unavailable
from esper.urza.library import Library
from tests.actors.tezzeret import bad_blueprints
from tests.actors.tezzeret.odd_smithy import CRASHES, HANGS, LEAKS

ODD = "tests.actors.tezzeret.odd_smithy"
NO_WORKER = "tests.actors.tezzeret.there_is_no_such_worker"
PATIENCE_S = 400.0
"""A smith that tells nothing for so long fails the test."""
T = TypeVar("T")


def spec(blueprint_id: str, draw: int = 0, *, size: int = 4, **parameters: float) -> KernelSpec:
    site = SiteInfo("", Layout.VECTOR, (size,), size, 0)
    return KernelSpec(design_of(site, blueprint_id, parameters), draw)


def values(module: nn.Module) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in module.state_dict().items()}


class Told:
    """What a smith told, in order, and a way to wait for it."""

    def __init__(self) -> None:
        self.all: list[Announcement] = []
        self._news: queue.SimpleQueue[Announcement | Standing] = queue.SimpleQueue()

    def __call__(self, one: Announcement | Standing) -> None:
        self._news.put(one)

    def until(self, settled: Callable[["Told"], bool]) -> None:
        while not settled(self):
            one = self._news.get(timeout=PATIENCE_S)
            if not isinstance(one, Standing):
                self.all.append(one)

    def of(self, kind: type[T]) -> list[T]:
        return [one for one in self.all if isinstance(one, kind)]

    def about(self, *specs: KernelSpec) -> bool:
        """Each has been told ready or failed."""
        known = {one.request_id for one in self.all if not isinstance(one, KernelCatalogUpdate)}
        return {one.key for one in specs} <= known


@contextmanager
def smith(folder: Path, told: Told, **changed: object) -> Iterator[Smith]:
    fields: dict[str, object] = {
        "folder": folder,
        "policy": Policy(backoff_s=(0.01,), attempts_max=2),
        "limits": Limits(job_s=60.0, background=False),
        **changed,
    }
    one = Smith(lambda: Library(folder), Shop(**fields), random.Random(1), told)  # type: ignore[arg-type]
    one.start()
    try:
        yield one
    finally:
        assert one.stop(30.0), "its thread ends"


def certified(folder: Path, *specs: KernelSpec) -> None:
    """Put kernels into the store as a smith would, made in this process."""
    with Library(folder) as library:
        for one in specs:
            forged = forge(one, Strategy.STANDARD, CATALOGUE)
            library.publish(one, forged.certificate, forged.weights, forged.program)


# Failures -------------------------------------------------------------------------------------------


def test_what_hangs_leaks_or_crashes_is_reported_and_left_out_and_the_rest_is_made(tmp_path: Path) -> None:
    bad = [spec(HANGS), spec(LEAKS, rank=2), spec(CRASHES, width=4)]
    certified(tmp_path, spec("BP015"))
    good = spec("BP015", 1)
    limits = Limits(job_s=0.4, memory_bytes=300 << 20, background=False)
    never, told = BreakerPolicy(failures_max=50), Told()
    with smith(tmp_path, told, worker=ODD, limits=limits, breaker=never) as one:
        one.prefetch([*bad, good])
        told.until(lambda so_far: so_far.about(*bad, good))
        assert (one.standing.progress.done, one.standing.progress.failed) == (1, 3)
    reasons = {error.blueprint_id: error.reason for error in told.of(KernelArtifactError)}
    assert reasons.keys() == {HANGS, LEAKS, CRASHES}
    assert "may take 0.4 s" in reasons[HANGS]
    assert "MiB of memory" in reasons[LEAKS]
    assert "SIGSEGV" in reasons[CRASHES]
    assert [ready.request_id for ready in told.of(KernelArtifactReady)] == [good.key]
    assert list((tmp_path / "scratch").iterdir()) == [], "the processes' files went with them"

    told = Told()
    with smith(tmp_path, told, worker=NO_WORKER) as one:
        one.prefetch(bad)
        told.until(lambda so_far: so_far.about(*bad))
    again = {error.blueprint_id: error.reason for error in told.of(KernelArtifactError)}
    assert again.keys() == reasons.keys(), "the next smith knows it, and does not try"
    assert again[HANGS] == reasons[HANGS]
    with Library(tmp_path) as library:
        assert library.wanted() == ()
        assert library.find(good) is not None


@pytest.mark.slow
def test_cold_processes_make_and_compare_kernels_two_at_a_time(tmp_path: Path) -> None:
    told = Told()
    images = SiteInfo("", Layout.IMAGE, (4, 5, 5), 4, 0)
    wanted = [spec("BP001"), spec("BP015"), spec("BP015", 1), spec("BP002", rank=2)]
    wanted += [KernelSpec(design_of(images, "BP004", {"width": 2.0}), 1)]
    with smith(tmp_path, told, policy=Policy(second_from=2)) as one:
        one.prefetch(wanted)
        told.until(lambda so_far: so_far.about(*wanted))
        assert one.standing.progress.done == len(wanted)
    assert told.of(KernelArtifactError) == []
    assert len(told.of(KernelCatalogUpdate)) == len(wanted)
    with Library(tmp_path) as library:
        for each in wanted:
            kernel = library.fetch(each)
            assert kernel.certificate.strategy is Strategy.STANDARD
            assert kernel.certificate.guard_digest == guard_digest(each.design)
            assert values(kernel.module) == values(build(each, CATALOGUE))
            assert library.program(kernel.ref.ref)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_the_native_compiler_runs_in_a_sandbox_that_may_fork_and_its_gain_is_measured(tmp_path: Path) -> None:
    told, wanted = Told(), spec("BP003", width=8)
    limits = Limits(job_s=300.0, fork=True, background=False)
    with smith(tmp_path, told, limits=limits, policy=Policy(strategy=Strategy.AGGRESSIVE)) as one:
        one.prefetch([wanted])
        told.until(lambda so_far: so_far.about(wanted))
    assert told.of(KernelArtifactError) == []
    with Library(tmp_path) as library:
        kernel = library.fetch(wanted)
        program = library.program(kernel.ref.ref)
    speedup = kernel.certificate.native_speedup
    assert speedup is not None
    assert speedup > 0.0
    exported = program.startswith(b"PK")
    assert exported == (speedup < PAYS_FROM), (
        "the artifacts are kept where they pay, else the exported program"
    )


@pytest.mark.slow
def test_a_blueprint_whose_module_misbehaves_is_left_out(tmp_path: Path) -> None:
    told = Told()
    catalogue = bad_blueprints.CATALOGUE
    bad = [spec("BP901"), spec("BP902"), spec("BP903")]
    good = spec("BP904")
    one = Smith(
        lambda: Library(tmp_path, catalogue=catalogue),
        Shop(
            tmp_path,
            policy=Policy(attempts_max=1),
            limits=Limits(job_s=8.0, memory_bytes=1 << 30, background=False),
            breaker=BreakerPolicy(failures_max=50),
            worker="tests.actors.tezzeret.bad_worker",
            catalogue=catalogue,
        ),
        random.Random(1),
        told,
    )
    one.start()
    one.prefetch([*bad, good])
    told.until(lambda so_far: so_far.about(*bad, good))
    assert one.stop(30.0)
    reasons = {error.blueprint_id: error.reason for error in told.of(KernelArtifactError)}
    assert "may take 8 s" in reasons["BP901"]
    assert "memory" in reasons["BP902"]
    assert "SIGSEGV" in reasons["BP903"]
    assert [ready.blueprint_id for ready in told.of(KernelArtifactReady)] == ["BP904"]


def test_when_three_different_blueprints_fail_the_plain_module_is_published_and_marked(
    tmp_path: Path,
) -> None:
    told = Told()
    bad = [spec(CRASHES, width=4), spec(CRASHES, width=3), spec(HANGS)]
    limits = Limits(job_s=0.3, background=False)
    policy = Policy(attempts_max=1)
    with smith(
        tmp_path, told, worker=ODD, limits=limits, policy=policy, breaker=BreakerPolicy(failures_max=2)
    ) as one:
        one.prefetch([*bad, spec("BP015")])
        told.until(lambda so_far: so_far.about(spec("BP015")))
    with Library(tmp_path) as library:
        certificate = library.fetch(spec("BP015")).certificate
    assert certificate.strategy is Strategy.EMERGENCY
    assert certificate.batches == ()
    assert certificate.output_error is None


# Without a process ----------------------------------------------------------------------------------


def test_another_draw_of_a_certified_design_needs_no_process(tmp_path: Path) -> None:
    first, others = spec("BP015"), [spec("BP015", draw) for draw in range(1, 5)]
    certified(tmp_path, first)
    told = Told()
    with smith(tmp_path, told, worker=NO_WORKER) as one:
        one.prefetch([*others, first])
        told.until(lambda so_far: so_far.about(*others, first))
        assert one.standing.progress.done == 4
    assert told.of(KernelArtifactError) == []
    assert [update.blueprint_id for update in told.of(KernelCatalogUpdate)] == ["BP015"] * 4
    with Library(tmp_path) as library:
        for other in others:
            kernel = library.fetch(other)
            assert kernel.certificate.batches == (1, 2, 3, 8), "what was found out holds for every draw"
            assert values(kernel.module) == values(build(other, CATALOGUE))
            assert values(kernel.module) != values(library.fetch(first).module)


def test_what_can_not_be_made_is_refused_at_once_and_not_wanted(tmp_path: Path) -> None:
    told = Told()
    unknown, odd, risky = spec("BP999"), spec("BP002", rank=0), spec("BP046", width=4, onset=1)
    with smith(tmp_path, told, worker=NO_WORKER) as one:
        one.prefetch([unknown, odd, risky])
        told.until(lambda so_far: so_far.about(unknown, odd, risky))
    reasons = {error.blueprint_id: error.reason for error in told.of(KernelArtifactError)}
    assert "no blueprint 'BP999'" in reasons["BP999"]
    assert "rank" in reasons["BP002"]
    assert "quarantine only" in reasons["BP046"]
    with Library(tmp_path) as library:
        assert library.wanted() == ()
        assert library.given_up() == {}


def test_what_was_wanted_when_the_last_smith_ended_is_made_by_the_next(tmp_path: Path) -> None:
    certified(tmp_path, spec("BP015"))
    left = [spec("BP015", draw) for draw in (1, 2)]
    with Library(tmp_path) as library:
        assert all(library.want(one) for one in left)
    told = Told()
    with smith(tmp_path, told, worker=NO_WORKER):
        told.until(lambda so_far: so_far.about(*left))
    with Library(tmp_path) as library:
        assert all(library.find(one) for one in left)
        assert library.wanted() == ()


class Flaky(Library):
    """A store that can't be used now and then."""

    trouble = 0

    def publish(self, *arguments: object, **more: object) -> object:  # type: ignore[override]
        if Flaky.trouble:
            Flaky.trouble -= 1
            raise Unavailable("the disk is full")
        return super().publish(*arguments, **more)  # type: ignore[arg-type]


def test_while_the_store_is_full_it_waits_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.tezzeret.smith.STORE_REST_S", 0.01)
    certified(tmp_path, spec("BP015"))
    Flaky.trouble = 3
    told, wanted = Told(), [spec("BP015", draw) for draw in (1, 2)]
    one = Smith(lambda: Flaky(tmp_path), Shop(tmp_path, worker=NO_WORKER), random.Random(1), told)
    one.start()
    one.prefetch(wanted)
    told.until(lambda so_far: so_far.about(*wanted))
    assert one.stop(30.0)
    assert Flaky.trouble == 0
    assert told.of(KernelArtifactError) == []
    assert one.standing.progress.done == 2


def test_while_there_is_no_place_for_a_processs_files_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.tezzeret.smith.STORE_REST_S", 0.01)
    (tmp_path / "scratch").write_text("in the way")
    told, crashes = Told(), spec(CRASHES, width=4)
    with smith(tmp_path, told, worker=ODD) as one:
        one.prefetch([crashes])
        while not one.standing.trouble:
            time.sleep(0.001)
        assert "scratch" in one.standing.trouble
        assert one.standing.progress.left == 1
        (tmp_path / "scratch").unlink()
        told.until(lambda so_far: so_far.about(crashes))
    assert "SIGSEGV" in told.of(KernelArtifactError)[0].reason


# The end --------------------------------------------------------------------------------------------


def test_stopping_kills_what_runs_and_leaves_it_wanted(tmp_path: Path) -> None:
    told = Told()
    with smith(tmp_path, told, worker=ODD) as one:
        one.prefetch([spec(HANGS)])
        while one.standing.progress.busy != (HANGS,):
            time.sleep(0.001)
    assert told.all == []
    with Library(tmp_path) as library:
        assert library.wanted() == (spec(HANGS),)


def test_a_smith_that_never_started_stops(tmp_path: Path) -> None:
    assert Smith(lambda: Library(tmp_path), Shop(tmp_path), random.Random(1), Told()).stop(0.0)
