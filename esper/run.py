"""`python -m esper.run`: grow a network while it trains, and leave a folder that says what came of it.

`python -m esper.run observe` follows such a run live from another process. `python -m esper.run drill
blueprints` lets dangerous blueprints loose in runs of its own, to show that the safety checks hold. `python
-m esper.run blueprints` lists what can be grown. `python -m esper.run steer` steers a run that lives on this
machine. `python -m esper.run events` prints what a run has told. `python -m esper.run kernels` shows
what the kernel store holds. `python -m esper.run letters` looks after a run's dead letters.

Exit codes: 0 done, 1 a drill that was not contained, an order that was not done, an event log that is
damaged or letters that stay, 2 bad usage or configuration or a folder that can't be written, 3 halted by an
emergency, 130 interrupted.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import msgspec

from contracts.address import masked
from contracts.config import Config
from contracts.letters import LettersHandled
from contracts.view import RunFacts
from esper.errors import BadSetup, CannotWrite
from esper.folder import CONFIG, check_folder, check_left, going_on, has_checkpoint, name_of, with_name
from esper.options import (
    BLUEPRINTS,
    DRILL,
    EVENTS,
    KERNELS,
    LETTERS,
    OBSERVE,
    STEER,
    drilling_parser,
    events_parser,
    kernels_parser,
    letters_parser,
    listing_parser,
    observing_parser,
    parser,
    refuse,
    steering_parser,
)
from esper.settings import ConfigError, load

DONE, NOT_DONE, HALTED, INTERRUPTED = 0, 1, 3, 130
STATUS = "status"

WORKLOADS = ("mnist1d",)
"""The names in `esper.workloads.registry`, which loads torch."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for: a run, if it names no other command."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in COMMANDS:
        make_parser, command = COMMANDS[words[0]]
        return command(make_parser().parse_intermixed_args(words[1:]))
    arguments = parser().parse_args(words)
    try:
        config = configuration(arguments)
        if arguments.resume is None:
            check_folder(Path(config.run.out))
        elif arguments.out is not None:
            raise BadSetup("--out and --resume exclude each other: a run goes on in its own folder")
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
    resume = folder_of(arguments)
    folder = with_name(resume) if resume is not None else new_folder_of(config)
    with leaving_at_once(display.close, folder):
        display.start(facts_of(config, folder))
        try:
            from esper.session import run

            ended = run(config, display, folder, resume=resume is not None)
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
    from esper.log import logging_in_lines
    from esper.workloads.registry import find_workload

    workload = find_workload(WORKLOADS[0])
    ground = Ground(workload.task, workload.complete(drill_config(workload.name, arguments.seed)))
    file = Path(arguments.json) if arguments.json is not None else None
    try:
        with logging_in_lines(sys.stderr):
            return hold_drills(ground, drills, file, sys.stdout)
    except (SandboxFailed, ValueError, OSError) as error:
        return refuse([str(error)])


@contextmanager
def leaving_at_once(close: Callable[[], object], folder: Path) -> Iterator[None]:
    """A stop signal ends the process, unless someone inside knows better: `close` is called, one line said,
    which names the way to go on with the run in `folder` if there is one.

    An exception would not do: raised while torch loads or while a thread is inside it, it may be
    swallowed, or bring the interpreter down.
    """

    def leave(number: int, _: FrameType | None) -> NoReturn:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        close()
        with suppress(OSError):
            way = f"; go on with: {going_on(folder)}" if has_checkpoint(folder) else ""
            os.write(2, f"esper: interrupted before the run was complete{way}\n".encode())
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
    config = load(file_of(arguments), arguments.set, values)
    if config.run.workload not in WORKLOADS:
        way = "; a run that was begun from Python goes on with grow(…, resume=folder)"
        there = f"there is no workload {config.run.workload!r}; there are: {', '.join(WORKLOADS)}"
        raise ConfigError([there + (way if arguments.resume is not None else "")])
    return config


def folder_of(arguments: argparse.Namespace) -> Path | None:
    """The folder of the run to go on with."""
    return Path(arguments.resume) if arguments.resume is not None else None


def file_of(arguments: argparse.Namespace) -> Path | None:
    """The file that the configuration begins with: a run that goes on has left its own.

    Raises:
        BadSetup: no run has left that folder.
    """
    folder = folder_of(arguments)
    if folder is not None:
        check_left(folder)
        return folder / CONFIG
    return given_file(arguments)


def given_file(arguments: argparse.Namespace) -> Path | None:
    """The file of settings that was named."""
    return Path(arguments.config) if arguments.config is not None else None


def new_folder_of(config: Config) -> Path:
    """The folder that a new run gets."""
    run = config.run
    return Path(run.out) / name_of(run.workload, run.policy, run.seed, datetime.now(UTC))


