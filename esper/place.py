"""The folder of a run, new or taken up again: locked, with its configuration in it, its checkpoints found."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import torch
from torch import nn

from contracts.config import Config
from contracts.growth import SeedRecord
from contracts.report import Ending
from esper.assembly import Parts, check_length
from esper.checkpoint.errors import CheckpointError
from esper.checkpoint.lock import holding
from esper.checkpoint.store import Checkpoint, CheckpointStore
from esper.ending import is_complete
from esper.errors import BadSetup
from esper.folder import CONFIG, check_left, new_folder, write_whole
from esper.forced import followed
from esper.forced import forget as forget_orders
from esper.moment import About, Moment, came_by, from_checkpoint, read_about
from esper.report.build import REPORT
from esper.resume import CPU, Difference, differences
from esper.settings import to_toml
from esper.stall import Stalled, forget, noted, told, without
from esper.tamiyo.baselines import NeverGrow
from esper.tamiyo.policy import BadMemory, Remembers
from esper.tolaria.errors import RestoreFailed
from esper.tolaria.record import DamagedRecord
from esper.tolaria.task import digest_of
from esper.tolaria.vitals import MB
from esper.versions import versions

LENGTHS = ("run.epochs", "run.gflop")
FORGETFUL = (
    "it offers neither memory() nor take_over(), so that it begins as a new one does; the numbers go on as "
    "if nothing had happened only if it decides by the state and the view alone"
)


@dataclass(frozen=True)
class Place:
    """Where a run is at home, and where in it it goes on."""

    folder: Path
    parts: Parts
    about: About
    store: CheckpointStore
    start: Moment | None = None
    """None at the run's beginning."""
    before: Callable[[], tuple[Moment, ...]] = tuple
    """Reads earlier moments, the oldest first: what the run could go back to, as far as it is on disk."""
    differences: tuple[Difference, ...] = ()
    passed_over: tuple[str, ...] = ()
    """Checkpoints that are damaged, with what is wrong with them."""
    set_aside: tuple[str, ...] = ()
    """What the run now does without, as training had stood still with it."""

    def build(self, record: SeedRecord) -> nn.Module:
        """The module of a seed that is read back; its weights are still to be loaded."""
        return self.parts.build(record)


Assemble = Callable[[str], Parts]
"""Puts the parts of the run of this id together."""


@contextmanager
def new_place(out: Path, name: str, config: Config, assemble: Assemble) -> Iterator[Place]:
    """A new folder for a new run; it is gone again if the parts can't be put together.

    Raises:
        BadSetup: it can't be made, or the run's budget has no room for a step.
        ValueError: the parts do not fit.
    """
    with new_folder(out, name) as folder:
        parts = assemble(folder.name)
        check_length(parts)
        write_whole(folder / CONFIG, to_toml(config).encode())
    with _held(folder):
        yield _place(folder, parts)


@contextmanager
def old_place(folder: Path, config: Config, assemble: Assemble) -> Iterator[Place]:
    """The folder of a run that was broken off, at its newest checkpoint that is sound.

    Raises:
        BadSetup: it holds no run, or another process has it, or the run can't go on like this.
        ValueError: the parts do not fit.
    """
    check_left(folder)
    with _held(folder):
        place = _place(folder, assemble(folder.name))
        yield _taken_up(place)


def _taken_up(place: Place) -> Place:
    """The same at its newest checkpoint; with none it is where a new run begins."""
    try:
        found = place.store.newest()
        if found.checkpoint is None:
            return _begun_anew(place, found.passed_over)
        was = read_about(found.checkpoint)
        odd = differences(was, place.about)
        _not_complete(place.folder, odd)
        start, aside = _past_a_stall(place.folder, from_checkpoint(found.checkpoint, place.build)[1])
        start = followed(place.folder, start)
    except (CheckpointError, DamagedRecord) as error:
        raise BadSetup(f"{place.folder}: {error}") from None
    odd += recall(place.parts, start)
    _leave_out(place)
    _try_out(place, start)
    _not_too_short(place, start, odd)
    write_whole(place.folder / CONFIG, to_toml(place.about.config).encode())
    return replace(
        place,
        start=start,
        before=tuple if aside else partial(_before, place, start),
        differences=odd,
        passed_over=found.passed_over,
        set_aside=aside,
    )


def _before(place: Place, start: Moment) -> tuple[Moment, ...]:
    """The moments that the run had in memory besides, as far as they are on disk."""
    moments: list[Moment] = []
    settings = place.about.config.checkpoint
    room = settings.memory_mb * MB - start.snapshot.nbytes
    for checkpoint in place.store.before(start.epoch, settings.boundaries - 1, partial(_is_past, start)):
        with suppress(DamagedRecord):  # it would be passed over on the way back
            moment = from_checkpoint(checkpoint, place.build)[1]
            room -= moment.snapshot.nbytes
            if room < 0:
                break
            moments.insert(0, moment)
    return tuple(moments)


def _is_past(start: Moment, checkpoint: Checkpoint) -> bool:
    """Whether the run came by this one on its way to `start`."""
    try:
        return came_by(start, checkpoint)
    except DamagedRecord:
        return False


