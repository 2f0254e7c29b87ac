"""Claims about resuming a run in trouble: after any boundary it is the run that was never interrupted."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from unittest import mock

import msgspec
import pytest

from actors.company import Company, Outcome
from actors.play import Play, play_of
from actors.runtime import LoopClock
from actors.runtime.simulation import run_simulated
from contracts.messages import WallNs
from contracts.report import ResumeFacts
from contracts.view import RunFacts
from esper.assembly import Parts, assemble_parts
from esper.checkpoint.store import Checkpoint
from esper.moment import Memories, Moment, from_checkpoint, to_checkpoint
from esper.place import about_run, recall
from esper.tolaria.trainer import Timekeeping
from tests.actors.fakes import Spectator
from tests.actors.staging import surroundings
from tests.esper.tolaria.runs import same_value
from tests.esper.troubles import EPOCHS, MET, Scripted, catalogue, config, met_at, operated, task

pytestmark = pytest.mark.real
NOW_NS = 10**18
TURNS = 2
"""Boundaries that a resumed run comes through, the one where it begins included."""
NEEDED = 2
"""Moments on disk: no break of this run needs more of them to go back to."""


class Standing(LoopClock):
    """The wall clock stands still: what is told bears the same time in every process."""

    def wall_ns(self) -> WallNs:
        return NOW_NS


@dataclass
class Process:
    """One process of the run, with all its actors, in virtual time."""

    parts: Parts
    start: Moment | None = None
    before: tuple[Moment, ...] = ()
    moments: list[Moment] = field(default_factory=list)
    """Every boundary that it has come to, in order; after a rollback some are there again."""
    outcome: Outcome | None = None

    @classmethod
    def new(cls) -> "Process":
        made = task()
        parts = assemble_parts(config(), made, "troubled", Scripted(), catalogue(made.model))
        parts.trainer._time = Timekeeping(lambda: NOW_NS, lambda: 0.0)
        return cls(parts)

    @classmethod
    def resumed(cls, disk: Sequence[Checkpoint]) -> "Process":
        """One that finds these checkpoints, the newest last."""
        process = cls.new()
        *before, start = (from_checkpoint(one, process.parts.build)[1] for one in disk)
        assert recall(process.parts, start) == (), "nothing is lost"
        return replace(process, start=start, before=tuple(before))

    def run(self, turns: int = 1_000) -> "Process":
        """Train on for so many boundaries, or to the end."""
        with operated():
            self.outcome = run_simulated(lambda: self._perform(turns), seed=0)
        return self

    async def _perform(self, turns: int) -> Outcome:
        around = surroundings(clock=Standing(asyncio.get_running_loop()))
        company = Company(self._play(), around)
        keep = company.keeper.keep

        def kept(moment: Moment) -> None:
            self.moments.append(moment)
            keep(moment)
            if len(self.moments) == turns:
                company.halt("this was enough")

        with mock.patch.object(company.keeper, "keep", kept):
            outcome = await company.perform()
        await around.bus.close()
        return outcome

    def _play(self) -> Play:
        parts, start = self.parts, self.start
        run = parts.config.run
        facts = RunFacts("troubled", parts.policy.name, run.seed, "nowhere", epochs=EPOCHS)
        return replace(
            play_of(parts, "troubled", facts, Spectator()),
            stock=parts.stock,
            start=start,
            before=lambda: self.before,
            resumed=None if start is None else ResumeFacts(start.epoch),
        )


@cache
def whole() -> Process:
    """The run that nothing interrupts."""
    return Process.new().run()


def disk_at(number: int) -> list[Checkpoint]:
    """What lies on the disk when the run has come to this of its moments: the way there, the newest last."""
    process = whole()
    way = [process.moments[number]]
    for one in reversed(process.moments[:number]):
        if one.epoch < way[0].epoch:
            way.insert(0, one)
    about = about_run(process.parts, "troubled")
    return [to_checkpoint(one, about) for one in way[-NEEDED:]]


def differences(one: Moment, other: Moment) -> list[str]:
    """What differs between two moments, by name: bit for bit, but for how long things took, that there was a
    resume, and which of the closed field reports are on the disk already, which has its own time."""
    if one.epoch != other.epoch:
        return [f"epoch {one.epoch} is epoch {other.epoch}"]
    mine, its = _timeless(one.memories), _timeless(other.memories)
    parts = [(name, getattr(mine, name), getattr(its, name)) for name in mine.__struct_fields__]
    names = vars(one.snapshot).keys() - {"nbytes"}
    parts += [(name, getattr(one.snapshot, name), getattr(other.snapshot, name)) for name in names]
    odd = [name for name, left, right in parts if not same_value(left, right)]
    closed = [memories.windows.closed for memories in (one.memories, other.memories)]
    fewer = min(map(len, closed))
    if not same_value(*(reports[len(reports) - fewer :] for reports in closed)):
        odd.append("field reports")
    return odd


def _timeless(memories: Memories) -> Memories:
    recorded = memories.witness.recorded.copied()
    recorded.resumes = []
    recorded.epochs = [msgspec.structs.replace(one, boundary_ms=None) for one in recorded.epochs]
    recorded.rollbacks = [msgspec.structs.replace(one, took_ms=0.0) for one in recorded.rollbacks]
    plain = msgspec.structs.replace(
        memories,
        witness=msgspec.structs.replace(memories.witness, recorded=recorded, worked_s=0.0),
        windows=msgspec.structs.replace(memories.windows, closed=()),
    )
    return msgspec.msgpack.decode(msgspec.msgpack.encode(plain), type=Memories)  # as it is read


def test_the_run_meets_all_that_is_wanted() -> None:
    process = whole()
    met = set[str]().union(*(met_at(one.epoch, one.memories) for one in process.moments))
    assert met == MET
    assert process.outcome is not None
    assert process.outcome.conclusion.halted == ""
    recorded = process.outcome.witness.recorder.recorded
    assert [one.epoch for one in recorded.epochs] == list(range(1, EPOCHS + 1))
    assert [(one.epoch, one.to_epoch, one.kind) for one in recorded.rollbacks] == [
        (28, 27, "fast"),
        (28, 26, "fast"),
    ]


def test_resuming_after_any_boundary_comes_to_the_same_next_one() -> None:
    moments = whole().moments
    for number in range(len(moments)):
        again = Process.resumed(disk_at(number)).run(TURNS)
        expected = moments[number : number + TURNS]
        assert len(again.moments) == len(expected)
        odd = [differences(*pair) for pair in zip(expected, again.moments, strict=True)]
        assert not any(odd), f"resumed at moment {number}, of epoch {moments[number].epoch}: {odd}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_resuming_after_any_boundary_ends_in_the_same_bits() -> None:
    process = whole()
    assert process.outcome is not None
    for number in range(len(process.moments)):
        again = Process.resumed(disk_at(number)).run()
        assert again.outcome is not None
        expected = process.moments[number:]
        assert len(again.moments) == len(expected)
        odd = [differences(*pair) for pair in zip(expected, again.moments, strict=True)]
        assert not any(odd), f"resumed at moment {number}, of epoch {expected[0].epoch}: {odd}"
        assert again.outcome.conclusion.final == process.outcome.conclusion.final
        left, right = (one.parts.model.state_dict() for one in (process, again))
        assert same_value(dict(left), dict(right))
