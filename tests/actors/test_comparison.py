"""The comparison behind a run: what hangs there holds nobody up."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors import comparison
from actors.comparison import Stopper, compare
from actors.watchdog import Stall
from tests.esper.tolaria import world

STILL = Stall("step", 0, 60.0, over=False, dumped=True)


ROUNDS = 20


class StillWaiting(Exception):
    """After so many looks."""


class HangingLane:
    """Never does what it is given; its watchdog notices."""

    def __init__(self, stopper: Stopper, stall: Stall) -> None:
        self._stopper = stopper
        self._stall = stall

    def submit(self, job: Callable[[], object], deliver: Callable[[object], None]) -> None:
        assert self._stopper.progress is None, "nothing is at work yet"
        asyncio.get_running_loop().call_soon(self._stopper.stalled, self._stall)


def outcome() -> Any:
    live = SimpleNamespace(compare=lambda *_: None, view=lambda: None, compared_epoch=lambda _: None)
    final = SimpleNamespace(train_flops=10**9)
    return SimpleNamespace(
        conclusion=SimpleNamespace(final=final, halted=""), witness=SimpleNamespace(live=live)
    )


def compared(stall: Stall, monkeypatch: pytest.MonkeyPatch) -> tuple[object, Stopper]:
    monkeypatch.setattr(comparison, "DISPLAY_EVERY_S", 0.001)
    stopper = Stopper(cast(Any, None))
    rounds = 0

    def update(_: object) -> None:
        nonlocal rounds
        rounds += 1
        if rounds > ROUNDS:
            raise StillWaiting

    display = SimpleNamespace(update=update)

    async def scenario() -> object:
        lane = cast(Any, HangingLane(stopper, stall))
        return await compare(world.config(), world.task(), outcome(), stopper, cast(Any, display), lane)

    return asyncio.run(scenario()), stopper


def test_a_comparison_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    result, stopper = compared(STILL, monkeypatch)
    assert result is None
    assert stopper.reason == "given up: the training thread has stood still for 60.00 s"
    assert stopper.control is not None
    assert stopper.control.trainer._machine.loop.stop_requested, "and ends if it ever moves again"


@pytest.mark.parametrize(
    "stall", [Stall("loop", 0, 1.0, over=True, dumped=True), Stall("step", 0, 60.0, over=True, dumped=True)]
)
def test_one_that_goes_on_is_waited_for(stall: Stall, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StillWaiting):
        compared(stall, monkeypatch)
