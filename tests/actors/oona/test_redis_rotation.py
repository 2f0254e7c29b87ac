"""The README's three steps change the secret while messages flow over a real server, and none is lost."""

import asyncio
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from contracts.signing.keyring import SECRET, SECRETS
from tests.actors.oona.patience import PATIENCE_S
from tests.actors.oona.redis_server import RedisServer
from tests.actors.oona.rotation import NAMES, ROOT, SAID, Account, Participant
from tests.contracts.signing.rig import steps_of_the_readme

OLD, NEW = "correct-horse-battery", "staple-of-another-kind"
BEFORE: Final = {SECRET: OLD}
STEPS: Final = [{SECRETS: value} for value in steps_of_the_readme(OLD, NEW)]


def accounts(folder: Path) -> dict[str, Account]:
    return {name: Account(folder / f"{name}.txt") for name in NAMES}


def check(told: Mapping[str, Account]) -> int:
    """Everyone has heard each published message once, and refused none. Returns how many there were."""
    published: Counter[str] = Counter()
    for account in told.values():
        published += account.lines("published")
    for name, account in told.items():
        heard = account.lines("heard")
        assert not published - heard, f"{name} lost {sorted(published - heard)[:5]}"
        assert not heard - published, f"{name} heard {sorted(heard - published)[:5]} too often"
        assert account.lines("refused") == {}, name
    for name in NAMES:
        for topic in SAID:
            lives = {each.split("-")[1] for each in published if each.startswith(name) and topic in each}
            assert lives == set("0123"), f"{name} spoke on {topic} in each of its lives"
    return published.total()


async def until_more_is_said(told: Mapping[str, Account], more: int) -> None:
    """Messages flow: everyone who is there has said some more."""
    sizes = {account: account.path.stat().st_size + more for account in told.values()}
    async with asyncio.timeout(PATIENCE_S):
        while any(  # noqa: ASYNC110 - other processes write there
            account.path.stat().st_size < size for account, size in sizes.items()
        ):
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("seed", [1])
def test_the_secret_changes_while_messages_flow(redis_server: RedisServer, tmp_path: Path, seed: int) -> None:
    told, dice = accounts(tmp_path), random.Random(seed)

    async def born(name: str, life: int, environ: Mapping[str, str]) -> Participant:
        return await Participant.born(
            redis_server.address, f"rotation {seed}", name, str(life), told[name], environ
        )

    async def scenario() -> None:
        there = {name: await born(name, 0, BEFORE) for name in NAMES}
        for step, environ in enumerate(STEPS, 1):
            for name in dice.sample(NAMES, len(NAMES)):
                await there[name].hush()
                await there[name].leave()
                others = {each: account for each, account in told.items() if each != name}
                await until_more_is_said(others, 500)
                there[name] = await born(name, step, environ)
        await until_more_is_said(told, 500)
        await asyncio.gather(*(each.hush() for each in there.values()))
        for each in there.values():
            await each.leave()

    asyncio.run(scenario())
    check(told)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_secret_changes_while_three_processes_talk(
    redis_server: RedisServer, tmp_path: Path, seed: int
) -> None:
    told, dice = accounts(tmp_path), random.Random(seed)

    async def born(name: str, life: int, environ: Mapping[str, str]) -> Process:
        made = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.actors.oona.rotation",
            redis_server.address, f"rotation of processes {seed}", name, str(life), str(told[name].path),
            cwd=ROOT, stdout=PIPE, env={"PATH": "/usr/bin:/bin", **environ},
        )  # fmt: skip
        await says(made, "speaks")
        return made

    async def scenario() -> None:
        there = {name: await born(name, 0, BEFORE) for name in NAMES}
        for step, environ in enumerate(STEPS, 1):
            for name in dice.sample(NAMES, len(NAMES)):
                await end(there[name])
                there[name] = await born(name, step, environ)
                await until_more_is_said(told, 20_000)
        for each in there.values():
            each.terminate()
        for each in there.values():
            await says(each, "heard")
        for each in there.values():
            each.terminate()
            assert await each.wait() == 0

    asyncio.run(scenario())
    said = check(told)
    print(f"seed {seed}: published {said}, delivered {3 * said} to three groups, lost 0, refused 0")


async def end(made: Process) -> None:
    made.terminate()
    await says(made, "heard")
    made.terminate()
    assert await made.wait() == 0


async def says(made: Process, word: str) -> None:
    assert made.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert (await made.stdout.readline()).decode().strip() == word
