"""The one sweeper of all deadlines."""

import asyncio

from actors.runtime.asks import Ask, Sweeper
from actors.runtime.errors import AskTimeout
from tests.actors.runtime.sample import in_virtual_time


def open_ask(sweeper: Sweeper, deadline_s: float) -> Ask[object]:
    loop = asyncio.get_running_loop()
    ask: Ask[object] = Ask("actor", "message", deadline_s, loop.time(), loop)
    sweeper.add(ask)
    return ask


@in_virtual_time
async def test_an_earlier_deadline_that_comes_later_is_kept() -> None:
    loop = asyncio.get_running_loop()
    sweeper = Sweeper(loop, loop.time)
    late, early = open_ask(sweeper, 10), open_ask(sweeper, 2)
    await asyncio.sleep(3)
    assert isinstance(early.exception(), AskTimeout)
    assert not late.done()
    await asyncio.sleep(8)
    assert isinstance(late.exception(), AskTimeout)
    assert len(sweeper) == 0


@in_virtual_time
async def test_an_answered_ask_is_forgotten_and_sets_no_timer() -> None:
    loop = asyncio.get_running_loop()
    sweeper = Sweeper(loop, loop.time)
    for _ in range(100):
        sweeper.discard(open_ask(sweeper, 10))
        await asyncio.sleep(0.01)
    assert len(sweeper) == 0
    kept = open_ask(sweeper, 20)
    await asyncio.sleep(15)
    assert not kept.done()
    sweeper.close()
    await asyncio.sleep(15)
    assert not kept.done()


@in_virtual_time
async def test_deadlines_expire_in_order_and_never_early() -> None:
    loop = asyncio.get_running_loop()
    sweeper = Sweeper(loop, loop.time)
    asks = [open_ask(sweeper, 0.0001 * n) for n in range(1, 60)]
    ended: list[tuple[float, float]] = []

    def note(ask: asyncio.Future[object]) -> None:
        assert isinstance(ask, Ask)
        ended.append((ask.deadline, loop.time()))

    for ask in asks:
        ask.add_done_callback(note)
    await asyncio.sleep(1)
    assert [deadline for deadline, _ in ended] == sorted(ask.deadline for ask in asks)
    assert all(-1e-9 <= at - deadline <= 0.00051 for deadline, at in ended)
    for ask in asks:
        assert ask.exception() is not None
