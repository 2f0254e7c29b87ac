"""`python -m esper.run`: grow a network while it trains, and leave a folder that says what came of it.

`python -m esper.run observe` follows such a run live from another process. `python -m esper.run drill
blueprints` lets dangerous blueprints loose in runs of its own, to show that the safety checks hold.

Exit codes: 0 done, 1 a drill that was not contained, 2 bad usage or configuration or a folder that can't
be written, 3 halted by an emergency, 130 interrupted.
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

import msgspec

from contracts.address import MEMORY, Address, escaping_hint, masked
from contracts.config import Config
from contracts.view import RunFacts
from esper.errors import BadSetup, CannotWrite
from esper.folder import check_folder
from esper.settings import ConfigError, load

DONE, BAD_USAGE, HALTED, INTERRUPTED = 0, 2, 3, 130
OBSERVE, DRILL = "observe", "drill"

WORKLOADS = ("mnist1d",)
"""The names in `esper.workloads.registry`, which loads torch."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run, observe or drill what the command line asks for."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == OBSERVE:
        return observe(observing_parser().parse_args(words[1:]))
    if words and words[0] == DRILL:
        return drill(drilling_parser().parse_args(words[1:]))
    arguments = parser().parse_args(words)
    try:
        config = configuration(arguments)
        check_folder(Path(config.run.out))
        check_door(config.run.bus)
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


def check_door(address: str) -> None:
    """See that the bus can be had, before torch is loaded.

    Raises:
        BadSetup: it can't, or the secrets in the environment can't be used.
    """
    from actors.oona.open import try_door

    try_door(address, os.environ)


def observe(arguments: argparse.Namespace) -> int:
    """Follow a run until it ends, or show it once."""
    from actors.observer import NotObserved, observe_run
    from actors.oona.open import door
    from actors.retelling import make_retelling

    try:
        way = door(arguments.bus, os.environ, "esper-observer")
    except ValueError as error:
        return refuse([str(error)])
    retelling = make_retelling(json=arguments.json, quiet=arguments.quiet, out=sys.stdout)
    try:
        received = observe_run(way, arguments.run, retelling, once=arguments.once)
    except NotObserved as error:
        retelling.close()
        return refuse([str(error)])
    except KeyboardInterrupt:  # the second one
        return INTERRUPTED
    finally:
        retelling.close()
    return DONE if received is None else 128 + received


def drill(arguments: argparse.Namespace) -> int:
    """Hold the drills of dangerous and harmless blueprints."""
    from esper.drill.programme import drill_config, programme

    try:
        drills = programme([name for names in arguments.only for name in names])
        if arguments.json is not None and not Path(arguments.json).absolute().parent.is_dir():
            raise ValueError(f"--json {arguments.json}: its folder does not exist")
    except ValueError as error:
        return refuse([str(error)])
    from actors.drill import Ground
    from actors.drilling import hold_drills
    from actors.tezzeret.failures import SandboxFailed
    from esper.workloads.registry import find_workload

    workload = find_workload(WORKLOADS[0])
    ground = Ground(workload.task, workload.complete(drill_config(workload.name, arguments.seed)))
    file = Path(arguments.json) if arguments.json is not None else None
    try:
        return hold_drills(ground, drills, file, sys.stdout)
    except (SandboxFailed, ValueError, OSError) as error:
        return refuse([str(error)])


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
        bus=masked(run.bus),
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


def _redis(text: str) -> str:
    """The address of a bus that others can listen at."""
    try:
        address = msgspec.convert(text, Address)
    except msgspec.ValidationError:
        raise argparse.ArgumentTypeError(
            f"{masked(text)} is no address of a Redis; it takes redis://host:port, rediss://host:port or "
            f"unix:///path{escaping_hint(text)}"
        ) from None
    if address == MEMORY:
        raise argparse.ArgumentTypeError("a bus in memory can't be observed from outside; run with a Redis")
    return address


def observing_parser() -> argparse.ArgumentParser:
    """The options of `observe`."""
    new = _Parser(
        prog=f"python -m esper.run {OBSERVE}",
        description="Follow a run live from another process: metrics, events, the life of every seed.",
        epilog="Exit codes: 0 the run has ended (or was shown once), 2 bad usage, a server that can't be "
        "reached, no such run or messages that can't be believed, 130 interrupted. The run itself never "
        "waits for an observer.",
        allow_abbrev=False,
    )
    new.add_argument(
        "--bus", type=_redis, required=True, metavar="ADDRESS", help="the Redis that the run was given"
    )
    new.add_argument(
        "--run",
        type=_some,
        metavar="ID",
        help="which run, by its folder's name, path or the beginning of its name (default: the newest that "
        "lives; waits for one if there is none)",
    )
    new.add_argument("--once", action="store_true", help="show the run as it is now, and leave")
    new.add_argument("--json", action="store_true", help="print one JSON object a line: epochs and events")
    new.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return new


def drilling_parser() -> argparse.ArgumentParser:
    """The options of `drill`."""
    new = _Parser(
        prog=f"python -m esper.run {DRILL}",
        description="Let each of the eight dangerous blueprints loose in a real training run, and ten "
        "harmless ones beside them: which check catches it, within how many steps, and what becomes of the "
        "host.",
        epilog="Exit codes: 0 all dangerous ones contained and all harmless ones let through, 1 not so, "
        "2 bad usage or no quarantine to be had on this machine, 130 interrupted.",
        allow_abbrev=False,
    )
    new.add_argument("what", choices=("blueprints",), help="what is drilled")
    new.add_argument(
        "--only", action="append", nargs="+", default=[], metavar="ID", help="these blueprints alone"
    )
    new.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the runs (default: 0)")
    new.add_argument("--json", type=_some, metavar="FILE", help="write the report there as well")
    return new


def parser() -> argparse.ArgumentParser:
    """The options; every default is the configuration's own."""
    new = _Parser(
        prog="python -m esper.run",
        description="Grow a network while it trains: graft new modules where they pay, take out what hurts.",
        epilog="Exit codes: 0 done, 2 bad usage or configuration, a bus that can't be reached or a folder "
        "that can't be written, 3 halted by an emergency, 130 interrupted. "
        f"`python -m esper.run {OBSERVE}` follows a run on a Redis from another process; "
        f"`python -m esper.run {DRILL} blueprints` shows that dangerous blueprints are contained.",
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
    new.add_argument(
        "--bus",
        metavar="ADDRESS",
        help="where messages travel: memory (default), or a Redis that others can listen at: "
        "redis://host:port, rediss://host:port or unix:///path. Messages are signed with the secrets in "
        "ESPER_LEYLINE_SECRET or ESPER_LEYLINE_SECRETS, if set",
    )
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
