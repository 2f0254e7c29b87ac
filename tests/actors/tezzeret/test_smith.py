"""A smith makes what is wanted, whatever blueprints do to its processes, and goes on where it ended."""

import queue
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from torch import nn

from actors.oona.policy import BreakerPolicy
from actors.tezzeret.orders import Order, encode_order
from actors.tezzeret.sandbox import Limits
from actors.tezzeret.shop import Announcement, Shop, Standing
from actors.tezzeret.smith import Smith
from actors.tezzeret.worker import Forbidden, forging
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
from esper.karn.source import own_in, source_of
from esper.tezzeret.agenda import Policy
from esper.tezzeret.forge import build, forge, unexamined
from esper.tezzeret.native import PAYS_FROM
from esper.urza.errors import Unavailable
from esper.urza.library import Library
from tests.actors.tezzeret import bad_blueprints
from tests.actors.tezzeret.odd_smithy import CRASHES, HANGS, LEAKS

ODD = "tests.actors.tezzeret.odd_smithy"
NO_WORKER = "tests.actors.tezzeret.there_is_no_such_worker"
PATIENCE_S = 120.0
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
        self.troubles: list[str] = [""]
        """What each standing said is wrong, where that was something else than before."""
        self._news: queue.SimpleQueue[Announcement | Standing] = queue.SimpleQueue()

    def __call__(self, one: Announcement | Standing) -> None:
        self._news.put(one)

    def until(self, settled: Callable[["Told"], bool]) -> None:
        while not settled(self):
            one = self._news.get(timeout=PATIENCE_S)
            if not isinstance(one, Standing):
                self.all.append(one)
            elif one.trouble != self.troubles[-1]:
                self.troubles.append(one.trouble)

    def of(self, kind: type[T]) -> list[T]:
        return [one for one in self.all if isinstance(one, kind)]

    def about(self, *specs: KernelSpec) -> bool:
        """Each has been told ready or failed."""
        known = {one.request_id for one in self.all if not isinstance(one, KernelCatalogUpdate)}
        return {one.key for one in specs} <= known


@contextmanager
def smith(folder: Path, told: Told, store: type[Library] = Library, **changed: object) -> Iterator[Smith]:
    fields: dict[str, object] = {
        "folder": folder,
        "policy": Policy(backoff_s=(0.01,), attempts_max=2),
        "limits": Limits(job_s=60.0, background=False),
        **changed,
    }
    one = Smith(lambda: store(folder), Shop(**fields), random.Random(1), told)  # type: ignore[arg-type]
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
    limits = Limits(job_s=1.2, memory_bytes=300 << 20, background=False)
    never, told = BreakerPolicy(failures_max=50), Told()
    with smith(tmp_path, told, worker=ODD, limits=limits, breaker=never) as one:
        one.prefetch([*bad, good])
        told.until(lambda so_far: so_far.about(*bad, good))
        assert (one.standing.progress.done, one.standing.progress.failed) == (1, 3)
    reasons = {error.blueprint_id: error.reason for error in told.of(KernelArtifactError)}
    assert reasons.keys() == {HANGS, LEAKS, CRASHES}
    assert "may take 1.2 s" in reasons[HANGS]
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
            assert library.stats().programs == 0


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
        programs = library.stats().programs
        kept = library.program(kernel.ref.ref) if programs else b""
    speedup = kernel.certificate.native_speedup
    assert speedup is not None
    assert speedup > 0.0
    assert bool(kept) == (speedup >= PAYS_FROM), "the artifacts are kept where they pay"


@pytest.mark.slow
def test_of_ones_own_blueprints_what_misbehaves_is_left_out_and_the_rest_certified(tmp_path: Path) -> None:
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
            catalogue=catalogue,
            sources={one.blueprint_id: source_of(one) for one in own_in(catalogue)},
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
    with Library(tmp_path, catalogue=catalogue) as library:
        certificate = library.certificate(good.design)
    assert certificate is not None
    assert certificate.gradient_error is not None, "a blueprint of one's own is certified like any other"


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


# What may not be made -------------------------------------------------------------------------------


RISKY = spec("BP046", width=4, onset=1)
UNAPPROVED = spec("BP036", size=8, width=2, experts=3)
HUGE = spec("BP009", size=12_000)


def plant(folder: Path, *specs: KernelSpec) -> None:
    """Write them onto the list of work as no library would, with certificates of their designs."""
    Library(folder).close()
    with closing(sqlite3.connect(folder / "catalogue.sqlite")) as books:
        for number, one in enumerate(specs):
            row = (one.key, one.design.key, msgspec.json.encode(one).decode(), number)
            books.execute("INSERT INTO work VALUES (?, ?, ?, ?, 0, '')", row)
            known = msgspec.json.encode(unexamined(one.design, Strategy.STANDARD, CATALOGUE)).decode()
            books.execute("INSERT INTO designs VALUES (?, ?)", (one.design.key, known))
        books.commit()


class Trusting(Library):
    """A store that believes its list, as none should."""

    def wanted(self) -> tuple[KernelSpec, ...]:
        return tuple(one.spec for one in self._records.waiting())


def on_the_list(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "catalogue.sqlite")) as books:
        return {key for (key,) in books.execute("SELECT spec_key FROM work")}


