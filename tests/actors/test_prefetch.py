"""Kernels come into the stock ahead of their use, over the bus, and nothing that goes wrong stops a run."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import pytest
from msgspec.structs import replace

from actors import prefetch as prefetching
from actors.karn import Karn
from actors.kasmina import Kasmina
from actors.oona.memory import MemoryBus
from actors.oona.topics import run_topics
from actors.prefetch import Depot, Prefetch
from actors.runtime import Actor, ActorRef, ActorSystem, InlineThreads, LoopClock, handles
from actors.runtime.simulation import run_simulated
from actors.tezzeret.actor import Conservative
from actors.tezzeret.actor import Prefetch as Make
from actors.tezzeret.requests import Crier, Requests
from actors.tezzeret.shop import Announcement, error, ready, update
from actors.urza import Fetch, GivenUp, Hold, LetGo, Refused, Want, WantedSpec
from contracts import topics
from contracts.control import Foresee, Look
from contracts.growth import Candidate, GrowthView
from contracts.kernels import Certificate, KernelPrefetchRequest, KernelSpec, Strategy, design_of
from contracts.lifecycle import Stage
from esper.karn.catalogue import CATALOGUE
from esper.kasmina.draw import stream_of
from esper.kasmina.engine import Engine
from esper.kasmina.stock import Stock
from esper.urza.errors import Damaged, Missing, Unavailable
from esper.urza.kernel import Kernel
from esper.urza.names import ArtifactRef
from tests.actors.fakes import SITES
from tests.actors.test_loop import CONFIG
from tests.esper.tamiyo.views import seed, view

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
        return self._world.foreseen


class Shelves(Actor[Fetch | Want | WantedSpec | GivenUp | Hold | LetGo]):
    """Urza, with a store in memory."""

    critical = False

    def __init__(self, world: "World") -> None:
        self._world = world

    @handles
    async def on_fetch(self, message: Fetch) -> Kernel | Refused:
        world = self._world
        if world.refusal is not None:
            return world.refusal
        if message.spec.key in world.spoilt:
            world.spoilt.remove(message.spec.key)
            return Damaged("its bytes have another digest")
        if message.spec.key not in world.store:
            return Missing("not made")
        return module_of(message.spec)

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
    damages: list[tuple[str, str]] = field(default_factory=list)
    stock: Stock = field(default_factory=Stock)

    def __post_init__(self) -> None:
        self.engine = Engine(SITES, CONFIG.growth, CATALOGUE, 0, self.stock)
        found = [self.engine.kernel_for(candidate) for candidate in CANDIDATES]
        self.specs = [spec for spec in found if spec is not None]

    def tell(self, announcement: Announcement) -> None:
        if not self.lost:
            self.crier.announce(announcement)

    def kernels(self, ready: int, wanted: int) -> None:
        self.progress.append((ready, wanted))

    def left_out(self, blueprint_id: str, reason: str) -> None:
        assert blueprint_id not in self.out, "said once"
        self.out[blueprint_id] = reason

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


def test_what_the_store_has_is_in_the_stock_soon_after_the_first_boundary() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await prefetch.tell(Look(view(1)))
        await asyncio.sleep(0.1)

    world = World()
    world.store = {spec.key for spec in world.specs}
    world.play(scene)
    assert all(world.stock.holds(spec) for spec in world.specs)
    assert world.progress[-1] == (4, 4)
    assert not world.made
    assert not world.held


def test_what_it_has_not_is_asked_for_over_the_bus_made_likeliest_first_and_fetched_when_it_is_ready() -> (
    None
):
    world = World().play(looked)
    assert world.made == [spec.key for spec in world.specs]
    assert all(world.stock.holds(spec) for spec in world.specs)
    assert world.progress[-1] == (4, 4)
    published = {row.topic: row.ledger.published for row in world.bus.metrics().published}
    assert [published[topic] for topic in topics.KERNELS] == [5, 4, 0, 4], "the likeliest is asked for twice"


def test_what_turns_out_to_be_likelier_goes_ahead_of_what_was_asked_for_before() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await prefetch.tell(Look(view(1)))
        await asyncio.sleep(COMPILE_S / 2)
        world.foreseen = CANDIDATES[::-1]
        await looked(world, prefetch, view(2, params=400))

    world = World().play(scene)
    first, second, third, last = (spec.key for spec in world.specs)
    assert world.made == [first, last, third, second], "what is being made is not broken off"
    assert all(world.stock.holds(spec) for spec in world.specs)


def test_what_is_new_goes_ahead_while_the_compiler_is_busy() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        world.foreseen = CANDIDATES[3:]
        await prefetch.tell(Look(view(1)))
        await asyncio.sleep(COMPILE_S / 2)
        world.foreseen = CANDIDATES[:3]
        await looked(world, prefetch, view(2, params=400))

    world = World().play(scene)
    first, second, third, last = (spec.key for spec in world.specs)
    assert world.made == [last, first, second, third]


def test_what_can_not_be_compiled_is_left_out_and_the_rest_comes() -> None:
    world = World(hopeless=frozenset({"BP003"})).play(looked)
    assert world.out == {"BP003": HOPELESS}
    assert world.stock.left_out == world.out
    assert [world.stock.holds(spec) for spec in world.specs] == [False, False, True, True]


def test_what_was_given_up_before_is_left_out_with_its_reason() -> None:
    world = World()
    world.given_up = {world.specs[0].design.key: "it ate 3 GiB"}
    world.play(looked)
    assert world.out == {"BP003": "it ate 3 GiB (found out by an earlier run)"}
    assert not world.stock.holds(world.specs[0])
    assert world.stock.holds(world.specs[1])


def test_a_store_that_can_not_be_used_is_said_once_and_costs_no_more_questions() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await looked(world, prefetch)
        await looked(world, prefetch, view(2, params=400))

    world = World(refusal=Unavailable("the disk is full")).play(scene)
    assert world.troubles == ["the disk is full"]
    assert world.forecasts == 1
    assert not any(world.stock.holds(spec) for spec in world.specs)


def test_a_forecast_is_asked_for_again_only_when_growth_has_changed() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await looked(world, prefetch, view(1))
        await looked(world, prefetch, replace(view(2), progress=0.2))
        assert world.forecasts == 1
        await looked(world, prefetch, view(3, params=400))
        assert world.forecasts == 2

    world = World().play(scene)
    assert len(world.made) == len(CANDIDATES)


def test_a_kernel_that_was_taken_is_fetched_again_when_growth_has_changed() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await looked(world, prefetch)
        assert world.stock.take(world.specs[0]) is not None
        await looked(world, prefetch, view(2, params=400))

    world = World().play(scene)
    assert world.stock.holds(world.specs[0])
    assert len(world.made) == len(CANDIDATES)


def test_an_answer_to_somebody_elses_request_is_let_pass() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        world.crier.announce(ready(world.specs[0], REF, CERTIFICATE))
        world.crier.announce(error(world.specs[1], "elsewhere"))
        await asyncio.sleep(0.1)

    world = World().play(scene)
    assert not world.out
    assert not any(world.stock.holds(spec) for spec in world.specs)


def test_nobody_has_a_kernel_made_that_only_drills_may_grow() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        design = design_of(SITES[0], "BP046", {"onset": 0.0})
        spec = KernelSpec(design, 0)
        world.wanted[spec.key] = spec
        request = KernelPrefetchRequest(spec.key, "BP046", "somebody", 0)
        await world.bus.publish(topics.KERNEL_REQUEST, request, event_id="sly")
        await asyncio.sleep(COMPILE_S * 2)
        published = {row.topic: row.ledger.published for row in world.bus.metrics().published}
        assert published[topics.KERNEL_ERROR] == 1

    world = World().play(scene)
    assert not world.made


def test_what_has_been_grafted_is_held_in_the_store_once() -> None:
    grown = seed(Stage.PROBATIONARY)
    grown = replace(grown, record=replace(grown.record, kernel=REF.ref))

    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await looked(world, prefetch, view(1, (grown,), params=400))
        await looked(world, prefetch, view(2, (grown,), params=450))

    assert World().play(scene).held == [(REF.ref, "run")]


def test_what_has_left_the_network_is_let_go() -> None:
    grown = seed(Stage.PROBATIONARY)
    grown = replace(grown, record=replace(grown.record, kernel=REF.ref))
    culled = replace(grown, record=replace(grown.record, stage=Stage.EMBARGOED))

    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await looked(world, prefetch, view(1, (grown,), params=400))
        assert world.held == [(REF.ref, "run")]
        await looked(world, prefetch, view(2, (culled,), params=350))

    assert not World().play(scene).held


def test_a_damaged_kernel_is_told_made_again_and_fetched() -> None:
    world = World()
    broken = world.specs[1]
    world.store = {spec.key for spec in world.specs} - {broken.key}
    world.spoilt = {broken.key}
    world.play(looked)
    assert world.damages == [(broken.design.blueprint_id, "its bytes have another digest")]
    assert world.made == [broken.key]
    assert all(world.stock.holds(spec) for spec in world.specs)
    assert world.stock.facts().damaged == 1


def test_in_conservative_mode_the_compiler_is_told_to_take_little() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        for epoch, calm in enumerate((False, True, True, False), 1):
            await looked(world, prefetch, replace(view(epoch, params=400 + epoch), conservative=calm))

    assert World().play(scene).careful == [True, False]


def test_what_somebody_else_has_made_meanwhile_is_fetched() -> None:
    world = World()
    world.made_by_others = frozenset({world.specs[1].key})
    world.play(looked)
    assert world.specs[1].key not in world.made
    assert all(world.stock.holds(spec) for spec in world.specs)


async def looked_twice(world: World, prefetch: ActorRef[Look]) -> None:
    """A boundary, everything is made, and growth changes."""
    await looked(world, prefetch)
    await looked(world, prefetch, view(2, params=400))


def test_what_is_ready_is_found_when_growth_changes_though_nobody_heard_that_it_is() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await looked(world, prefetch)
        assert world.made == [spec.key for spec in world.specs]
        assert not any(world.stock.holds(spec) for spec in world.specs)
        await looked(world, prefetch, view(2, params=400))

    world = World(lost=True).play(scene)
    assert all(world.stock.holds(spec) for spec in world.specs)
    assert world.progress[-1] == (4, 4)
    assert len(world.made) == len(world.specs), "and nothing is made again"


def test_what_can_not_be_made_is_left_out_when_growth_changes_though_nobody_heard_it() -> None:
    world = World(hopeless=frozenset({"BP003"}), lost=True).play(looked_twice)
    assert world.out == {"BP003": HOPELESS}
    assert [world.stock.holds(spec) for spec in world.specs] == [False, False, True, True]


def test_a_kernel_that_was_asked_for_and_is_damaged_is_asked_for_again() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await looked(world, prefetch)
        world.spoilt = {world.specs[1].key}
        world.lost = False
        await looked(world, prefetch, view(2, params=400))

    world = World(lost=True).play(scene)
    assert world.made == [*(spec.key for spec in world.specs), world.specs[1].key]
    assert all(world.stock.holds(spec) for spec in world.specs)


def test_no_more_is_waited_for_than_there_is_room_for_and_what_is_forgotten_is_found_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefetching, "REQUESTS_MAX", 2)

    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await looked(world, prefetch)
        assert len(world.made) == len(world.specs), "all are made for the store"
        assert [world.stock.holds(spec) for spec in world.specs] == [True, True, False, False]
        await looked(world, prefetch, view(2, params=400))

    world = World().play(scene)
    assert all(world.stock.holds(spec) for spec in world.specs)
    assert len(world.made) == len(world.specs)
