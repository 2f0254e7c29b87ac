"""What a planted race is: real code without one of its guards, in a scenario whose order a seed decides."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

from msgspec.structs import replace

from actors.runtime.simulation import Stuck, run_simulated
from contracts.config import CheckpointConfig
from tests.simulation.play import CONFIG, Failed, Simulation
from tests.simulation.plot import Plot, Script
from tests.simulation.trace import Violation

LIMIT_S = 60.0
"""Virtual seconds after which a scene that has not ended never will."""


@dataclass(frozen=True)
class Race:
    """One method of one class, as it would be without its guard."""

    name: str
    bug: str
    """What is wrong with the planted version, in one sentence."""
    of: type
    method: str
    planted: Callable[..., Any]
    play: Callable[[int | None], None]
    """The scenario in the order of a seed (None: first in, first out); raises what it finds."""
    says: str
    """What whoever finds it says."""
    seed: int
    """The first seed whose order brings the bug out."""

    def breaks(self, order: int | None, *, planted: bool = True) -> str:
        """What went wrong in this order; empty if nothing did."""
        logging.disable(logging.CRITICAL)  # some bugs make an actor fail, which is said at length
        try:
            with self._alive() if planted else nullcontext():
                self.play(order)
        except Failed as failed:
            return failed.why
        except (Violation, Stuck, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            logging.disable(logging.NOTSET)
        return ""

    @contextmanager
    def _alive(self) -> Iterator[None]:
        with mock.patch.object(self.of, self.method, self.planted):
            yield


class Delays:
    """How long things take: as usual without a seed, else anything that is on offer."""

    def __init__(self, order: int | None) -> None:
        self._random = None if order is None else random.Random(order)

    def of(self, usual: float, *others: float) -> float:
        """Seconds."""
        return usual if self._random is None else self._random.choice((usual, *others))


def whole_run(script: Script) -> Callable[[int | None], None]:
    """The scenario of a whole run, with everything that must hold of one."""

    def play(order: int | None) -> None:
        config = replace(CONFIG, checkpoint=CheckpointConfig(every_s=script.every_s))
        Simulation(Plot(script, order), order, config, script.limit_s).play()

    return play


def scene(act: Callable[[Delays], Awaitable[None]]) -> Callable[[int | None], None]:
    """A scenario of its own, which is given the delays of the order."""

    def play(order: int | None) -> None:
        async def main() -> None:
            async with asyncio.timeout(LIMIT_S):
                await act(Delays(order))

        run_simulated(main, seed=order)

    return play
