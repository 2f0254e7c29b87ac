"""Whether a command may be acted on at all: in time, and from somebody who may say it.

Who checks what of a command:

    contracts/signing  of what comes from outside the process: signature, key, nonce, the sender's right to
                       the topic, and that it was signed within 60 s; once, before it is decoded
    esper/kasmina      of every command: its id (a known one gets its stored answer, so that a repeat is done
                       once), its age, its deadline, its issuer; then whether it is legal
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache

from contracts.messages import AdaptationCommand, WallNs
from esper.kasmina.draft import Refused

FRESH_NS = 60 * 10**9
"""How far the time of issue may lie from now, either way, in nanoseconds."""
NS_PER_MS = 1_000_000
ISSUERS_KNOWN = 64
"""Issuers of whom it is known whether the patterns fit them."""
OPERATOR = "operator"
"""Who issues an operator's commands; some things are done for no one else."""


def check_fresh(command: AdaptationCommand, now_ns: WallNs) -> None:
    """
    Raises:
        Refused: it was issued more than 60 s before or after now, or its deadline has passed.
    """
    age_ns = now_ns - command.issued_at
    if abs(age_ns) > FRESH_NS:
        side = "after" if age_ns < 0 else "before"
        raise Refused(
            f"command {command.command_id} was issued {abs(age_ns) / 1e9:.10g} s {side} now, and "
            f"{FRESH_NS / 1e9:.0f} s are allowed; compare the clocks, and issue it anew"
        )
    if age_ns > command.execution_deadline_ms * NS_PER_MS:
        raise Refused(
            f"command {command.command_id} is {age_ns / NS_PER_MS:.0f} ms old and had to be executed within "
            f"{command.execution_deadline_ms} ms; issue it anew"
        )


def check_issuer(command: AdaptationCommand, issuers: Iterable[str]) -> None:
    """
    Raises:
        Refused: no pattern of `issuers` fits who issued it.
    """
    allowed = tuple(issuers)
    if not _fits(command.issued_by, allowed):
        raise Refused(
            f"{command.issued_by!r} may not send commands; {', '.join(allowed) or 'nobody'} may "
            "(growth.issuers)"
        )


def check_operator(command: AdaptationCommand, what: str) -> None:
    """
    Raises:
        Refused: an operator did not issue it, and nobody else may do `what`.
    """
    if command.issued_by != OPERATOR:
        raise Refused(f"{command.issued_by!r} may not {what}; {OPERATOR!r} may")


@lru_cache(maxsize=ISSUERS_KNOWN)
def _fits(issued_by: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(issued_by, pattern) for pattern in patterns)
