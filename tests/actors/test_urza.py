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
from actors.urza import Fetch, GivenUp, Hold, LetGo, Urza, UrzaMessage, Want, WantedSpec
from contracts.kernels import Design, KernelSpec
from esper.karn.catalogue import UnknownBlueprint
from esper.urza.errors import Damaged, Missing, Unavailable
from esper.urza.kernel import Kernel
from esper.urza.library import Library
from esper.urza.names import ArtifactRef
from tests.actors.fakes import VirtualLane
from tests.esper.urza.world import a_certificate, a_spec, file_of, its_weights

SPEC = a_spec(3)
UNKNOWN = KernelSpec(Design("BP999", SPEC.design.layout, (4,), 4), 0)
DEADLINE_S = 60.0


def published(folder: Path) -> ArtifactRef:
    """Put the kernel into the store."""
    with Library(folder) as library:
        return library.publish(SPEC, a_certificate(SPEC), its_weights(SPEC))


def held(folder: Path) -> int:
    with Library(folder) as library:
        return library.stats().held


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
            assert isinstance(await urza.ask(Fetch(SPEC), deadline_s=DEADLINE_S), Missing)
            assert await urza.ask(Want(SPEC), deadline_s=DEADLINE_S) is True
            ref = published(tmp_path)
            kernel = await urza.ask(Fetch(SPEC), deadline_s=DEADLINE_S)
            assert isinstance(kernel, Kernel)
            assert kernel.ref == ref
            assert await urza.ask(Want(SPEC), deadline_s=DEADLINE_S) is False, "it is there"

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
            assert isinstance(await urza.ask(Hold("no such thing", "run"), deadline_s=DEADLINE_S), Missing)
            file_of(tmp_path, published(tmp_path)).write_bytes(b"spoilt")
            assert isinstance(await urza.ask(Fetch(SPEC), deadline_s=DEADLINE_S), Damaged)
            assert await urza.ask(WantedSpec(SPEC.key), deadline_s=DEADLINE_S) == SPEC, "it is made again"
            published(tmp_path)
            assert isinstance(await urza.ask(Fetch(SPEC), deadline_s=DEADLINE_S), Kernel)
            (me,) = system.snapshot().actors
            assert (me.state, me.restarts) == (ActorState.RUNNING, 0)

    really(main)


def test_the_loop_goes_on_while_the_disk_is_slow(tmp_path: Path) -> None:
    going, ended = threading.Event(), threading.Event()

    class Slow(Library):
        def fetch(self, spec: KernelSpec) -> Kernel:
            going.set()
            assert ended.wait(30), "the loop stands still"
            return super().fetch(spec)

    async def main(system: ActorSystem) -> None:
        urza = system.spawn("urza", lambda: Urza(partial(Slow, tmp_path), partial(ThreadLane, "urza")))
        async with system:
            asked = urza.ask(Fetch(SPEC), deadline_s=DEADLINE_S)
            assert await asyncio.to_thread(going.wait, 30)
            ended.set()
            assert isinstance(await asked, Missing)

    really(main)


def test_a_store_that_cannot_be_opened_is_tried_again_at_the_next_question(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"in the way")

    async def main(system: ActorSystem) -> None:
        urza = spawned(system, tmp_path / "store", partial(ThreadLane, "urza"))
        async with system:
            assert isinstance(await urza.ask(Fetch(SPEC), deadline_s=DEADLINE_S), Unavailable)
            assert isinstance(await urza.ask(Want(SPEC), deadline_s=DEADLINE_S), Unavailable)
            (tmp_path / "store").unlink()
            assert await urza.ask(Want(SPEC), deadline_s=DEADLINE_S) is True

    really(main)


def test_what_is_wanted_and_given_up_is_told(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        library.failed(a_spec(1, design=1), "it hangs", final=True)

    async def main(system: ActorSystem) -> None:
        urza = spawned(system, tmp_path, partial(ThreadLane, "urza"))
        async with system:
            assert await urza.ask(Want(a_spec(1, design=1)), deadline_s=DEADLINE_S) is False
            assert await urza.ask(Want(SPEC), deadline_s=DEADLINE_S) is True
            assert await urza.ask(WantedSpec(SPEC.key), deadline_s=DEADLINE_S) == SPEC
            given_up = await urza.ask(GivenUp(), deadline_s=DEADLINE_S)
            assert given_up == {a_spec(1, design=1).design.key: "it hangs"}

    really(main)


def test_what_is_let_go_is_held_no_more(tmp_path: Path) -> None:
    ref = published(tmp_path)

    async def main(system: ActorSystem) -> None:
        urza = spawned(system, tmp_path, partial(ThreadLane, "urza"))
        async with system:
            assert await urza.ask(Hold(ref.ref, "run"), deadline_s=DEADLINE_S) is None
            assert await urza.ask(LetGo(ref.ref, "another"), deadline_s=DEADLINE_S) is None
            assert held(tmp_path) == 1
            assert await urza.ask(LetGo(ref.ref, "run"), deadline_s=DEADLINE_S) is None
            assert held(tmp_path) == 0

    really(main)


def test_what_is_for_drills_alone_is_not_put_on_the_list(tmp_path: Path) -> None:
    high_risk = KernelSpec(Design("BP050", SPEC.design.layout, (8,), 8, {"width": 2.0, "onset": 0.0}), 5)

    async def main(system: ActorSystem) -> None:
        urza = spawned(system, tmp_path, partial(ThreadLane, "urza"))
        async with system:
            assert await urza.ask(Want(high_risk, "run"), deadline_s=DEADLINE_S) is False
            assert await urza.ask(WantedSpec(high_risk.key), deadline_s=DEADLINE_S) is None

    really(main)


def test_in_virtual_time_each_answer_takes_the_lanes_time(tmp_path: Path) -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        system = ActorSystem(clock, random.Random(2), threads=InlineThreads())
        urza = spawned(system, tmp_path, partial(VirtualLane, 0.5))
        async with system:
            began = clock.monotonic()
            assert isinstance(await urza.ask(Fetch(SPEC), deadline_s=10), Missing)
            assert clock.monotonic() - began == pytest.approx(0.5)

    run_simulated(main, seed=3)
