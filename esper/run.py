"""`python -m esper.run`: grow a network while it trains, and leave a folder that says what came of it.

Exit codes: 0 done, 2 bad usage or configuration or a folder that can't be written, 3 halted by an
emergency, 130 interrupted.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from contracts.config import Config
from contracts.view import RunFacts
from esper.errors import BadSetup, CannotWrite
from esper.folder import check_folder
from esper.settings import ConfigError, load

DONE, BAD_USAGE, HALTED, INTERRUPTED = 0, 2, 3, 130

WORKLOADS = ("mnist1d",)
"""The names in `esper.workloads.registry`, which loads torch."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    arguments = parser().parse_args(argv)
    try:
        config = configuration(arguments)
        check_folder(Path(config.run.out))
    except ConfigError as error:
        return refuse(error.problems)
    except BadSetup as error:
        return refuse([str(error)])
    return start(config, arguments)


def start(config: Config, arguments: argparse.Namespace) -> int:
    """Show the first line at once, then load torch and go."""
    from actors.display import make_display

    display = make_display(json=arguments.json, quiet=arguments.quiet, out=sys.stdout)
    with leaving_at_once(display.close):
        display.start(facts_of(config))
        try:
            from esper.session import run

            ended = run(config, display)
        except (BadSetup, CannotWrite) as error:
            display.close()
            return refuse([str(error)])
        finally:
            display.close()
    return {"finished": DONE, "halted": HALTED, "interrupted": INTERRUPTED}[ended.kind]


@contextmanager
def leaving_at_once(close: Callable[[], object]) -> Iterator[None]:
    """A stop signal ends the process, unless someone inside knows better: `close` is called, one line said.

    An exception would not do: raised while torch loads or while a thread is inside it, it may be
    swallowed, or bring the interpreter down.
    """

    def leave(number: int, _: FrameType | None) -> NoReturn:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        close()
        with suppress(OSError):
            os.write(2, b"esper: interrupted before the run was complete\n")
        os._exit(128 + number)

    before: dict[signal.Signals, Any] = {}  # what signal.signal gives back and takes
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def configuration(arguments: argparse.Namespace) -> Config:
    """The configuration that file and options result in.

    Raises:
        ConfigError: with every problem found.
    """
    values = {
        "run.workload": arguments.workload,
        "run.epochs": arguments.epochs,
        "run.gflop": arguments.gflop,
        "run.seed": arguments.seed,
        "run.policy": arguments.policy,
        "run.bus": arguments.bus,
        "run.out": arguments.out,
        "run.compare": arguments.compare,
        "serve.enabled": arguments.serve,
    }
    file = Path(arguments.config) if arguments.config is not None else None
    config = load(file, arguments.set, values)
    if config.run.workload not in WORKLOADS:
        raise ConfigError(
            [f"there is no workload {config.run.workload!r}; there are: {', '.join(WORKLOADS)}"]
        )
    return config


def facts_of(config: Config) -> RunFacts:
    """What can be shown before torch is loaded."""
    run = config.run
    return RunFacts(
        workload=run.workload,
        policy=run.policy,
        seed=run.seed,
        out=run.out,
        epochs=run.epochs,
        budget_flops=round(run.gflop * 1e9) if run.gflop is not None else None,
        bus=run.bus,
        boundary_budget_ms=float(config.budgets.epoch_boundary_ms),
    )


def refuse(problems: Sequence[str]) -> int:
    """One line a problem, and the exit code for it."""
    for problem in problems:
        print(f"esper: {problem}", file=sys.stderr)
    return BAD_USAGE


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(refuse([f"{message}; --help lists the options"]))


def _some(text: str) -> str:
    """A text that says something."""
    if not text.strip():
        raise argparse.ArgumentTypeError("takes a name, not an empty text")
    return text


def parser() -> argparse.ArgumentParser:
    """The options; every default is the configuration's own."""
    new = _Parser(
        prog="python -m esper.run",
        description="Grow a network while it trains: graft new modules where they pay, take out what hurts.",
        epilog="Exit codes: 0 done, 2 bad usage or configuration or a folder that can't be written, "
        "3 halted by an emergency, 130 interrupted.",
        allow_abbrev=False,
    )
    new.add_argument("--workload", type=_some, metavar="NAME", help="what to train (default: mnist1d)")
    length = new.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, metavar="N", help="length in epochs of train.epoch_steps steps")
    length.add_argument(
        "--gflop", type=float, metavar="N", help="length in training GFLOP, growth's own included"
    )
    new.add_argument(
        "--seed", type=int, metavar="N", help="initial weights, order of the data, growth (default: 0)"
    )
    new.add_argument("--policy", metavar="NAME", help="who decides: none, random or heuristic (default)")
    new.add_argument("--bus", metavar="NAME", help="where messages travel: memory (default)")
    new.add_argument(
        "--out",
        type=_some,
        metavar="DIR",
        help="folder under which the run's own folder is made (default: runs)",
    )
    new.add_argument("--config", type=_some, metavar="FILE", help="a TOML file of settings")
    new.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="one setting; repeatable"
    )
    new.add_argument(
        "--compare",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="afterwards train the same host ungrown at equal training FLOPs",
    )
    new.add_argument(
        "--serve",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="serve metrics for Prometheus on loopback while the run lasts",
    )
    new.add_argument("--json", action="store_true", help="print one JSON object a line, for machines")
    new.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return new


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # outside of a run Ctrl-C needs no words
    code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # there is nothing left to interrupt
    sys.exit(code)
