"""`python -m esper.run`: grow a network while it trains, and leave a folder that says what came of it.

Exit codes: 0 done, 2 bad usage or configuration, 3 halted by an emergency, 130 interrupted.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from contracts.config import Config
from contracts.view import RunFacts
from esper.settings import ConfigError, load

DONE, BAD_USAGE, HALTED, INTERRUPTED = 0, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    arguments = parser().parse_args(argv)
    try:
        config = configuration(arguments)
        check_folder(Path(config.run.out))
    except ConfigError as error:
        return refuse(error.problems)
    return start(config, arguments)


def start(config: Config, arguments: argparse.Namespace) -> int:
    """Show the first line at once, then load torch and go."""
    from actors.display import make_display

    display = make_display(json=arguments.json, quiet=arguments.quiet, out=sys.stdout)
    display.start(facts_of(config))
    try:
        from esper.session import BadSetup, run

        ended = run(config, display)
    except BadSetup as error:
        display.close()
        return refuse([str(error)])
    except KeyboardInterrupt:
        display.close()
        print("interrupted before the run could write its report", file=sys.stderr)
        return INTERRUPTED
    finally:
        display.close()
    return {"finished": DONE, "halted": HALTED, "interrupted": INTERRUPTED}[ended.kind]


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
    return load(file, arguments.set, values)


def check_folder(out: Path) -> None:
    """See that a run's folder can be made under `out`; nothing is left there.

    Raises:
        ConfigError: it can't.
    """
    nearest = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise ConfigError([f"--out {out}: {nearest} is a file; give a folder"])
    try:
        with tempfile.TemporaryDirectory(dir=nearest, prefix=".esper-"):
            pass
    except OSError as error:
        raise ConfigError(
            [f"--out {out}: can't write into {nearest} ({error.strerror}); give another folder"]
        ) from None


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


def parser() -> argparse.ArgumentParser:
    """The options; every default is the configuration's own."""
    new = _Parser(
        prog="python -m esper.run",
        description="Grow a network while it trains: graft new modules where they pay, take out what hurts.",
        epilog="Exit codes: 0 done, 2 bad usage or configuration, 3 halted by an emergency, 130 interrupted.",
        allow_abbrev=False,
    )
    new.add_argument("--workload", metavar="NAME", help="what to train (default: mnist1d)")
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
        "--out", metavar="DIR", help="folder under which the run's own folder is made (default: runs)"
    )
    new.add_argument("--config", metavar="FILE", help="a TOML file of settings")
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
    sys.exit(main())
