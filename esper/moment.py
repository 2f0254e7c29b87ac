"""A moment of a run: everything that the next number depends on, between an epoch and its decision.

    Moment ── snapshot   the trainer's half: network, optimizer, streams, what has grown
           └─ memories   the loop's half: policy, grafting engine, observation windows, the report so far

Both halves are of one boundary, taken before anything is decided at it. In memory a moment is the way back;
written to disk, with `About` beside it, it is what a new process goes on from. It takes the moments before
that one into memory as well, as far as they are on disk: so a break that one step back does not help against
is gone back from further in a resumed run too, and to the same moment where every boundary was written.

Bus positions. What a run publishes has ids that rest on what it is (its epoch, its command, its words) and on
the rollbacks before it, which `Recorded` counts: so the epoch is the publisher's position. A resumed run
publishes what it had published behind the moment under the same ids again, and the bus takes each once. A
reader's position is its consumer group, which lives where the bus does: on the Redis server it outlives the
run's process; in memory it ends with it, and with it everyone who reads there. What was announced and perhaps
not heard, the field reports, waits in the journal until its reader has acknowledged it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from torch import nn

from contracts.config import Config
from contracts.emergency import EmergencyState
from contracts.growth import ProbePlan, SeedRecord
from contracts.report import KernelFacts
from esper.checkpoint.store import Checkpoint
from esper.kasmina.engine import EngineState
from esper.report.record import Recorded
from esper.tamiyo.controller import ControllerMemory
from esper.tamiyo.observation import ObservationMemory
from esper.tolaria.record import DamagedRecord, from_record, to_record
from esper.tolaria.snapshot import Snapshot

T = TypeVar("T")

VERSION = 1


class WitnessMemory(msgspec.Struct, frozen=True):
    """What was told so far."""

    recorded: Recorded = msgspec.field(default_factory=Recorded)
    waits_for: str = ""
    worked_s: float = 0.0
    """Seconds that the run has taken in all its processes."""


class Memories(msgspec.Struct, frozen=True):
    """What the subsystems on the loop remember: all that was decided and told before this boundary."""

    controller: ControllerMemory
    engine: EngineState
    windows: ObservationMemory
    witness: WitnessMemory
    emergency: EmergencyState
    kernels: KernelFacts = KernelFacts()
    isolations: dict[str, int] = {}
    """Touches of the host by isolated seeds that were told of, by seed."""
    probe: ProbePlan | None = None
    """What is to be measured before the next epoch."""


class About(msgspec.Struct, frozen=True):
    """Whose moment it is: what a new process compares itself with."""

    run_id: str
    config: Config
    versions: dict[str, str]
    host: dict[str, tuple[int, ...]]
    """Shapes of the ungrown host's parameters, by name."""
    policy: str
    data: dict[str, str] = {}
    """A digest of each split, from its shape and some of its examples."""
    optimizer: dict[str, str] = {}
    """What it was at the beginning."""


@dataclass(frozen=True)
class Moment:
    """A run after `epoch` epochs."""

    epoch: int
    snapshot: Snapshot
    memories: Memories


class _Record(msgspec.Struct, frozen=True):
    """A moment without its tensors, as written: in MessagePack, which has NaN and infinity, unlike JSON."""

    version: int
    epoch: int
    about: About
    memories: Memories
    trainer: bytes
    """As `to_record` made it."""


def to_checkpoint(moment: Moment, about: About) -> Checkpoint:
    """The moment as it goes to disk; reads what never changes, so that any thread may call it."""
    trainer, tensors = to_record(moment.snapshot)
    record = _Record(VERSION, moment.epoch, about, moment.memories, trainer)
    return Checkpoint(moment.epoch, msgspec.msgpack.encode(record), tensors)


def from_checkpoint(checkpoint: Checkpoint, build: Callable[[SeedRecord], nn.Module]) -> tuple[About, Moment]:
    """What `to_checkpoint` was given; `build` makes the module of a seed, whose weights are then loaded.

    Raises:
        DamagedRecord: it does not hold what a moment has, or is of another version.
    """
    about = read_about(checkpoint)
    record = _decoded(checkpoint.record, _Record)
    snapshot = from_record(record.trainer, dict(checkpoint.tensors), build)
    return about, Moment(record.epoch, snapshot, record.memories)


def came_by(moment: Moment, checkpoint: Checkpoint) -> bool:
    """Whether the run came by the checkpoint on its way to the moment.

    It did not if it has gone back to before it since, or was taken up before it: then what the checkpoint
    holds did not happen, though its epoch may be an earlier one.

    Raises:
        DamagedRecord: the checkpoint does not say.
    """
    then = _decoded(checkpoint.record, _Record).memories.witness.recorded
    now = moment.memories.witness.recorded
    known, begun = len(then.rollbacks), len(then.resumes)
    if now.rollbacks[:known] != then.rollbacks or now.resumes[:begun] != then.resumes:
        return False
    since = [one.to_epoch for one in now.rollbacks[known:]] + [one.epoch for one in now.resumes[begun:]]
    return checkpoint.epoch <= min(since, default=checkpoint.epoch)


class _Head(msgspec.Struct, frozen=True):
    """What tells whether the rest can be read."""

    version: int


class _Owner(msgspec.Struct, frozen=True):
    about: About


def read_about(checkpoint: Checkpoint) -> About:
    """Whose moment it is; the rest is not looked at.

    Raises:
        DamagedRecord: it does not say, or is of another version.
    """
    version = _decoded(checkpoint.record, _Head).version
    if version != VERSION:
        raise DamagedRecord(f"the checkpoint is of version {version}; this esper reads version {VERSION}")
    return _decoded(checkpoint.record, _Owner).about


def _decoded(record: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(record, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedRecord(f"the checkpoint's record can't be read: {error}") from error
