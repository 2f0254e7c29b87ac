"""What a planted race is: a scenario on the real runtime, with its bug or without, and its outcome."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from actors.runtime import Actor, ActorRef, ActorSystem, InlineThreads, LoopClock, handles
from actors.runtime.simulation import Stuck, run_simulated
from tests.simulation.trace import Violation

LIMIT_S = 60.0
"""Virtual seconds after which a scenario that has not ended never will."""


@dataclass(frozen=True)
class Race:
    """A scenario; `play(True)` has the bug. The checker in it looks at outcomes alone."""

    name: str
    bug: str
    """What is wrong in the planted version, in one sentence."""
    play: Callable[[bool], Awaitable[None]]
    seed: int
    """The first seed whose order brings the bug out."""

    def breaks(self, seed: int | None, *, planted: bool = True) -> str:
        """What went wrong in this order of steps (None: first in, first out); empty if nothing did."""

        async def main() -> None:
            async with asyncio.timeout(LIMIT_S):
                await self.play(planted)

        logging.disable(logging.CRITICAL)  # some bugs make an actor fail, which is said at length
        try:
            run_simulated(main, seed=seed)
        except (Violation, Stuck, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            logging.disable(logging.NOTSET)
        return ""


class Carry(msgspec.Struct, frozen=True):
    """Something that takes one step more to arrive: by another connection, a retry, a relay."""

    deliver: Callable[[], object]


class Relay(Actor[Carry]):
    """Hands over what it is given."""

    @handles
    async def on_carry(self, carry: Carry) -> None:
        carry.deliver()


class Scene:
    """A system of actors and a relay among them."""

    def __init__(self) -> None:
        clock = LoopClock(asyncio.get_running_loop(), wall_ns=0)
        self.system = ActorSystem(clock, random.Random(0), threads=InlineThreads())
        self._relay: ActorRef[Carry] = self.system.spawn("relay", Relay)

    def later(self, deliver: Callable[[], object]) -> None:
        """Have `deliver` called one step later than a message of one's own would arrive."""
        self._relay.tell_nowait(Carry(deliver))


@asynccontextmanager
async def on_stage(scene: Scene) -> AsyncIterator[None]:
    """The scene's actors live; at the end all their messages are handled."""
    async with scene.system:
        await asyncio.sleep(0.01)
        yield
        await asyncio.sleep(1.0)


async def hop() -> None:
    """Something short that has to be waited for: a digest in a thread, a look at a store."""
    await asyncio.sleep(0)
