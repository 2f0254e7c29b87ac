"""Kernels come into the stock ahead of their use, over the bus, and nothing that goes wrong stops a run."""

import asyncio

from msgspec.structs import replace

from actors.runtime import ActorRef
from actors.tezzeret.shop import error, ready
from contracts import topics
from contracts.control import Look
from contracts.kernels import KernelPrefetchRequest, KernelSpec, design_of
from contracts.lifecycle import Stage
from tests.actors.fakes import SITES
from tests.actors.kernel_world import CANDIDATES, CERTIFICATE, COMPILE_S, HOPELESS, REF, World, looked
from tests.esper.tamiyo.views import seed, view


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


def test_that_native_code_of_a_blueprint_is_wrong_is_told_once() -> None:
    world = World(wrong={"BP004": "its gradients differ"}).play(looked)
    assert all(world.stock.holds(spec) for spec in world.specs)
    assert world.wronged == ["BP004: its gradients differ"]
    assert world.stock.facts().miscompiled == {"BP004": "its gradients differ"}


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
