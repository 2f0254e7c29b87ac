"""A consumer in a process of its own. What it does is a row of an SQLite file; it dies where it is told to.

    python -m tests.actors.oona.faults.worker ADDRESS NAMESPACE SIGNED DATABASE NAME DIE_AT MOMENT

SIGNED is 1 or 0. It kills itself at the DIE_AT-th message (0: never), MOMENT `before` or `after` its work.
"""

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path

from actors.oona.bus import Delivery
from tests.actors.oona.faults.clients import one_topic, open_bus
from tests.actors.oona.faults.work import GROUP, TOPIC, Work

ACK_DEADLINE_S = 0.3
TOPICS = one_topic(ack_deadline_s=ACK_DEADLINE_S)


def database(path: Path) -> sqlite3.Connection:
    """Effects by event id, so that a repeat has none; every delivery, and every handling to its end."""
    store = sqlite3.connect(path, isolation_level=None)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("PRAGMA synchronous=OFF")  # processes die here, not the machine
    store.execute("CREATE TABLE IF NOT EXISTS effects (event_id TEXT PRIMARY KEY, tries INTEGER NOT NULL)")
    store.execute("CREATE TABLE IF NOT EXISTS deliveries (event_id TEXT, n INTEGER)")
    store.execute("CREATE TABLE IF NOT EXISTS done (event_id TEXT, consumer TEXT)")
    return store


class Worker:
    """Works on one message after the other until it dies."""

    def __init__(self, store: sqlite3.Connection, name: str, die_at: int, moment: str) -> None:
        self._store = store
        self._name = name
        self._left = die_at
        self._moment = moment

    def handle(self, delivery: Delivery) -> None:
        work = delivery.message
        assert isinstance(work, Work)
        self._left -= 1
        self._store.execute("INSERT INTO deliveries VALUES (?, ?)", (delivery.event_id, work.n))
        self._perhaps_die("before")
        self._store.execute(
            "INSERT INTO effects VALUES (?, 1) ON CONFLICT DO UPDATE SET tries = tries + 1",
            (delivery.event_id,),
        )
        self._perhaps_die("after")
        self._store.execute("INSERT INTO done VALUES (?, ?)", (delivery.event_id, self._name))
        delivery.ack()

    def _perhaps_die(self, moment: str) -> None:
        if self._left == 0 and moment == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(
    address: str, namespace: str, signed: str, path: str, name: str, die_at: str, moment: str
) -> None:
    worker = Worker(database(Path(path)), name, int(die_at), moment)
    bus = await open_bus(address, namespace, TOPICS, signed=bool(int(signed)))
    house = asyncio.create_task(bus.run_housekeeping())
    subscription = bus.subscribe(TOPIC, GROUP, name)
    print("ready", flush=True)
    while not house.done():
        for delivery in await subscription.receive(8):
            worker.handle(delivery)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
