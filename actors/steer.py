"""The operator's end of a run's `control.sock`: says one order, and reads what came of it."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from actors.steering import SOCKET, address
from contracts.emergency import NONE, Answer, Bearings, BreakerOrder, Level, Order, SeedOrder
from contracts.growth import Operation

PATIENCE_S: Final = 30.0
"""For the answer; a little longer than the run takes to give one."""
ANSWER_BYTES_MAX: Final = 1 << 20
ORDERS: Final[dict[str, Order]] = {
    "status": Order("status"),
    "elevated": Order("force", Level.ELEVATED),
    "conservative": Order("force", Level.CONSERVATIVE),
    "halt": Order("force", Level.HALT),
    "hold": Order("hold"),
    "release": Order("release"),
    "rollback": Order("rollback"),
    "checkpoint": Order("checkpoint"),
}
"""What can be said on the command line without more words."""
BREAKER: Final = "breaker"
BREAKER_WORDS: Final = ("status", "open", "close", "try")


def order_of(name: str, words: Sequence[str] = ()) -> Order:
    """What the command line says: an order, and whom it is about.

    Raises:
        NotSteered: words are missing, or too many, or nobody knows them.
    """
    if name in ORDERS:
        if words:
            raise NotSteered(f"{name} is about the whole run and takes no more words: {' '.join(words)}")
        return ORDERS[name]
    if name == BREAKER:
        return Order("breaker", breaker=_breaker_order(*words))
    if len(words) != 1:
        raise NotSteered(f"{name} which seed? Give one id: relu1#0 is the first one at relu1")
    return Order("seed", seed=msgspec.convert({"operation": name, "seed_id": words[0]}, SeedOrder))


def _breaker_order(wanted: str = "status", operation: str = "", *more: str) -> BreakerOrder:
    """
    Raises:
        NotSteered: that is nothing that a breaker can be told, or it is not said which one.
    """
    if wanted not in BREAKER_WORDS or more:
        raise NotSteered(f"breaker takes {', '.join(BREAKER_WORDS)}, then an operation: breaker close insert")
    if operation not in ("", *Operation):
        raise NotSteered(f"there is no operation {operation!r}; there are {', '.join(Operation)}")
    if wanted != "status" and not operation:
        raise NotSteered(f"{wanted} which breaker? Name an operation: {', '.join(Operation)}")
    return msgspec.convert({"wanted": wanted, "operation": operation}, BreakerOrder)


class NotSteered(Exception):
    """Nobody took the order; the message says why, and what would work."""


def steer(folder: Path, order: Order) -> Answer:
    """What the run that lives in `folder` makes of an order.

    Raises:
        NotSteered: no run lives there, it is another user's, or it does not answer.
    """
    if not folder.is_dir():
        raise NotSteered(f"{folder} is no folder; give that of a run")
    try:
        line = _ask(folder, msgspec.json.encode(order) + b"\n")
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotSteered(f"no run lives in {folder}: nobody listens at its {SOCKET}") from None
    except PermissionError:
        raise NotSteered(f"the run in {folder} is another user's; only that user may steer it") from None
    except TimeoutError:
        raise NotSteered(f"the run in {folder} has not answered within {PATIENCE_S:.0f} s") from None
    except OSError as error:
        raise NotSteered(f"the run in {folder} can't be reached: {error.strerror}") from None
    try:
        return msgspec.json.decode(line, type=Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise NotSteered(f"the run in {folder} ended before it had answered") from None


def _ask(folder: Path, line: bytes) -> bytes:
    """One line there, one line back; less than a line if the other end hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door, address(folder) as name:
        door.settimeout(PATIENCE_S)
        door.connect(name)
        door.sendall(line)
        with door.makefile("rb") as back:
            return back.readline(ANSWER_BYTES_MAX)


def lines(bearings: Bearings) -> list[str]:
    """Where a run is, in words."""
    level = "none" if bearings.level is NONE else bearings.level.name
    found = [
        f"run         {bearings.run_id}, {bearings.phase}, epoch {bearings.epoch}",
        f"emergency   {level}{_since(bearings)}",
    ]
    if bearings.held or bearings.forced is not NONE:
        found.append(f"operator    {'holds' if bearings.held else 'forces'} {_named(bearings.forced)}")
    elif bearings.quiet_left:
        found.append(f"falls       by a step after {bearings.quiet_left} more quiet boundaries")
    found += [f"trouble     {one.text} (epoch {one.epoch})" for one in bearings.troubles]
    found += [f"breaker     {one.standing}" for one in bearings.breakers if one.breaker != "closed"]
    saved = f"epoch {bearings.checkpoint}" if bearings.checkpoint >= 0 else "none yet"
    return [*found, f"checkpoint  {saved}"]


def _since(bearings: Bearings) -> str:
    return f" since epoch {bearings.since}: {bearings.reason}" if bearings.reason else ""


def _named(level: Level) -> str:
    return "no level" if level is NONE else level.name
