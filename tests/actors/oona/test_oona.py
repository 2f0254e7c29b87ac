"""Oona the actor: the bus's house is kept while she lives, also after a failure."""

import asyncio
import random

from actors.oona.memory import MemoryBus
from actors.oona.oona import Keep, Oona
from actors.oona.policy import TopicPolicy
from actors.runtime import ActorSystem, LoopClock, run_simulated
from tests.actors.oona.rig import Note

POLICY = TopicPolicy(groups=("g",), ack_deadline_s=2.0)


class Failing(MemoryBus):
    """Its first round of housekeeping fails."""

    rounds = 0

    async def keep_house(self) -> None:
        self.rounds += 1
        if self.rounds == 1:
            raise RuntimeError("the first round fails")
        await super().keep_house()


async def redelivered(kind: type[MemoryBus], oona: bool) -> tuple[MemoryBus, int]:
    """The bus, and the attempt at which its one message is after its first deadline; 0 if it did not come."""
    clock = LoopClock(asyncio.get_running_loop(), wall_ns=0)
    bus = kind({"t": POLICY}, clock)
    system = ActorSystem(clock, random.Random(1))
    if oona:
        system.spawn("oona", lambda: Oona(bus))
    async with system:
        async with bus.subscribe("t", "g", "c") as subscription:
            await bus.publish("t", Note(1))
            (first,) = await subscription.receive()
            await clock.sleep(4.0)  # the deadline, and the first backoff
            again = await subscription.receive(wait_s=0)
            first.ack()
        await bus.close()
    return bus, again[0].attempt if again else 0


def test_a_message_that_is_held_too_long_is_delivered_again_while_oona_lives() -> None:
    assert run_simulated(lambda: redelivered(MemoryBus, oona=True), seed=1)[1] == 2
    assert run_simulated(lambda: redelivered(MemoryBus, oona=False), seed=1)[1] == 0


def test_oona_goes_on_after_a_round_that_failed() -> None:
    bus, attempt = run_simulated(lambda: redelivered(Failing, oona=True), seed=1)
    assert isinstance(bus, Failing)
    assert bus.rounds > 20
    assert attempt == 2


def test_rounds_that_come_due_during_a_long_one_are_made_up_for_by_one() -> None:
    async def main() -> int:
        rounds = 0
        clock = LoopClock(asyncio.get_running_loop(), wall_ns=0)

        class Slow(MemoryBus):
            async def keep_house(self) -> None:
                nonlocal rounds
                rounds += 1
                if rounds == 1:
                    await clock.sleep(50 * self.tick_s)

        bus = Slow({"t": POLICY}, clock)
        system = ActorSystem(clock, random.Random(1))
        oona = system.spawn("oona", lambda: Oona(bus))
        async with system:
            await oona.tell(Keep())
            await clock.sleep(50.5 * bus.tick_s)
        return rounds

    assert run_simulated(main, seed=1) == 2
