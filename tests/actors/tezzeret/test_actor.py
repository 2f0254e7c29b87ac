"""The shell announces what a smith tells, on the loop, and ends its processes when it stops."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.runtime import ActorSystem, LoopClock
from actors.tezzeret.actor import Conservative, Prefetch, Tezzeret
from actors.tezzeret.sandbox import Limits
from actors.tezzeret.shop import Announce, Announcement, Shop, Standing
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
from esper.tezzeret.agenda import Policy
from esper.tezzeret.forge import forge
from esper.urza.library import Library
from tests.actors.tezzeret.odd_smithy import HANGS

SITE = SiteInfo("", Layout.VECTOR, (4,), 4, 0)
ODD = "tests.actors.tezzeret.odd_smithy"
PATIENCE_S = 120.0


def spec(blueprint_id: str, draw: int) -> KernelSpec:
    return KernelSpec(design_of(SITE, blueprint_id, {}), draw)


class Rig:
    """A running system with Tezzeret in it."""

    def __init__(self, folder: Path, worker: str = ODD) -> None:
        self.folder, self.worker = folder, worker
        self.smiths: list[Smith] = []
        self.announced: list[Announcement] = []
        self.stood: list[Standing] = []
        self.news = asyncio.Event()
        self.breaks = 0
        self.system = ActorSystem(LoopClock(asyncio.get_running_loop()), random.Random(1))
        self.tezzeret = self.system.spawn(
            "tezzeret", lambda: Tezzeret(self.smith, self.announce, self.stands)
        )

    def smith(self, tell: Announce) -> Smith:
        policy = Policy(strategy=Strategy.FAST)  # as the store's kernel was made
        shop = Shop(self.folder, policy, Limits(background=False), worker=self.worker)
        self.smiths.append(Smith(self.open, shop, random.Random(1), tell))
        return self.smiths[-1]

    def open(self) -> Library:
        if self.breaks:
            self.breaks -= 1
            raise ZeroDivisionError("a mistake of ours")
        return Library(self.folder)

    def announce(self, told: Announcement) -> None:
        assert asyncio.get_running_loop() is not None
        self.announced.append(told)
        self.news.set()

    def stands(self, standing: Standing) -> None:
        assert asyncio.get_running_loop() is not None
        self.stood.append(standing)
        self.news.set()

    async def until(self, so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not so():
                await self.news.wait()
                self.news.clear()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """One in which BP015's design is known."""
    forged = forge(spec("BP015", 0), Strategy.FAST, CATALOGUE)
    with Library(tmp_path) as library:
        library.publish(spec("BP015", 0), forged.certificate, forged.weights, forged.program)
    return tmp_path


def test_what_becomes_of_each_kernel_is_announced_on_the_loop(store: Path) -> None:
    async def main() -> None:
        rig = Rig(store)
        async with rig.system:
            await rig.tezzeret.tell(Conservative(on=True))
            wanted = (spec("BP015", 0), spec("BP015", 1), spec("BP998", 0))
            await rig.tezzeret.tell(Prefetch(wanted))
            await rig.until(lambda: len(rig.announced) == 4 and rig.stood[-1].progress.done == 1)
            standing = rig.stood[-1]
        there, unknown, update, drawn = rig.announced
        assert isinstance(there, KernelArtifactReady)
        assert isinstance(unknown, KernelArtifactError)
        assert isinstance(update, KernelCatalogUpdate)
        assert isinstance(drawn, KernelArtifactReady)
        assert (there.request_id, drawn.request_id) == (wanted[0].key, wanted[1].key)
        assert update.artifact_ref == drawn.artifact_ref != there.artifact_ref
        assert standing.conservative
        assert (standing.progress.left, standing.trouble) == (0, "")

    asyncio.run(main())


def test_a_job_that_hangs_holds_up_neither_the_loop_nor_the_stop(store: Path) -> None:
    async def main() -> None:
        rig = Rig(store)
        async with rig.system:
            await rig.tezzeret.tell(Prefetch((spec(HANGS, 0),)))
            await rig.until(lambda: bool(rig.stood) and rig.stood[-1].progress.busy == (HANGS,))
        assert rig.announced == []
        (smith,) = rig.smiths
        assert smith.stop(10.0), "it has ended"

    asyncio.run(main())
    with Library(store) as library:
        assert library.wanted() == (spec(HANGS, 0),)


def test_that_no_process_can_be_had_is_told_on_the_loop(tmp_path: Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path, worker="tests.nosuchworker")
        async with rig.system:
            await rig.tezzeret.tell(Prefetch((spec("BP015", 0),)))
            await rig.until(lambda: bool(rig.stood) and bool(rig.stood[-1].trouble))
        assert "No module named" in rig.stood[-1].trouble
        assert len(rig.stood) == len(set(map(str, rig.stood))), "each is told once"
        assert rig.announced == []

    asyncio.run(main())


def test_a_smith_that_breaks_is_made_anew_and_goes_on_with_what_is_wanted(store: Path) -> None:
    async def main() -> None:
        with Library(store) as library:
            assert library.want(spec("BP015", 1))
        rig = Rig(store)
        rig.breaks = 1
        async with rig.system:
            await rig.until(lambda: len(rig.announced) == 2)
        assert [type(told) for told in rig.announced] == [KernelCatalogUpdate, KernelArtifactReady]
        broken, mended = rig.smiths
        assert broken.standing.broken == "ZeroDivisionError: a mistake of ours"
        assert mended.standing.broken == ""

    asyncio.run(main())
