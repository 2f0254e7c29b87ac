"""What goes on beside an actor's messages: small tasks that end with the actor."""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any


class Errands:
    """One actor's errands, begun in order."""

    def __init__(self, most: float = math.inf) -> None:
        """`most` may be under way at a time; without it, each has to have a deadline of its own."""
        self._most = most
        self._tasks: dict[asyncio.Task[None], None] = {}

    def __contains__(self, task: object) -> bool:
        """Whether it is still under way."""
        return task in self._tasks

    def run(self, errand: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Let it go on; None, and nothing happens, if too many do already."""
        if len(self._tasks) >= self._most:
            errand.close()
            return None
        task = asyncio.get_running_loop().create_task(errand)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    async def end(self, wait_s: float = 0.0) -> None:
        """Wait so long for those that are under way, then cancel them."""
        try:
            if self._tasks and wait_s:
                await asyncio.wait(self._tasks, timeout=wait_s)
        finally:  # also where there is no time left to wait
            for task in self._tasks:
                task.cancel()
