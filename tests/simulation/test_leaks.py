"""No clock, chance, thread or accidental order gets into the packages but where it is stated here."""

from functools import cache
from pathlib import Path

import pytest

from tests.simulation.leaks import Leak, leaks

ROOT = Path(__file__).parents[2]
PACKAGES = ("contracts", "esper", "actors")
MEASURES = "measures what something took; no decision rests on it"
PASSED_IN = "the default of what is passed in"
STATE = "keeps and gives back the interpreter's own stream"
ITS_OWN = "a process or a thread of its own, which no simulation contains"
IN_ANY_ORDER = "what is done for each does not depend on the others"
SECRET = "has to be unpredictable"
STATED: dict[tuple[str, str], str] = {
    ("actors/display.py", "clock"): PASSED_IN,
    ("actors/drill.py", "clock"): PASSED_IN,
    ("actors/lane.py", "thread"): "the real lane; a simulation hands in its own",
    ("actors/observer.py", "chance"): SECRET,
    ("actors/oona/redis/bus.py", "chance"): SECRET,
    ("actors/oona/redis/frames.py", "chance"): SECRET,
    ("actors/oona/redis/house.py", "set order"): IN_ANY_ORDER,
    ("actors/perform.py", "clock"): "wires the real clocks",
    ("actors/printer.py", "thread"): ITS_OWN,
    ("actors/runtime/clock.py", "clock"): "the clock that is passed in",
    ("actors/runtime/governor.py", "clock"): PASSED_IN,
    ("actors/runtime/own_loop.py", "thread"): ITS_OWN,
    ("actors/runtime/threads.py", "thread"): "the real threads; a simulation hands in its own",
    ("actors/scribe.py", "thread"): "the real scribe; a simulation hands in one in memory",
    ("actors/steering.py", "set order"): IN_ANY_ORDER,
    ("actors/tezzeret/child.py", "folder order"): IN_ANY_ORDER,
    ("actors/tezzeret/confinement.py", "folder order"): IN_ANY_ORDER,
    ("actors/tezzeret/sandbox.py", "clock"): PASSED_IN,
    ("actors/tezzeret/scratch.py", "folder order"): IN_ANY_ORDER,
    ("actors/tezzeret/smith.py", "clock"): PASSED_IN,
    ("actors/tezzeret/smith.py", "thread"): ITS_OWN,
    ("actors/watchdog.py", "clock"): "real beats for a real process",
    ("actors/watchman.py", "clock"): ITS_OWN,
    ("contracts/leyline/parity.py", "set order"): "finds differences, which its caller sorts",
    ("contracts/leyline/scan.py", "set order"): IN_ANY_ORDER,
    ("esper/checkpoint/files.py", "folder order"): "one of the file operations; its callers sort",
    ("esper/drill/trial.py", "clock"): PASSED_IN,
    ("esper/karn/blueprints/shared_state.py", "thread"): "a blueprint that misbehaves on purpose",
    ("esper/folder.py", "folder order"): IN_ANY_ORDER,
    ("esper/kasmina/guard.py", "clock"): PASSED_IN,
    ("esper/kasmina/stream.py", "chance"): STATE,
    ("esper/run.py", "clock"): "a run folder's name has the time",
    ("esper/session.py", "clock"): "wires the real clocks; a run folder's name has the time",
    ("esper/tezzeret/forge.py", "clock"): MEASURES,
    ("esper/tezzeret/timing.py", "clock"): MEASURES,
    ("esper/tolaria/roll.py", "set order"): "what is wrong is listed in any order",
    ("esper/tolaria/streams.py", "chance"): STATE,
    ("esper/tolaria/teacher.py", "set order"): IN_ANY_ORDER,
    ("esper/tolaria/trainer.py", "clock"): PASSED_IN,
    ("esper/urza/local.py", "folder order"): IN_ANY_ORDER,
    ("esper/urza/names.py", "chance"): "names that two processes must not share",
    ("esper/urza/presence.py", "chance"): "names that two processes must not share",
    ("esper/urza/presence.py", "clock"): "waits for another process",
    ("esper/urza/seal.py", "chance"): SECRET,
    ("esper/urza/upkeep.py", "set order"): IN_ANY_ORDER,
    ("esper/workloads/mnist1d.py", "chance"): STATE,
}
"""By file and kind of leak: why it is sound there."""


