"""How soon a run trains: from its first line to its first epoch, with an empty kernel store and a full one.

Each start is `python -m esper.run` in a process of its own, watched from outside: its first line as it comes
out of the pipe, and its first epoch by the moment at which the log says that it was over, which it can't be
before it began. In turn with an empty store, for which a compiler is started beside it, and with one that has
what the demo's sites can use. `requests` is how many kernels were asked for in all such starts.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from bench.kernels import demo, likely_specs
from bench.measure import Budget, Size, percentiles, ratio_of
from contracts import topics
from contracts.kernels import Strategy
from esper.journal.schema import EVENTS
from esper.karn.catalogue import CATALOGUE
from esper.tezzeret.forge import forge
from esper.urza.library import Library

BUDGETS = (Budget("cold.max_ms", 5_000.0),)
ROUNDS = {Size.SMALL: 1, Size.FULL: 7}
EPOCHS = "2"
"""The last one is followed by no boundary, whose message says when an epoch was over."""
KERNELS = {Size.SMALL: 1, Size.FULL: 64}
"""At most so many of what the demo's sites can use are in the full store."""


class Start(NamedTuple):
    """One run's."""

    took_s: float
    """From its first line to the end of its first epoch."""
    requests: int


def run(size: Size) -> dict[str, object]:
    """Milliseconds of each kind of start, and how they compare."""
    torch.set_num_threads(1)
    cold: list[Start] = []
    warm: list[Start] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        full = folder / "full"
        _fill(full, KERNELS[size])
        for turn in range(ROUNDS[size]):
            kinds = [(cold, folder / f"empty-{turn}"), (warm, full)]
            for starts, store in kinds if turn % 2 == 0 else reversed(kinds):
                starts.append(_start(folder / f"runs-{turn}-{store.name}", store))
    ratio = ratio_of([one.took_s for one in cold], [one.took_s for one in warm])
    return {
        "cold": _figures(cold),
        "warm": _figures(warm),
        "cold_to_warm": {"ratio": ratio.median, "spread": ratio.spread},
    }


def _figures(starts: Sequence[Start]) -> dict[str, object]:
    figures = percentiles([one.took_s for one in starts]).figures("ms")
    return {**figures, "requests": sum(one.requests for one in starts)}


def _fill(store: Path, most: int) -> None:
    """Put into it what is likely to be germinated first."""
    with Library(store) as library:
        for spec in likely_specs(demo())[:most]:
            made = forge(spec, Strategy.STANDARD, CATALOGUE)
            library.publish(spec, made.certificate, made.weights)


def _start(out: Path, store: Path) -> Start:
    command = [sys.executable, "-m", "esper.run", "--epochs", EPOCHS, "--out", str(out)]
    with subprocess.Popen(
        [*command, "--set", f"kernels.store={store}"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        began_ns = time.time_ns()
        rest = process.stdout.read()
    assert line
    assert process.returncode == 0, rest
    (folder,) = out.iterdir()
    events = [json.loads(one) for one in (folder / EVENTS).read_text().splitlines()]
    over_ns = next(one["time_ns"] for one in events if one["topic"] == topics.SYSTEM_STATE)
    requests = sum(one["topic"] == topics.KERNEL_REQUEST for one in events)
    return Start((over_ns - began_ns) / 1e9, requests)