def facts_of(config: Config, folder: Path) -> RunFacts:
    """What can be shown before torch is loaded."""
    run = config.run
    return RunFacts(
        workload=run.workload,
        policy=run.policy,
        seed=run.seed,
        out=str(folder.parent),
        folder=str(folder),
        epochs=run.epochs,
        budget_flops=round(run.gflop * 1e9) if run.gflop is not None else None,
        bus=masked(run.bus),
        boundary_budget_ms=float(config.budgets.epoch_boundary_ms),
    )


def blueprints(arguments: argparse.Namespace) -> int:
    """List what the catalogue holds, whoever may grow it."""
    from esper.karn.blueprint import BlueprintError
    from esper.karn.catalogue import CATALOGUE
    from esper.karn.query import Query
    from esper.karn.source import absolute, with_own
    from esper.report.listing import listed, site_of, text

    try:
        places = load(given_file(arguments), arguments.set, {}).growth.blueprints
        catalogue = with_own(CATALOGUE, map(absolute, places))
        site = site_of(arguments.layout, arguments.shape)
        if arguments.max_params is not None and site is None:
            raise ValueError("--max-params needs a site to count at: give --layout and --shape too")
        query = Query(
            layout=arguments.layout,
            site=site,
            max_params=arguments.max_params,
            max_stage=arguments.stage,
            tags=tuple(arguments.tag),
        )
        lines = listed(catalogue.describe(query))
    except ConfigError as error:
        return refuse(error.problems)
    except (BlueprintError, ValueError) as error:
        return refuse([str(error)])
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(lines)).decode() + "\n")
    elif lines:
        sys.stdout.writelines(f"{line}\n" for line in text(lines))
    else:
        tags = sorted({tag for one in catalogue for tag in one.tags})
        print(f"no blueprint is so; the tags are: {', '.join(tags)}")
    return DONE


def steer(arguments: argparse.Namespace) -> int:
    """Have a run do something, or say how it is."""
    from actors import steer

    try:
        answer = steer.steer(Path(arguments.folder), steer.order_of(arguments.order, arguments.words))
    except steer.NotSteered as error:
        return refuse([str(error)])
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    elif arguments.order == STATUS and answer.bearings is not None:
        sys.stdout.writelines(f"{line}\n" for line in steer.lines(answer.bearings))
    else:
        print(answer.text, file=sys.stdout if answer.done else sys.stderr)
    return DONE if answer.done else NOT_DONE


def events(arguments: argparse.Namespace) -> int:
    """Print a run's event log, or write it to its folder."""
    from esper.journal.telling import tell_events

    return tell_events(Path(arguments.folder), write=arguments.write)


def kernels(arguments: argparse.Namespace) -> int:
    """Look after the kernel store."""
    from esper.kernels import look_after

    try:
        look_after(load(given_file(arguments), arguments.set, {"kernels.store": arguments.store}), arguments)
    except ConfigError as error:
        return refuse(error.problems)
    except BadSetup as error:
        return refuse([str(error)])
    return DONE


def letters(arguments: argparse.Namespace) -> int:
    """Look after the dead letters of a run on a Redis."""
    from actors.letters import NotHandled, handle_letters, order_of
    from actors.oona.open import door
    from esper.report.letters import tell

    try:
        order = order_of(arguments.order, arguments.words, arguments.all, arguments.topic, arguments.group)
        way = door(arguments.bus, os.environ, "esper-operator")
    except (NotHandled, ValueError) as error:
        return refuse([str(error)])
    try:
        answer = handle_letters(way, arguments.run, order, note)
    except NotHandled as error:
        return refuse([str(error)])
    try:
        tell(answer, json=arguments.json, out=sys.stdout)
    except BrokenPipeError:  # whoever read it has seen enough
        with suppress(OSError):
            sys.stdout.close()
    return NOT_DONE if isinstance(answer, LettersHandled) and answer.kept else DONE


def note(text: str) -> None:
    """Something to know beside the answer."""
    print(f"esper: {text}", file=sys.stderr)


COMMANDS: dict[str, tuple[Callable[[], argparse.ArgumentParser], Callable[[argparse.Namespace], int]]] = {
    OBSERVE: (observing_parser, observe),
    DRILL: (drilling_parser, drill),
    BLUEPRINTS: (listing_parser, blueprints),
    STEER: (steering_parser, steer),
    EVENTS: (events_parser, events),
    KERNELS: (kernels_parser, kernels),
    LETTERS: (letters_parser, letters),
}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # outside of a run Ctrl-C needs no words
    code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # there is nothing left to interrupt
    sys.exit(code)