@cache
def places() -> dict[tuple[str, str], list[Leak]]:
    """All leaks of the packages, by file and kind."""
    found: dict[tuple[str, str], list[Leak]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for leak in leaks(path.read_text(encoding="utf-8")):
                found.setdefault((str(path.relative_to(ROOT)), leak.kind), []).append(leak)
    return found


def test_nothing_leaks_but_where_it_is_stated() -> None:
    unstated = {where: found for where, found in places().items() if where not in STATED}
    told = [
        f"{file}:{leak.line}: {kind}: {leak.text}" for (file, kind), all_ in unstated.items() for leak in all_
    ]
    assert not told, "pass it in, sort it, keep it, or state why it is sound here:\n" + "\n".join(told)


def test_what_is_stated_is_there() -> None:
    assert sorted(set(STATED) - set(places())) == [], "these places are sound now: take them off the list"


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("clock", "import time\nnow = time.monotonic()"),
        ("clock", "import time as t\nstart(t.perf_counter)"),
        ("clock", "from time import time_ns\nat = time_ns()"),
        ("clock", "from datetime import datetime\ndatetime.now()"),
        ("clock", "import datetime\ndatetime.datetime.now()"),
        ("chance", "import random\nrandom.shuffle(rows)"),
        ("chance", "from random import choice\nchoice(rows)"),
        ("chance", "from uuid import uuid4\nname = uuid4()"),
        ("chance", "import os\nos.urandom(8)"),
        ("thread", "import asyncio\nasync def f():\n    await asyncio.to_thread(work)"),
        ("thread", "loop.run_in_executor(None, work)"),
        ("thread", "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor()"),
        ("set order", "for name in {'a', 'b'}:\n    print(name)"),
        ("set order", "names = set(rows)\nfor name in names:\n    print(name)"),
        ("set order", "def f(names: set[str]) -> list[str]:\n    return list(names)"),
        ("set order", "class A:\n    def __init__(self):\n        self._on: set[str] = set()\n\n"
                      "    def f(self):\n        return [one for one in self._on]"),
        ("set order", "def f() -> frozenset[str]: ...\n','.join(f())"),
        ("set order", "for key in old.keys() - new.keys():\n    print(key)"),
        ("set order", "def f(names: set[str]):\n    for name in names | {'a'}:\n        yield name"),
        ("folder order", "for file in folder.iterdir():\n    print(file)"),
        ("folder order", "import os\nfirst = os.listdir('.')[0]"),
        ("hash", "bucket = hash(name) % 8"),
        ("lost task", "import asyncio\nasync def f():\n    asyncio.create_task(work())"),
    ],
)  # fmt: skip
def test_a_leak_is_found(kind: str, line: str) -> None:
    assert [leak.kind for leak in leaks(line)] == [kind]


@pytest.mark.parametrize(
    "line",
    [
        "import random\nstream = random.Random(7)\nstream.shuffle(rows)",
        "def f(clock):\n    return clock.monotonic()",
        "names = set(rows)\nfor name in sorted(names):\n    print(name)",
        "names = {'a', 'b'}\nfound = any(name in text for name in names)",
        "names = set(rows)\nother = {name.lower() for name in names}",
        "def f(names: set[str]) -> int:\n    return len(list(names))",
        "for name in {'a': 1, 'b': 2}:\n    print(name)",
        "for file in sorted(folder.glob('*.py')):\n    print(file)",
        "import asyncio\nasync def f():\n    task = asyncio.create_task(work())\n    await task",
        "async def f(group):\n    group.create_task(work())",
        "class A:\n    def __hash__(self):\n        return 7",
    ],
)
def test_what_is_sound_is_left_alone(line: str) -> None:
    assert leaks(line) == []