def test_what_the_list_wants_and_nobody_may_make_is_never_begun_nor_judged(tmp_path: Path) -> None:
    certified(tmp_path, spec("BP015"))
    good, told = spec("BP015", 1), Told()
    plant(tmp_path, RISKY, UNAPPROVED, HUGE)
    with Library(tmp_path) as library:
        assert library.want(good)
    with smith(tmp_path, told, Trusting, worker=NO_WORKER) as one:
        one.prefetch([UNAPPROVED])
        told.until(lambda so_far: so_far.about(RISKY, UNAPPROVED, HUGE, good))
        assert one.standing.progress.left_out == {}
    reasons = {error.blueprint_id: error.reason for error in told.of(KernelArtifactError)}
    assert "drills alone" in reasons["BP046"]
    assert "needs approval" in reasons["BP036"]
    assert "a kernel may have" in reasons["BP009"]
    with Library(tmp_path) as library:
        assert library.given_up() == {}
        assert [library.find(one) for one in (RISKY, UNAPPROVED, HUGE)] == [None] * 3
    assert on_the_list(tmp_path) == {UNAPPROVED.key}, "another run may approve of it; the rest nobody makes"


def test_what_is_approved_is_made(tmp_path: Path) -> None:
    told = Told()
    plant(tmp_path, UNAPPROVED)
    with smith(tmp_path, told, worker=NO_WORKER, approved=frozenset({"BP036"})):
        told.until(lambda so_far: so_far.about(UNAPPROVED))
    assert told.of(KernelArtifactError) == []
    with Library(tmp_path) as library:
        assert library.find(UNAPPROVED) is not None


def test_the_worker_itself_makes_nothing_that_is_for_drills_alone() -> None:
    def tell(progress: bytes) -> None:
        raise AssertionError("nothing was begun")

    with pytest.raises(Forbidden, match=r"BP046 .* drills alone"):
        forging(CATALOGUE)(encode_order(Order(RISKY, Strategy.FAST)), b"", tell)
    good = encode_order(Order(spec("BP001"), Strategy.EMERGENCY))
    assert forging(CATALOGUE)(good, b"", tell)[1]


def test_that_the_list_of_what_is_wanted_is_full_is_no_fault_of_a_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esper.urza.library.WANTED_MAX", 0)
    certified(tmp_path, spec("BP015"))
    told, wanted = Told(), spec("BP015", 1)
    with smith(tmp_path, told, worker=NO_WORKER) as one:
        one.prefetch([wanted])
        told.until(lambda so_far: so_far.about(wanted))
    assert told.of(KernelArtifactError) == []
    with Library(tmp_path) as library:
        assert library.find(wanted) is not None


# Where no process is to be had ----------------------------------------------------------------------


@pytest.fixture
def odd_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python processes that are started now find themselves on a machine for which there is no filter."""
    path = tmp_path / "path"
    path.mkdir()
    (path / "sitecustomize.py").write_text('import platform\nplatform.machine = lambda: "riscv64"\n')
    monkeypatch.setenv("PYTHONPATH", str(path))


def test_without_a_filter_plain_modules_stand_in_and_no_blueprint_is_blamed(
    tmp_path: Path, odd_machine: None
) -> None:
    store, told = tmp_path / "store", Told()
    wanted = [spec("BP001"), spec("BP002", rank=2), spec("BP003", width=2), spec("BP015")]
    with smith(store, told, worker=ODD, policy=Policy(attempts_max=1)) as one:
        one.prefetch(wanted)
        told.until(lambda so_far: so_far.about(*wanted))
        while one.standing.progress.left:
            time.sleep(0.001)
        assert "no filter is written for riscv64" in one.standing.trouble
        assert (one.standing.progress.failed, one.standing.progress.left_out) == (0, {})
    assert told.of(KernelArtifactError) == []
    with Library(store) as library:
        assert library.given_up() == {}
        assert {library.fetch(one).certificate.strategy for one in wanted} == {Strategy.EMERGENCY}


def test_a_process_that_does_not_come_up_is_nothing_about_the_kernel_that_waits_for_it(
    tmp_path: Path,
) -> None:
    told, wanted = Told(), spec("BP001")
    with smith(tmp_path, told, worker=NO_WORKER, breaker=BreakerPolicy(failures_max=50)) as one:
        one.prefetch([wanted])
        while not one.standing.trouble:
            time.sleep(0.001)
        assert "No module named" in one.standing.trouble
        assert (one.standing.progress.left, one.standing.progress.failed) == (1, 0)
    assert told.all == []
    with Library(tmp_path) as library:
        assert library.given_up() == {}
        (waiting,) = library.holdings()
        assert waiting.attempts == 0
        assert library.wanted() == (wanted,)


def test_what_killed_processes_left_is_removed_by_the_next_smith(tmp_path: Path) -> None:
    left = tmp_path / "scratch" / "left"
    left.mkdir(parents=True)
    (left / "weights").write_text("half-written")
    with smith(tmp_path, Told(), worker=NO_WORKER):
        while left.exists():
            time.sleep(0.001)
    assert list((tmp_path / "scratch").iterdir()) == []


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
    assert "drills alone" in reasons["BP046"]
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
    told.until(lambda so_far: so_far.about(*wanted) and not so_far.troubles[-1])
    assert one.stop(30.0)
    assert Flaky.trouble == 0
    assert told.troubles == ["", "the disk is full", ""], "each time that it is tried again is not told"
    assert told.of(KernelArtifactError) == []
    assert one.standing.progress.done == 2


def test_that_the_store_can_not_be_opened_is_for_others_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.tezzeret.smith.STORE_REST_S", 0.01)
    certified(tmp_path, spec("BP015"))
    failures = iter(range(3))

    def open_store() -> Library:
        if next(failures, None) is not None:
            raise Unavailable("another process has it")
        return Library(tmp_path)

    told, wanted = Told(), spec("BP015", 1)
    one = Smith(open_store, Shop(tmp_path, worker=NO_WORKER), random.Random(1), told)
    one.start()
    one.prefetch([wanted])
    told.until(lambda so_far: so_far.about(wanted))
    assert one.stop(30.0)
    assert told.troubles == [""]


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
