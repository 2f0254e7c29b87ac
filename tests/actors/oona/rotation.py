"""A participant of the tests of rotation: publishes on two topics, hears all participants, keeps account.

As a process of its own, until it is told to stop:

    python -m tests.actors.oona.rotation ADDRESS NAMESPACE NAME LIFE ACCOUNT
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Final, Literal, Self, TextIO

import msgspec
from msgspec.structs import replace

from actors.oona.policy import BusConfig, TopicPolicy
from actors.oona.redis.bus import RedisBus
from actors.oona.redis.frames import LeylineFrames
from actors.runtime.clock import LoopClock
from contracts import topics
from contracts.messages import AdaptationCommand, CommandType, FieldReport, FieldReportOutcome
from contracts.signing.keyring import Keyring
from tests.actors.oona.patience import PATIENCE_S, PATIENT

ROOT: Final = Path(__file__).parents[3]
NAMES: Final = ("ajani", "karn", "urza")
SAID: Final[Mapping[str, msgspec.Struct]] = {
    topics.ADAPTATION_COMMAND: AdaptationCommand("c", CommandType.PAUSE, 1, "tamiyo"),
    topics.FIELD_REPORT: FieldReport("r", "c", "t", "s", "b", FieldReportOutcome.SUCCESS, {}, 1, 1, "v1"),
}
"""One topic whose messages act, and one whose messages inform."""
POLICIES: Final = dict.fromkeys(SAID, TopicPolicy(groups=NAMES, capacity=10_000, stall_after_s=None))
CONFIG: Final = BusConfig(tick_s=0.02)
OPTIONS: Final = replace(PATIENT, retry_s=0.05)
PAUSE_S: Final = 0.002
"""Between two messages of one participant."""


class Account:
    """What a participant said and heard, line by line, over all of its lives."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def opened(self) -> TextIO:
        return self.path.open("a", encoding="utf-8", buffering=1)

    def lines(self, kind: Literal["published", "heard", "refused"]) -> Counter[str]:
        told = (line.split(" ", 1) for line in self.path.read_text(encoding="utf-8").splitlines())
        return Counter(what for which, what in told if which == kind)


class Participant:
    """One life of one participant; an operator ends it with `hush` and `leave`."""

    def __init__(self, bus: RedisBus, name: str, life: str, account: Account) -> None:
        self._bus = bus
        self._name = name
        self._life = life
        self._told = account.opened()
        self._subscription = bus.subscribe(list(SAID), name, f"{name}-{life}")
        self._speaks = True
        self._speaker = asyncio.create_task(self._speak())
        self._others = [asyncio.create_task(self._hear()), asyncio.create_task(bus.run_housekeeping())]

    @classmethod
    async def born(
        cls, address: str, namespace: str, name: str, life: str, account: Account, environ: Mapping[str, str]
    ) -> Self:
        clock = LoopClock(asyncio.get_running_loop())
        frames = LeylineFrames(Keyring.from_environment(environ), name, clock)
        bus = await RedisBus.open(address, namespace, POLICIES, clock, frames, CONFIG, OPTIONS)
        return cls(bus, name, life, account)

    async def _speak(self) -> None:
        for number in count():
            if not self._speaks:
                return
            for topic, message in SAID.items():
                event_id = f"{self._name}-{self._life}-{topic}-{number}"
                await self._bus.publish(topic, message, event_id=event_id)
                self._told.write(f"published {event_id}\n")
            await asyncio.sleep(PAUSE_S)

    async def _hear(self) -> None:
        while True:
            for delivery in await self._subscription.receive(64):
                self._told.write(f"heard {delivery.event_id}\n")
                delivery.ack()

    async def hush(self) -> None:
        """Say no more, and hear the others until all have heard what was said here."""
        self._speaks = False
        await self._speaker
        async with asyncio.timeout(PATIENCE_S):
            while self._bus.post.outbox.retained:
                assert not any(task.done() for task in self._others)
                await asyncio.sleep(PAUSE_S)

    async def leave(self) -> None:
        for task in self._others:
            task.cancel()
        await asyncio.wait(self._others)
        await self._bus.flush()
        link = self._bus.metrics().link
        assert link is not None
        for reason, times in link.refused.items():
            self._told.write(f"refused {times} {reason}\n")
        await self._bus.close()
        self._told.close()


async def main(words: Sequence[str]) -> None:
    """Speaks until the first SIGTERM, and then says that it was heard; leaves with the second."""
    address, namespace, name, life, path = words
    signals: asyncio.Queue[None] = asyncio.Queue()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signals.put_nowait, None)
    made = await Participant.born(address, namespace, name, life, Account(Path(path)), os.environ)
    print("speaks", flush=True)
    await signals.get()
    await made.hush()
    print("heard", flush=True)
    await signals.get()
    await made.leave()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
