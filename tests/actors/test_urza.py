"""Claims about the actor around the library: it answers from a lane of its own, whatever can't be done."""

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actors.lane import Deliver, Job, Lane, ThreadLane
from actors.runtime import ActorRef, ActorState, ActorSystem, InlineThreads, LoopClock
from actors.runtime.simulation import run_simulated
from actors.urza import (
    Ask,
    Collect,
    Fetch,
    Find,
    GivenUp,
    Hold,
    LetGo,
    Publish,
    Release,
    Urza,
    UrzaMessage,
    Want,
    Wanted,
    WantedSpec,
    Withdraw,
)
from contracts.kernels import Design, KernelSpec
from esper.karn.catalogue import UnknownBlueprint
from esper.urza.errors import Damaged, Missing, Unavailable, Unfit
from esper.urza.kernel import Kernel
from esper.urza.library import Library
from esper.urza.names import ArtifactRef
from tests.actors.fakes import VirtualLane
from tests.esper.urza.world import a_certificate, a_spec, file_of, its_weights

SPEC = a_spec(3)
PUBLISH = Publish(SPEC, a_certificate(SPEC), its_weights(SPEC), b"a program")
UNKNOWN = KernelSpec(Design("BP999", SPEC.design.layout, (4,), 4), 0)
DEADLINE_S = 60.0


class Noting(ThreadLane):
    """A thread that notes in which thread jobs run."""

    threads: set[int]

    def __init__(self) -> None:
        self.threads = set()
        super().__init__("urza")

    def submit(self, job: Job, deliver: Deliver) -> None:
        def noted() -> object:
            self.threads.add(threading.get_ident())
            return job()

        super().submit(noted, deliver)


def spawned(system: ActorSystem, folder: Path, lane: Callable[[], Lane]) -> ActorRef[UrzaMessage]:
    return system.spawn("urza", lambda: Urza(partial(Library, folder), lane))


def really(main: Callable[[ActorSystem], Coroutine[Any, Any, None]]) -> None:
    """With a loop and threads of the real kind."""

    async def play() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        await main(ActorSystem(clock, random.Random(1)))

    asyncio.run(play())


def test_everything_that_is_asked_is_answered_from_one_thread_that_is_not_the_loops(tmp_path: Path) -> None:
    lanes: list[Noting] = []

    def lane() -> Lane:
        lanes.append(Noting())
        return lanes[-1]

    async def main(system: ActorSystem) -> None:
        urza = spawned(system, tmp_path, lane)
        async with system:
            assert await urza.ask(Find(SPEC), deadline_s=DEADLINE_S) is None
            assert await urza.ask(Want(SPEC), deadline_s=DEADLINE_S) is True
            ref = await urza.ask(PUBLISH, deadline_s=DEADLINE_S)
            assert isinstance(ref, ArtifactRef)
            assert await urza.ask(Find(SPEC), deadline_s=DEADLINE_S) == ref
            kernel = await urza.ask(Fetch(SPEC), deadline_s=DEADLINE_S)
            assert isinstance(kernel, Kernel)
            assert kernel.ref == ref
            assert await urza.ask(Hold(ref.ref, "run"), deadline_s=DEADLINE_S) is None
            assert await urza.ask(Release("run"), deadline_s=DEADLINE_S) is None
            collected = await urza.ask(Collect(), deadline_s=DEADLINE_S)
            assert not isinstance(collected, Exception)
            assert collected.removed == 0
            stats = await urza.ask(Ask(), deadline_s=DEADLINE_S)
            assert not isinstance(stats, Exception)
            assert (stats.kernels, stats.programs, stats.wanted) == (1, 1, 0)

    really(main)
    (used,) = lanes
    assert len(used.threads) == 1
    assert threading.get_ident() not in used.threads
    assert not used._thread.is_alive(), "the actor ends its thread"


def test_what_cannot_be_answered_is_answered_with_the_reason_and_the_actor_goes_on(tmp_path: Path) -> None:
    async def main(system: ActorSystem) -> None:
        urza = spawned(system, tmp_path, partial(ThreadLane, "urza"))
        async with system:
            assert isinstance(await urza.ask(Fetch(SPEC), deadline_s=DEADLINE_S), Missing)
            assert isinstance(await urza.ask(Want(UNKNOWN), deadline_s=DEADLINE_S), UnknownBlueprint)
            wrong = Publish(SPEC, a_certificate(SPEC), b"")
            assert isinstance(await urza.ask(wrong, deadline_s=DEADLINE_S), Unfit)
            assert isinstance(await urza.ask(Hold("no such thing", "run"), deadline_s=DEADLINE_S), Missing)
            ref = await urza.ask(PUBLISH, deadline_s=DEADLINE_S)
            assert isinstance(ref, ArtifactRef)
            file_of(tmp_path, ref).write_bytes(b"spoilt")
            assert isinstance(await urza.ask(Fetch(SPEC), deadline_s=DEADLINE_S), Damaged)
            assert await urza.ask(PUBLISH, deadline_s=DEADLINE_S) == ref
            (me,) = system.snapshot().actors
            assert (me.state, me.restarts) == (ActorState.RUNNING, 0)

    really(main)


