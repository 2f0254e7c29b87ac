"""A publisher in a process of its own: says each number when the bus has acknowledged it.

python -m tests.actors.oona.faults.sender ADDRESS NAMESPACE FIRST COUNT
"""

import asyncio
import sys

from tests.actors.oona.faults.clients import one_topic, open_bus
from tests.actors.oona.faults.work import TOPIC, Work


async def main(address: str, namespace: str, first: str, count: str) -> None:
    bus = await open_bus(address, namespace, one_topic())
    house = asyncio.create_task(bus.run_housekeeping())
    for n in range(int(first), int(first) + int(count)):
        await bus.publish(TOPIC, Work(n), event_id=f"w{n}")
        print(n, flush=True)
    await bus.close()
    await house


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
