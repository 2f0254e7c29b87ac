"""The blueprint pipeline with a store and a compiler that keep books, in virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from actors.karn import Karn
from actors.kasmina import Kasmina
from actors.oona.memory import MemoryBus
from actors.oona.oona import Oona
from actors.oona.topics import run_topics
from actors.prefetch import PATIENCE_S, Depot, Prefetch
from actors.runtime import Actor, ActorRef, ActorSystem, InlineThreads, LoopClock, handles
from actors.runtime.simulation import run_simulated
from actors.tezzeret.actor import Conservative
from actors.tezzeret.actor import Prefetch as Make
from actors.tezzeret.requests import Crier, Requests
from actors.tezzeret.shop import Announcement, error, ready, update
from actors.urza import Fetch, GivenUp, Hold, LetGo, Refused, Want, WantedSpec
from contracts.control import Foresee, Look
from contracts.growth import Candidate, GrowthView
from contracts.kernels import Certificate, KernelSpec, Strategy
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.draw import stream_of
from esper.kasmina.engine import Engine
from esper.kasmina.stock import Stock
from esper.urza.errors import Damaged, Missing
from esper.urza.kernel import Kernel
from esper.urza.names import ArtifactRef
from tests.actors.fakes import SITES
from tests.actors.test_loop import CONFIG
from tests.esper.tamiyo.views import view

CANDIDATES = tuple(
    Candidate(site.name, blueprint_id, {"width": 2.0})
    for blueprint_id in ("BP003", "BP004")
    for site in SITES
)
CERTIFICATE = Certificate(Strategy.STANDARD, "guard", {}, params=1, forward_flops=1)
REF = ArtifactRef("0" * 64 + ".kernel", "0" * 64, 1)
COMPILE_S = 3.0
HOPELESS = "it did not end within 60 s"


def module_of(spec: KernelSpec) -> Kernel:
    design = spec.design
    module = CATALOGUE.get(design.blueprint_id).build(design.site, design.parameters, stream_of(spec.draw))
    return Kernel(module, CERTIFICATE, REF)


class Oracle(Actor[Foresee]):
    """Tamiyo, that foresees the same until its world says otherwise."""

    def __init__(self, world: "World") -> None:
        self._world = world

    @handles
    async def on_foresee(self, message: Foresee) -> tuple[Candidate, ...]:
        self._world.forecasts += 1
        await self._world.delayed(Foresee)
        return self._world.foreseen


class Shelves(Actor[Fetch | Want | WantedSpec | GivenUp | Hold | LetGo]):
    """Urza, with a store in memory."""

    critical = False

    def __init__(self, world: "World") -> None:
        self._world = world

    @handles
    async def on_fetch(self, message: Fetch) -> Kernel | Refused:
        world = self._world
        await world.delayed(Fetch)
        if world.refusal is not None:
            return world.refusal
        if message.spec.key in world.spoilt:
            world.spoilt.remove(message.spec.key)
            return Damaged("its bytes have another digest")
        if message.spec.key not in world.store:
            return Missing("not made")
        kernel = module_of(message.spec)
        reason = world.wrong.get(message.spec.design.blueprint_id)
        if reason is None:
            return kernel
        return Kernel(kernel.module, replace(CERTIFICATE, native_refusal=reason), REF)

    @handles
    async def on_want(self, message: Want) -> bool | Refused:
        if message.spec.design.key in self._world.given_up:
            return False
        if message.spec.key in self._world.made_by_others:
            self._world.store.add(message.spec.key)
            return False
        self._world.wanted[message.spec.key] = message.spec
        return True

    @handles
    async def on_wanted_spec(self, message: WantedSpec) -> KernelSpec | Refused | None:
        await self._world.delayed(WantedSpec)
        return self._world.wanted.get(message.key)

    @handles
    async def on_hold(self, message: Hold) -> Refused | None:
        self._world.held.append((message.ref, message.holder))
        return None

    @handles
    async def on_let_go(self, message: LetGo) -> Refused | None:
        self._world.held.remove((message.ref, message.holder))
        return None

    @handles
    async def on_given_up(self, _: GivenUp) -> dict[str, str] | Refused:
        return self._world.given_up


class Done(msgspec.Struct, frozen=True):
    """What was busy is made."""


class Compiler(Actor[Make | Done | Conservative]):
    """Tezzeret, that needs `COMPILE_S` for each kernel; the newest request goes ahead of all that wait."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._queue: list[KernelSpec] = []
        self._busy: KernelSpec | None = None

    @handles
    async def on_make(self, message: Make) -> None:
        for spec in message.specs:
            if spec in self._queue:
                self._queue.remove(spec)
            if spec != self._busy:
                self._queue.insert(0, spec)
        self._begin()

    def _begin(self) -> None:
        if self._busy is None and self._queue:
            self._busy = self._queue.pop(0)
            asyncio.get_running_loop().call_later(COMPILE_S, self.context.me.tell_nowait, Done())

    @handles
    async def on_done(self, _: Done) -> None:
        world, spec = self._world, self._busy
        assert spec is not None
        self._busy = None
        world.made.append(spec.key)
        world.wanted.pop(spec.key, None)
        if spec.design.blueprint_id in world.hopeless:
            world.given_up[spec.design.key] = HOPELESS
            world.tell(error(spec, HOPELESS))
        else:
            world.store.add(spec.key)
            world.tell(update(spec, REF, CERTIFICATE))
            world.tell(ready(spec, REF, CERTIFICATE))
        self._begin()

    @handles
    async def on_conservative(self, message: Conservative) -> None:
        self._world.careful.append(message.on)


