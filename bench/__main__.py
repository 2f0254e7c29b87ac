"""`python -m bench [NAME …]`: runs the named benchmarks, prints their figures, and checks the budgets."""

import argparse
import importlib
import json
import platform
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from bench.measure import Budget, Size
from esper.processors import processors
from esper.versions import versions

NAMES: dict[str, str] = {
    "mailbox": "tell and ask through a mailbox, against the floor, asyncio.Queue and anyio streams",
    "governor": "how much of its idle speed a training thread keeps beside a saturated event loop",
    "bus": "publish, deliver and acknowledge on the memory bus",
    "redis": "publish, deliver and acknowledge on the Redis bus, against the bare server",
    "signing": "sign a frame and admit one, against a bare HMAC of the same bytes",
    "start": "from a run's first line to its first epoch, with an empty kernel store and with a full one",
    "kernels": "query the catalogue, fetch a kernel, graft it, compile it",
    "codec": "the loop's messages to bytes and back, against protobuf written by hand",
    "boundary": "the pause between two epochs of a real run, part by part",
    "overhead": "a run with dormant sites, and with one seed, against the same loop in plain PyTorch",
    "loop_lag": "how late the event loop wakes while a network trains",
    "watchdog": "how soon a process of its own sees an event loop that stands still",
    "emergency": "from an emergency signal to frozen training, with every queue and mailbox full",
    "resume": "from a run's folder to its next decision, and whether its numbers are the same",
    "rollback": "back to an earlier boundary, from memory and from disk, by the size of the network",
    "checkpoint": "copy, write durably and load a network and its optimizer, against torch.save and load",
}


class Benchmark(Protocol):
    """What a module of this package offers."""

    BUDGETS: tuple[Budget, ...]

    def run(self, size: Size) -> dict[str, object]: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run benchmarks.

    0, or 2 on bad usage, or 1 if a benchmark raised or `--check` found a broken budget. A benchmark that
    raises counts as broken, and the others still run.
    """
    arguments = _parser().parse_args(argv)
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        print(
            f"bench: there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}",
            file=sys.stderr,
        )
        return 2
    results: dict[str, object] = {"versions": versions(), "machine": machine()}
    file = Path(arguments.json) if arguments.json else None
    try:
        _write(results, file)
    except OSError as error:
        print(f"bench: --json can't be written: {error}; nothing was run", file=sys.stderr)
        return 2
    over: list[str] = []
    raised: list[str] = []
    for name in arguments.names or NAMES:
        print(f"{name}: {NAMES[name]}", flush=True)
        try:
            results[name], lines = _measured(name, Size(arguments.size))
        except Exception as error:  # noqa: BLE001 - whatever one benchmark raises, the others still run
            traceback.print_exc()
            results[name] = {"error": f"{type(error).__name__}: {error}"}
            raised.append(name)
        else:
            over += lines
        _write(results, file)
    for name in raised:
        print(f"raised: {name}")
    for line in over:
        print(f"over budget: {line}")
    broken = len(raised) + len(over)
    if arguments.check:
        kept = "all budgets hold" if arguments.size == Size.FULL else "all of them ran; no budget was checked"
        print(f"{broken} broken" if broken else kept)
    return 1 if raised or (arguments.check and over) else 0


def _measured(name: str, size: Size) -> tuple[dict[str, object], list[str]]:
    """The figures of one benchmark, printed, and a line for each budget that they break."""
    benchmark = cast(Benchmark, importlib.import_module(f"bench.{name}"))
    result = benchmark.run(size)
    for path, value in figures(result):
        print(f"  {path:44} {value:,.4g}" if isinstance(value, float) else f"  {path:44} {value}")
    if size is not Size.FULL:
        print("  (budgets are for the full size: none is checked)")
        return result, []
    return result, [f"{name}.{line}" for line in broken_budgets(result, benchmark.BUDGETS)]


def _write(results: Mapping[str, object], file: Path | None) -> None:
    """Write what there is so far, if a file is wanted."""
    if file is not None:
        file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def figures(result: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every figure of a result with its dotted path."""
    for key, value in result.items():
        if isinstance(value, Mapping):
            yield from figures(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def broken_budgets(result: Mapping[str, object], budgets: Sequence[Budget]) -> list[str]:
    """One line for each budget that a figure breaks; a figure that is missing breaks its budget."""
    found = dict(figures(result))
    lines = []
    for budget in budgets:
        value = found.get(budget.figure)
        if not isinstance(value, int | float) or not budget.holds(float(value)):
            lines.append(
                f"{budget.figure} is {value}; it should be {budget.sense.replace('_', ' ')} {budget.limit:g}"
            )
    return lines


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cpus": processors(),
        "architecture": platform.machine(),
        "system": platform.system(),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which of: {', '.join(NAMES)} (default: all)"
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE as one object")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a budget of the full size is broken as well"
    )
    parser.add_argument(
        "--size", choices=[size.value for size in Size], default=Size.FULL.value, help="how much to do"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