def _past_a_stall(folder: Path, start: Moment) -> tuple[Moment, tuple[str, ...]]:
    """The moment without what training has stood still with since, and what there is to tell of that."""
    stalled = noted(folder)
    if stalled is None or _is_known(stalled, start):
        forget(folder)
        return start, ()
    if not stalled.suspects:
        forget(folder)  # there is nothing to follow
    return without(start, stalled), told(start, stalled)


def _is_known(stalled: Stalled, start: Moment) -> bool:
    """Whether the moment is of after the stall: it does without the suspects already."""
    return bool(stalled.suspects) and stalled.reasons.keys() <= start.memories.kernels.left_out.keys()


def _leave_out(place: Place) -> None:
    """Grow nothing any more that training may have stood still with."""
    stalled = noted(place.folder)
    for blueprint_id, reason in ({} if stalled is None else stalled.reasons).items():
        place.parts.stock.leave_out(blueprint_id, reason)


def _begun_anew(place: Place, passed_over: tuple[str, ...]) -> Place:
    """The place of a run that was broken off before its first checkpoint.

    Raises:
        BadSetup: there are checkpoints, none of them sound, or the run has finished: what lies there is more
            than a run that begins anew may write over. Or its budget has no room for a step.
    """
    if passed_over:
        raise BadSetup(
            f"{place.folder}: no checkpoint can be gone on with: {'; '.join(passed_over)}; "
            "begin a new run, or take its checkpoints away to begin anew in this folder"
        )
    _not_complete(place.folder, ())
    check_length(place.parts)
    _leave_out(place)
    forget_orders(place.folder)
    write_whole(place.folder / CONFIG, to_toml(place.about.config).encode())
    return place


def about_run(parts: Parts, run_id: str) -> About:
    """What a later process compares itself with."""
    host = {name: tuple(one.shape) for name, one in parts.grafts.host_named_parameters()}
    task = parts.task
    splits = (("training", task.train), ("validation", task.validation), ("test", task.test))
    data = {name: digest_of(split) for name, split in splits}
    cpu = {CPU: torch.backends.cpu.get_cpu_capability()}
    optimizer = parts.trainer.ingredients
    return About(run_id, parts.config, versions() | cpu, host, parts.policy.version, data, optimizer)


def _place(folder: Path, parts: Parts) -> Place:
    store = CheckpointStore(folder, parts.config.checkpoint.keep)
    return Place(folder, parts, about_run(parts, folder.name), store)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(holding(folder))
        except CheckpointError as error:
            raise BadSetup(str(error)) from None
        yield


def _not_complete(folder: Path, odd: tuple[Difference, ...]) -> None:
    """See that there is something left to do: to train further, or to write what it leaves.

    Raises:
        BadSetup: the run has finished, and is not to become longer.
    """
    if any(one.name in LENGTHS for one in odd) or not is_complete(folder):
        return
    try:
        report = msgspec.json.decode((folder / REPORT).read_bytes(), type=_Ended)
    except (OSError, msgspec.MsgspecError):
        return
    if report.ended.kind == "finished":
        raise BadSetup(f"the run in {folder} is complete; to train it further, give more --epochs or --gflop")


def _not_too_short(place: Place, start: Moment, odd: tuple[Difference, ...]) -> None:
    """See that a new length has room for what was trained; the trainer stands where it goes on.

    Raises:
        BadSetup: it has not.
    """
    run, spent = place.about.config.run, place.parts.trainer.ledger.spent
    if not any(one.name in LENGTHS for one in odd):
        return
    if run.epochs is not None and run.epochs < start.epoch:
        raise BadSetup(f"--epochs {run.epochs}: the run has trained {start.epoch} epochs already; give more")
    if run.gflop is not None and run.gflop * 1e9 < spent:
        raise BadSetup(f"--gflop {run.gflop:g}: the run has spent {spent / 1e9:.4g} already; give more")


class _Ended(msgspec.Struct, frozen=True):
    """A report, as far as its end goes."""

    ended: Ending


def _try_out(place: Place, start: Moment) -> None:
    """See that the trainer can go back there, before anything of what lies in the folder is written over.

    Raises:
        BadSetup: it can't: another optimizer, another schedule, other data.
    """
    try:
        place.parts.trainer.restore(start.snapshot)
    except RestoreFailed as error:
        raise BadSetup(f"{place.folder}: the run can't go on like this: {error}") from None


def recall(parts: Parts, start: Moment) -> tuple[Difference, ...]:
    """Give those on the loop what they remembered; the trainer goes back in its own lane."""
    memories = start.memories
    parts.observation.recall(memories.windows)
    parts.engine.restore(memories.engine)
    parts.stock.recall(memories.kernels)
    try:
        parts.controller.recall(memories.controller)
    except BadMemory as error:
        return (Difference("what the policy knew", "in the checkpoint", "not taken over", str(error)),)
    if not isinstance(parts.policy, Remembers | NeverGrow):
        return (Difference("what the policy knew", "its own", "not known", FORGETFUL),)
    return ()
