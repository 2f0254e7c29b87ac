"""The few things that a policy can want, and the command that each becomes."""

from typing import TypeAlias, get_args

import msgspec

from contracts.budgets import PerformanceBudgets
from contracts.growth import Candidate, Path
from contracts.lifecycle import SeedOperation
from contracts.messages import AdaptationCommand, CommandSeedOperation, CommandType, WallNs


class Wait(msgspec.Struct, frozen=True):
    """Change nothing at this boundary."""

    reason: str = ""


class Germinate(msgspec.Struct, frozen=True):
    """Put a new seed into a site."""

    candidate: Candidate
    path: Path
    reason: str = ""
    approved: bool = False
    """The blueprint is experimental, and the run's configuration approves of it."""
    drill: bool = False
    """Part of a drill, for which the engine needs a permission of its own."""


class Advance(msgspec.Struct, frozen=True):
    """Take a seed to a later stage of the main line."""

    seed_id: str
    operation: SeedOperation
    reason: str = ""


class Cull(msgspec.Struct, frozen=True):
    """Take a seed out; with `rollback` the host goes back to before the graft."""

    seed_id: str
    rollback: bool = False
    reason: str = ""


class Pause(msgspec.Struct, frozen=True):
    """Let a seed stand still, or with `resume` go on where it was paused."""

    seed_id: str
    resume: bool = False
    reason: str = ""


Action: TypeAlias = Wait | Germinate | Advance | Cull | Pause


class NoAction(TypeError):
    """A policy of someone else's answered something that is no action."""

    def __init__(self, answer: object) -> None:
        taken = ", ".join(kind.__name__ for kind in get_args(Action))
        super().__init__(f"the policy answered {type(answer).__name__} where one of {taken} was due")


def command_for(
    action: Action,
    command_id: str,
    issued_by: str,
    now_ns: WallNs,
    deadline_ms: int = PerformanceBudgets().epoch_boundary_ms,
) -> AdaptationCommand:
    """The command that carries `action` out, within `deadline_ms`."""
    stamp = (command_id, issued_by, now_ns, deadline_ms)
    match action:
        case Wait(reason):
            return AdaptationCommand(
                command_id,
                CommandType.PAUSE,
                now_ns,
                issued_by,
                execution_deadline_ms=deadline_ms,
                annotations={"action": "wait", "reason": reason},
            )
        case Germinate(candidate, path, reason, approved, drill):
            notes = {"action": "germinate", "site": candidate.site, "reason": reason}
            flags = {"approved": approved, "drill": drill}
            stay = {name: float(epochs) for name, epochs in msgspec.structs.asdict(path).items()}
            return _seed_command(
                SeedOperation.GERMINATE,
                "",
                stamp,
                notes | {name: "true" for name, said in flags.items() if said},
                candidate.blueprint_id,
                {**candidate.parameters, **stay},
            )
        case Advance(seed_id, operation, reason):
            notes = {"action": operation.name.lower(), "reason": reason}
            return _seed_command(operation, seed_id, stamp, notes)
        case Cull(seed_id, rollback, reason):
            notes = {"action": "cull", "rollback": "true" if rollback else "false", "reason": reason}
            return _seed_command(SeedOperation.CULL, seed_id, stamp, notes)
        case Pause(seed_id, resume, reason):
            said = {"action": "resume", "resume": "true"} if resume else {"action": "pause"}
            return AdaptationCommand(
                command_id,
                CommandType.PAUSE,
                now_ns,
                issued_by,
                target_seed_id=seed_id,
                execution_deadline_ms=deadline_ms,
                annotations={**said, "reason": reason},
            )
        case _:
            raise NoAction(action)


def _seed_command(
    operation: SeedOperation,
    seed_id: str,
    stamp: tuple[str, str, WallNs, int],
    annotations: dict[str, str],
    blueprint_id: str = "",
    parameters: dict[str, float] | None = None,
) -> AdaptationCommand:
    command_id, issued_by, now_ns, deadline_ms = stamp
    return AdaptationCommand(
        command_id,
        CommandType.SEED,
        now_ns,
        issued_by,
        target_seed_id=seed_id,
        execution_deadline_ms=deadline_ms,
        payload=CommandSeedOperation(operation, blueprint_id, parameters or {}),
        annotations=annotations,
    )