def test_the_loop_goes_on_while_the_disk_is_slow(tmp_path: Path) -> None:
    going, ended = threading.Event(), threading.Event()

    class Slow(Library):
        def find(self, spec: KernelSpec) -> ArtifactRef | None:
            going.set()
            assert ended.wait(30), "the loop stands still"
            return super().find(spec)

    async def main(system: ActorSystem) -> None:
        urza = system.spawn("urza", lambda: Urza(partial(Slow, tmp_path), partial(ThreadLane, "urza")))
        async with system:
            asked = urza.ask(Find(SPEC), deadline_s=DEADLINE_S)
            assert await asyncio.to_thread(going.wait, 30)
            ended.set()
            assert await asked is None

    really(main)


def test_a_store_that_cannot_be_opened_is_tried_again_at_the_next_question(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"in the way")

    async def main(system: ActorSystem) -> None:
        urza = spawned(system, tmp_path / "store", partial(ThreadLane, "urza"))
        async with system:
            assert isinstance(await urza.ask(Find(SPEC), deadline_s=DEADLINE_S), Unavailable)
            assert isinstance(await urza.ask(PUBLISH, deadline_s=DEADLINE_S), Unavailable)
            (tmp_path / "store").unlink()
            assert isinstance(await urza.ask(PUBLISH, deadline_s=DEADLINE_S), ArtifactRef)

    really(main)


def test_what_is_wanted_and_given_up_is_told(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        library.failed(a_spec(1, design=1), "it hangs", final=True)

    async def main(system: ActorSystem) -> None:
        urza = spawned(system, tmp_path, partial(ThreadLane, "urza"))
        async with system:
            assert await urza.ask(Want(a_spec(1, design=1)), deadline_s=DEADLINE_S) is False
            assert await urza.ask(Want(SPEC), deadline_s=DEADLINE_S) is True
            assert await urza.ask(Wanted(), deadline_s=DEADLINE_S) == (SPEC,)
            given_up = await urza.ask(GivenUp(), deadline_s=DEADLINE_S)
            assert given_up == {a_spec(1, design=1).design.key: "it hangs"}

    really(main)


def test_what_is_wanted_is_known_by_its_key_until_the_last_wanter_withdraws(tmp_path: Path) -> None:
    async def main(system: ActorSystem) -> None:
        urza = spawned(system, tmp_path, partial(ThreadLane, "urza"))
        async with system:
            for run in ("run-1", "run-2"):
                assert await urza.ask(Want(SPEC, run), deadline_s=DEADLINE_S) is True
            for run, left in (("run-1", SPEC), ("run-2", None)):
                assert await urza.ask(WantedSpec(SPEC.key), deadline_s=DEADLINE_S) == SPEC
                assert await urza.ask(Withdraw((SPEC,), run), deadline_s=DEADLINE_S) is None
                assert await urza.ask(WantedSpec(SPEC.key), deadline_s=DEADLINE_S) == left

    really(main)


def test_what_is_let_go_is_held_no_more(tmp_path: Path) -> None:
    async def main(system: ActorSystem) -> None:
        urza = spawned(system, tmp_path, partial(ThreadLane, "urza"))
        async with system:
            ref = await urza.ask(PUBLISH, deadline_s=DEADLINE_S)
            assert isinstance(ref, ArtifactRef)
            assert await urza.ask(Hold(ref.ref, "run"), deadline_s=DEADLINE_S) is None
            assert await urza.ask(LetGo(ref.ref, "another"), deadline_s=DEADLINE_S) is None
            assert await held(urza) == 1
            assert await urza.ask(LetGo(ref.ref, "run"), deadline_s=DEADLINE_S) is None
            assert await held(urza) == 0

    async def held(urza: ActorRef[UrzaMessage]) -> int:
        stats = await urza.ask(Ask(), deadline_s=DEADLINE_S)
        assert not isinstance(stats, Exception)
        return stats.held

    really(main)


def test_what_is_for_drills_alone_is_not_put_on_the_list(tmp_path: Path) -> None:
    high_risk = KernelSpec(Design("BP050", SPEC.design.layout, (8,), 8, {"width": 2.0, "onset": 0.0}), 5)

    async def main(system: ActorSystem) -> None:
        urza = spawned(system, tmp_path, partial(ThreadLane, "urza"))
        async with system:
            assert await urza.ask(Want(high_risk, "run"), deadline_s=DEADLINE_S) is False
            refused = await urza.ask(Publish(high_risk, a_certificate(high_risk), b""), deadline_s=DEADLINE_S)
            assert isinstance(refused, Unfit)
            assert "drills alone" in str(refused)
            assert await urza.ask(Wanted(), deadline_s=DEADLINE_S) == ()

    really(main)


def test_in_virtual_time_each_answer_takes_the_lanes_time(tmp_path: Path) -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        system = ActorSystem(clock, random.Random(2), threads=InlineThreads())
        urza = spawned(system, tmp_path, partial(VirtualLane, 0.5))
        async with system:
            began = clock.monotonic()
            assert await urza.ask(Find(SPEC), deadline_s=10) is None
            assert clock.monotonic() - began == pytest.approx(0.5)

    run_simulated(main, seed=3)
