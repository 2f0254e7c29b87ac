"""An event loop whose time a test moves by hand: what is real, a server or a pipe, takes none of it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from tests.actors.oona.rig import settle

T = TypeVar("T")
STEP_S: Final = 0.01
"""Seconds that pass at a time."""


class HandLoop(asyncio.SelectorEventLoop):
    """No deadline passes because this machine is busy, and none takes time."""

    def __init__(self) -> None:
        self._now_s = 100.0
        self._let_go_s: float | None = None
        super().__init__()

    def time(self) -> float:
        return self._now_s + (0.0 if self._let_go_s is None else super().time() - self._let_go_s)

    def let_go(self) -> None:
        """From now on time goes by of itself."""
        self._let_go_s = super().time()

    async def let_pass(self, seconds: float) -> None:
        """Time goes by in small steps; who is woken goes on before the next."""
        end_s = self._now_s + seconds
        while self._now_s < end_s:
            self._now_s = min(end_s, self._now_s + STEP_S)
            await settle()

    def stand_still(self, seconds: float) -> None:
        """Time goes by, and nobody here can do anything in it."""
        self._now_s += seconds

    async def finished(self, what: asyncio.Future[T], most_s: float) -> T:
        """Let time go by until it is done; fails after so many seconds."""
        end_s = self._now_s + most_s
        while not what.done() and self._now_s < end_s:
            await self.let_pass(STEP_S)
        if not what.done():
            self.let_go()  # or whatever is closed now would wait for ever
        assert what.done(), f"it is not done after {most_s:g} s"
        return what.result()


def by_hand(scenario: Callable[[HandLoop], Coroutine[Any, Any, T]]) -> T:
    """Play it on such a loop."""
    with asyncio.Runner(loop_factory=HandLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, HandLoop)
        return runner.run(scenario(loop))