@dataclass
class World:
    """The pipeline with a store and a compiler that keep books."""

    store: set[str] = field(default_factory=set)
    spoilt: set[str] = field(default_factory=set)
    wanted: dict[str, KernelSpec] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    hopeless: frozenset[str] = frozenset()
    lost: bool = False
    """What the compiler tells does not arrive."""
    refusal: Refused | None = None
    late: list[type] = field(default_factory=list)
    """Questions, each of which is answered too late the next time it is asked."""
    forecasts: int = 0
    foreseen: tuple[Candidate, ...] = CANDIDATES
    made: list[str] = field(default_factory=list)
    made_by_others: frozenset[str] = frozenset()
    """Comes into the store between a fetch and a wish."""
    careful: list[bool] = field(default_factory=list)
    held: list[tuple[str, str]] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)
    out: dict[str, str] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    """What is said of native code, by blueprint."""
    wronged: list[str] = field(default_factory=list)
    damages: list[tuple[str, str]] = field(default_factory=list)
    stock: Stock = field(default_factory=Stock)

    def __post_init__(self) -> None:
        self.engine = Engine(SITES, CONFIG.growth, CATALOGUE, 0, self.stock)
        found = [self.engine.kernel_for(candidate) for candidate in CANDIDATES]
        self.specs = [spec for spec in found if spec is not None]

    def tell(self, announcement: Announcement) -> None:
        if not self.lost:
            self.crier.announce(announcement)

    async def delayed(self, question: type) -> None:
        if question in self.late:
            self.late.remove(question)
            await asyncio.sleep(PATIENCE_S + 0.1)

    def kernels(self, ready: int, wanted: int) -> None:
        self.progress.append((ready, wanted))

    def left_out(self, blueprint_id: str, reason: str) -> None:
        assert blueprint_id not in self.out, "said once"
        self.out[blueprint_id] = reason

    def miscompiled(self, blueprint_id: str, reason: str) -> None:
        self.wronged.append(f"{blueprint_id}: {reason}")

    def damaged(self, blueprint_id: str, reason: str) -> None:
        self.damages.append((blueprint_id, reason))

    def no_store(self, reason: str) -> None:
        self.troubles.append(reason)

    def play(self, scene: Callable[["World", ActorRef[Look]], Awaitable[None]]) -> "World":
        """Let the actors run while `scene` does; nothing may fail or stay on the bus."""

        async def main() -> None:
            clock = LoopClock(asyncio.get_running_loop())
            self.bus = MemoryBus(run_topics(), clock)
            self.crier = Crier(self.bus, "run")
            failed: list[object] = []
            system = ActorSystem(
                clock, random.Random(0), on_escalation=failed.append, threads=InlineThreads()
            )
            system.spawn("oona", lambda: Oona(self.bus))
            tamiyo = system.spawn("tamiyo", lambda: Oracle(self))
            kasmina = system.spawn("kasmina", lambda: Kasmina(self.engine))
            urza = system.spawn("urza", lambda: Shelves(self))
            tezzeret = system.spawn("tezzeret", lambda: Compiler(self))
            karn = system.spawn("karn", lambda: Karn(CATALOGUE, frozenset()))
            system.spawn("requests", lambda: Requests(self.bus, self.crier, urza, karn, tezzeret))
            depot = Depot(self.bus, clock, self.stock, tamiyo, kasmina, urza, tezzeret, self, "run")
            prefetch = system.spawn("prefetch", lambda: Prefetch(depot))
            async with system:
                await scene(self, prefetch)
                assert not failed
                assert not any(actor.restarts for actor in system.snapshot().actors)
            await self.bus.close()

        run_simulated(main, seed=1)
        return self


async def looked(world: World, prefetch: ActorRef[Look], now: GrowthView | None = None) -> None:
    """One boundary, and long enough after it for everything to be made."""
    await prefetch.tell(Look(now or view(1)))
    await asyncio.sleep(COMPILE_S * (len(CANDIDATES) + 1))


async def looked_twice(world: World, prefetch: ActorRef[Look]) -> None:
    """A boundary, everything is made, and growth changes."""
    await looked(world, prefetch)
    await looked(world, prefetch, view(2, params=400))
