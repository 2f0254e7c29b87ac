"""What goes wrong on the way of a kernel: late answers, lost words, damaged files; all comes right later."""

import asyncio

import pytest

from actors import prefetch as prefetching
from actors.prefetch import AGAIN_S, PATIENCE_S
from actors.runtime import ActorRef
from actors.urza import Fetch, WantedSpec
from contracts.control import Foresee, Look
from esper.urza.errors import Unavailable
from tests.actors.kernel_world import CANDIDATES, COMPILE_S, HOPELESS, World, looked, looked_twice
from tests.esper.tamiyo.views import view


def test_a_store_that_can_not_be_used_is_said_once_and_costs_no_more_questions() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await looked(world, prefetch)
        await looked(world, prefetch, view(2, params=400))

    world = World(refusal=Unavailable("the disk is full")).play(scene)
    assert world.troubles == ["the disk is full"]
    assert world.forecasts == 1
    assert not any(world.stock.holds(spec) for spec in world.specs)


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


@pytest.mark.parametrize("question", [Foresee, Fetch])
def test_a_look_that_failed_is_made_again_without_a_boundary(question: type) -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        world.late = [question]
        await prefetch.tell(Look(view(1)))
        await asyncio.sleep(PATIENCE_S + AGAIN_S[0] + COMPILE_S * (len(CANDIDATES) + 1))

    world = World().play(scene)
    assert world.forecasts == 2
    assert sorted(world.made) == sorted(spec.key for spec in world.specs), "each is made once"
    assert all(world.stock.holds(spec) for spec in world.specs)


def test_between_two_boundaries_a_look_is_made_again_so_often_and_no_oftener(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rests = AGAIN_S[:2]
    monkeypatch.setattr(prefetching, "AGAIN_S", rests)
    often = 1 + len(rests)

    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        world.late = [Foresee] * often
        await prefetch.tell(Look(view(1)))
        await asyncio.sleep(2 * (often * PATIENCE_S + sum(rests)))
        assert world.forecasts == often
        await looked(world, prefetch)

    world = World().play(scene)
    assert world.forecasts == often + 1
    assert all(world.stock.holds(spec) for spec in world.specs)


def test_a_boundary_does_not_wait_for_the_rest_of_a_look_that_failed_and_ends_it() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        world.late = [Foresee]
        await prefetch.tell(Look(view(1)))
        await asyncio.sleep(PATIENCE_S + AGAIN_S[0] / 2)
        await prefetch.tell(Look(view(2, params=400)))
        await asyncio.sleep(0.1)
        assert world.forecasts == 2
        await asyncio.sleep(AGAIN_S[0] + COMPILE_S * (len(CANDIDATES) + 1))

    world = World().play(scene)
    assert world.forecasts == 2
    assert all(world.stock.holds(spec) for spec in world.specs)


def test_a_kernel_that_is_ready_and_can_not_be_fetched_in_time_is_looked_for_again() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        await prefetch.tell(Look(view(1)))
        await asyncio.sleep(COMPILE_S / 2)
        world.late = [Fetch]
        await asyncio.sleep(PATIENCE_S + AGAIN_S[0] + COMPILE_S * (len(CANDIDATES) + 1))

    world = World().play(scene)
    assert world.made == [spec.key for spec in world.specs]
    assert all(world.stock.holds(spec) for spec in world.specs)


def test_a_request_that_could_not_be_passed_on_is_passed_on_later() -> None:
    async def scene(world: World, prefetch: ActorRef[Look]) -> None:
        world.late = [WantedSpec]
        await looked(world, prefetch)
        await asyncio.sleep(PATIENCE_S)

    world = World(foreseen=CANDIDATES[:1]).play(scene)
    assert world.made == [world.specs[0].key]
    assert world.stock.holds(world.specs[0])
