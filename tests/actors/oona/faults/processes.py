"""Consumers and publishers in processes of their own, to be killed."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.actors.oona.patience import PATIENCE_S

ROOT: Final = Path(__file__).parents[4]


@asynccontextmanager
async def process(program: str, *words: object) -> AsyncIterator[Process]:
    """`python -m` of a module beside this one; killed at the end if it still runs."""
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.actors.oona.faults.{program}", *map(str, words), cwd=ROOT, stdout=PIPE
    )
    try:
        yield made
    finally:
        if made.returncode is None:
            made.kill()
        await made.communicate()


async def said(made: Process) -> str:
    """Its next line; fails when it ended instead."""
    assert made.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        line = (await made.stdout.readline()).decode().strip()
    assert line, f"the process ended with {await made.wait()}"
    return line
