"""The command line's options: what each command takes, and how it says that something is wrong.

Nothing here loads torch, so that help and refusals come at once.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import msgspec

from contracts.address import MEMORY, Address, escaping_hint, masked
from contracts.growth import Layout

BAD_USAGE = 2
OBSERVE, DRILL, BLUEPRINTS, STEER, EVENTS = "observe", "drill", "blueprints", "steer", "events"
KERNELS, STORE_ORDERS = "kernels", ("show", "tag", "untag", "collect", "program")
LETTERS, LETTER_ORDERS = "letters", ("list", "inspect", "replay", "drop")
SEED_ORDERS = ("pause", "resume", "cull", "terminate")
ORDERS = (
    *("status", "elevated", "conservative", "hold", "release", "rollback", "checkpoint", "halt"),
    *SEED_ORDERS,
    "breaker",
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
        raise argparse.ArgumentTypeError(
            "a bus in memory can't be reached from outside its process; run with a Redis"
        )
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
    _add_run(new, "the newest that lives; waits for one if there is none")
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


def listing_parser() -> argparse.ArgumentParser:
    """The options of `blueprints`."""
    new = _Parser(
        prog=f"python -m esper.run {BLUEPRINTS}",
        description="List the blueprints: what can be grafted, where it grows, and what has to be so first.",
        epilog="Without options all of them, also those that are grown in drills alone; of settings only "
        "growth.blueprints matters, which adds blueprints of your own. Exit codes: 0 done, 2 bad usage.",
        allow_abbrev=False,
    )
    new.add_argument("--layout", type=_layout, metavar="NAME", help=f"those that grow on {_names(Layout)}")
    new.add_argument(
        "--shape",
        type=_shape,
        metavar="SIZES",
        help="with --layout: those that grow on a site of this shape, with what their smallest form costs; "
        "without the batch, as torch has it: 4x19 for a sequence, 3x32x32 for an image",
    )
    new.add_argument(
        "--max-params", type=int, metavar="N", help="with --shape: those with a form of at most N parameters"
    )
    new.add_argument(
        "--stage", type=int, metavar="N", help="those up to this curriculum stage, 1 to 5 (growth.max_stage)"
    )
    new.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="WORD",
        help="those with this tag (an unknown one lists them all); repeatable",
    )
    _add_settings(new, new)
    new.add_argument("--json", action="store_true", help="print one JSON array")
    return new


def steering_parser() -> argparse.ArgumentParser:
    """The options of `steer`."""
    new = _Parser(
        prog=f"python -m esper.run {STEER}",
        description="Steer a run that lives on this machine, whatever bus it has: status says how it is; "
        "elevated, conservative and halt force that emergency level; hold keeps the level from falling; "
        "release gives it back to the troubles; rollback returns to the boundary before the present epoch; "
        "checkpoint has the newest boundary on disk. What follows is put to the grafting engine at the next "
        "boundary, in place of the policy's own wish. pause, resume and cull are about one seed; terminate "
        "takes it down for good, also one that has become part of the host, and unlike cull it makes no "
        "place for another: a site without a seed closes. breaker says which operations of the engine are "
        "refused because they failed; breaker open, close and try with an operation (germinate, insert, "
        "advance, …) refuse it, let it through again, or let its next try decide.",
        epilog="Exit codes: 0 done, 1 the run did not do it and says why, 2 bad usage, or no run of yours "
        "lives there.",
        allow_abbrev=False,
    )
    _add_folder(new)
    new.add_argument("order", choices=ORDERS, metavar="ORDER", help=", ".join(ORDERS))
    _add_words(
        new,
        f"with {', '.join(SEED_ORDERS)}: the seed's id, such as relu1#0; with breaker: open, close or "
        "try and the operation, or nothing to hear how all of them are; with other orders none",
    )
    new.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    return new


def events_parser() -> argparse.ArgumentParser:
    """The options of `events`."""
    new = _Parser(
        prog=f"python -m esper.run {EVENTS}",
        description="Print the event log of a run, one JSON object a line: of one that is over, was killed, "
        "or goes on, which it does not disturb.",
        epilog="Exit codes: 0 done, 1 some of it is damaged and was passed over, 2 bad usage, or a log that "
        "can't be read or written.",
        allow_abbrev=False,
    )
    _add_folder(new)
    new.add_argument(
        "--write", action="store_true", help="write it to DIR/events.jsonl, as a run does at its end"
    )
    return new


def kernels_parser() -> argparse.ArgumentParser:
    """The options of `kernels`."""
    new = _Parser(
        prog=f"python -m esper.run {KERNELS}",
        description="Look after the kernel store: show lists what is in it, each file compared with its "
        "digest, and what is yet to be made; tag and untag put words on an artifact and take them off, and "
        "show lists what has a word on it; collect makes the store as small as kernels.store_mb, the longest "
        "unused first, and leaves what a run holds; program writes to a new file what was compiled natively "
        "for a kernel, once the store's seal on it was checked.",
        epilog="Of settings the section kernels matters, and growth.blueprints, which says where blueprints "
        "of your own are. States: ready; old, made by other code or versions; damaged; wanted; given up; and "
        "held, by a run that lives. Looking makes nothing. Exit codes: 0 done, 2 bad usage, no store there, "
        "or nothing of that name in it.",
        allow_abbrev=False,
    )
    new.add_argument(
        "order",
        nargs="?",
        default="show",
        choices=STORE_ORDERS,
        metavar="ORDER",
        help=f"{', '.join(STORE_ORDERS)} (default: show)",
    )
    _add_words(
        new,
        "with show: a tag, or nothing; with tag and untag: the beginning of a name, then the tags; with "
        "program: the beginning of a name, then the file; with collect none",
    )
    new.add_argument("--store", type=_some, metavar="DIR", help="the store's folder (default: kernels.store)")
    new.add_argument("--dry-run", action="store_true", help="with collect: only say what would be removed")
    _add_settings(new, new)
    new.add_argument("--json", action="store_true", help="with show: print one JSON object")
    return new


def letters_parser() -> argparse.ArgumentParser:
    """The options of `letters`."""
    new = _Parser(
        prog=f"python -m esper.run {LETTERS}",
        description="Look after the dead letters of a run on a Redis, the messages that a reader gave up: "
        "list shows them, inspect shows one with its message; replay queues them again for the group that "
        "gave them up, with all their attempts, and signed anew if they were signed; drop throws them away.",
        epilog=f"For example: python -m esper.run {LETTERS} --bus redis://127.0.0.1:6379 replay --all "
        "--topic field-report. On a terminal list prints a table, in a pipe one line a letter with its id "
        "first. Looking disturbs nobody: no group is joined, and nothing is taken. The letters of a bus in "
        "memory can't be reached, and end with their run. Exit codes: 0 done, 1 some letters could not be "
        "queued again or dropped and stay, 2 bad usage, a server that can't be reached, no such run or "
        "letter, or messages that can't be believed; then nothing was done.",
        allow_abbrev=False,
    )
    _add_run(new, "the newest that lives, or else the newest")
    new.add_argument(
        "order",
        nargs="?",
        default="list",
        choices=LETTER_ORDERS,
        metavar="ORDER",
        help=f"{', '.join(LETTER_ORDERS)} (default: list)",
    )
    new.add_argument(
        "words",
        nargs="*",
        default=[],
        metavar="LETTER",
        help="with inspect: a letter's id, as list shows it; with replay and drop: ids, or --all instead",
    )
    new.add_argument("--all", action="store_true", help="with replay and drop: all letters there are")
    new.add_argument("--topic", type=_some, metavar="NAME", help="with list and --all: those of this topic")
    new.add_argument("--group", type=_some, metavar="NAME", help="with list and --all: what it gave up")
    new.add_argument("--json", action="store_true", help="print one JSON object")
    return new


def _add_run(new: argparse.ArgumentParser, otherwise: str) -> None:
    """Which run, and where."""
    new.add_argument(
        "--bus", type=_redis, required=True, metavar="ADDRESS", help="the Redis that the run was given"
    )
    new.add_argument(
        "--run",
        type=_some,
        metavar="ID",
        help=f"which run, by its folder's name, path or the beginning of its name (default: {otherwise})",
    )


def _add_folder(new: argparse.ArgumentParser) -> None:
    """Which run it is about."""
    new.add_argument("folder", type=_some, metavar="DIR", help="the run's folder")


def _add_words(new: argparse.ArgumentParser, meant: str) -> None:
    """What an order is about; `meant` says it order by order."""
    new.add_argument("words", nargs="*", default=[], metavar="WORD", help=meant)


def _add_settings(new: argparse.ArgumentParser, beginning: argparse._ActionsContainer) -> None:
    """Settings from a file, which may be one of several ways to begin, and single ones."""
    beginning.add_argument("--config", type=_some, metavar="FILE", help="a TOML file of settings")
    new.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="one setting; repeatable"
    )


def _layout(text: str) -> Layout:
    try:
        return Layout(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes {_names(Layout)}, not {text!r}") from None


def _names(kinds: type[Layout]) -> str:
    return ", ".join(kinds)


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.lower().split("x")
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise argparse.ArgumentTypeError(f"takes sizes such as 4x19 or 3x32x32, not {text!r}")
    return tuple(map(int, sizes))


def parser() -> argparse.ArgumentParser:
    """The options; every default is the configuration's own."""
    new = _Parser(
        prog="python -m esper.run",
        description="Grow a network while it trains: graft new modules where they pay, take out what hurts.",
        epilog="Exit codes: 0 done, 2 bad usage or configuration, a bus that can't be reached or a folder "
        "that can't be written, 3 halted by an emergency, 130 interrupted. "
        f"`python -m esper.run {OBSERVE}` follows a run on a Redis from another process; "
        f"`python -m esper.run {BLUEPRINTS}` lists what can be grown; "
        f"`python -m esper.run {DRILL} blueprints` shows that dangerous blueprints are contained; "
        f"`python -m esper.run {STEER}` steers a run that lives on this machine; "
        f"`python -m esper.run {EVENTS}` prints what a run has told; "
        f"`python -m esper.run {KERNELS}` shows what the kernel store holds; "
        f"`python -m esper.run {LETTERS}` looks after the messages of a run that a reader gave up. "
        f"Each of them has a --help; {DRILL}, {STEER}, {EVENTS} and {LETTERS} have an exit code 1 too: a "
        "drill that was not contained, an order that was not done, an event log that is damaged, letters "
        "that stay.",
        allow_abbrev=False,
    )
    _add_training(new)
    _add_places(new)
    _add_extras(new)
    return new


def _add_training(new: argparse.ArgumentParser) -> None:
    """What is trained, for how long, and who decides."""
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


def _add_places(new: argparse.ArgumentParser) -> None:
    """Where messages go, where files lie, and where the settings come from."""
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
    beginning = new.add_mutually_exclusive_group()
    _add_settings(new, beginning)
    beginning.add_argument(
        "--resume",
        type=_some,
        metavar="DIR",
        help="go on with the run that has left this folder, from its newest checkpoint, as if it had never "
        "been broken off; other options then change what it goes on with, and what that means is told",
    )


def _add_extras(new: argparse.ArgumentParser) -> None:
    """What is done beside training, and what is printed."""
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
