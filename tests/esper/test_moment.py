"""Claims about the way to a moment: which files on disk the run came by, and which it went back from."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, Literal, TypeAlias, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.config import CheckpointConfig, Config
from contracts.emergency import EmergencyState
from contracts.report import ResumeFacts, RollbackFacts
from esper import moment as moments
from esper import place as places
from esper.checkpoint.store import Checkpoint, CheckpointStore
from esper.kasmina.engine import EngineState
from esper.moment import About, Memories, Moment, WitnessMemory, from_checkpoint, to_checkpoint
from esper.place import Place
from esper.report.record import Recorded, Recorder
from esper.tamiyo.controller import ControllerMemory
from esper.tamiyo.observation import ObservationMemory
from esper.tolaria.snapshot import Snapshot
from tests.esper.checkpoint.crashing import RUN, DiskFiles, a_disk

CONFIG: Final = Config(checkpoint=CheckpointConfig(boundaries=100))
ABOUT: Final = About("run", CONFIG, {}, {}, "policy")
Step: TypeAlias = tuple[Literal["train", "go back", "kill"], int, bool]
"""What happens; how many epochs are trained besides the first, or gone back over, or files can't be read when
the run is taken up; whether the moments that follow come to the disk."""
STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(["train", "train", "train", "go back", "kill"]), st.integers(0, 4), st.booleans()
    ),
    max_size=30,
)


@dataclass(frozen=True)
class Named:
    """A trainer's half that is nothing but a name."""

    name: int
    nbytes: int = 0


@pytest.fixture(autouse=True, scope="module")
def _nothing_but_names() -> Iterable[None]:
    def written(snapshot: Any) -> tuple[bytes, dict[str, Any]]:
        return str(snapshot.name).encode(), {}

    def read(trainer: bytes, tensors: object, build: object) -> Named:
        return Named(int(trainer))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "to_record", written)
        patch.setattr(moments, "from_record", read)
        yield


def those_of(recorded: Recorded, emergency: EmergencyState) -> Memories:
    """Memories of nothing but this."""
    mind = ControllerMemory("policy", "1", 0), EngineState(()), ObservationMemory()
    return Memories(*mind, WitnessMemory(recorded), emergency)


class Life:
    """A run in all its processes, and what really happened to it."""

    def __init__(self) -> None:
        self.disk = DiskFiles(a_disk())
        self.store = CheckpointStore(RUN, 1_000, self.disk)
        self.recorder = Recorder()
        self.way: tuple[Moment, ...] = ()
        """The moments that the run came by; of one epoch perhaps several, the newest last."""
        self.ways: dict[int, tuple[Moment, ...]] = {}
        """The way to each moment that there ever was, by its name."""
        self.written: list[Checkpoint] = []

    @property
    def epoch(self) -> int:
        return self.way[-1].epoch if self.way else 0

    def keep(self, epoch: int, *, write: bool) -> None:
        """A moment, and whether the disk takes it."""
        memories = those_of(self.recorder.recorded.copied(), EmergencyState())
        moment = Moment(epoch, cast(Snapshot, Named(len(self.ways))), memories)
        self.ways[name_of(moment)] = self.way
        self.way = (*self.way, moment)
        if write:
            self.written.append(to_checkpoint(moment, ABOUT))
            self.store.save(self.written[-1])

    def go_back(self, epochs: int) -> None:
        """To the end of an epoch so far back."""
        there = [one for one in self.way if one.epoch <= self.epoch - epochs]
        if there:
            facts = RollbackFacts(self.epoch + 1, there[-1].epoch, "fast", "it broke", float(len(self.ways)))
            self.recorder.rolled_back(there[-1].memories.witness.recorded, facts)
            self.way = tuple(there)

    def resume(self, unread: int = 0) -> tuple[list[int], list[int]]:
        """The names of the earlier moments that a new process finds, and of those that it should find.

        The newest files were not to be read for a moment, so many of them: it goes on from the one before.
        """
        if not self.written:
            return [], []
        newest = self.written[max(0, len(self.written) - 1 - unread)]
        self.store = CheckpointStore(RUN, 1_000, self.disk)
        place = Place(RUN, cast(Any, SimpleNamespace(build=None)), ABOUT, self.store)
        start = from_checkpoint(newest, cast(Any, None))[1]
        found = [name_of(one) for one in places._before(place, start)]
        way = self.ways[name_of(start)]
        self.way = (*way, start)
        self.recorder = Recorder(start.memories.witness.recorded.copied())
        self.recorder.resumed(ResumeFacts(start.epoch, (f"taken up as moment {len(self.ways)}",)))
        on_disk = {name_of(from_checkpoint(one, cast(Any, None))[1]) for one in self.written}
        by_epoch = {one.epoch: name_of(one) for one in way if name_of(one) in on_disk}
        return found, [name for epoch, name in sorted(by_epoch.items()) if epoch < start.epoch]


def name_of(moment: Moment) -> int:
    return cast(Named, moment.snapshot).name


@given(STEPS)
@example([("train", 0, True), ("train", 0, True), ("kill", 1, True), ("kill", 1, False)])
@example([("train", 0, False), ("train", 0, True), ("go back", 1, True), ("kill", 1, False)])
@example([("train", 1, True), ("kill", 1, False), ("train", 0, False), ("train", 0, True)])
@settings(max_examples=20)
def test_a_resumed_run_finds_the_moments_that_it_came_by_and_no_other(steps: list[Step]) -> None:
    life = Life()
    for what, epochs, write in [*steps, ("kill", 0, True)]:
        match what:
            case "train":
                for _ in range(epochs + 1):
                    life.keep(life.epoch + 1, write=write)
            case "go back":
                life.go_back(epochs)
                life.keep(life.epoch, write=write)
            case "kill":
                found, expected = life.resume(unread=epochs)
                assert found == expected
                life.keep(life.epoch, write=write)


def test_what_was_undone_is_no_past_though_the_write_behind_the_rollback_failed() -> None:
    life = Life()
    for epoch in range(1, 7):
        life.keep(epoch, write=True)
    life.go_back(3)
    life.keep(3, write=False)
    for epoch in (4, 5, 6):
        life.keep(epoch, write=False)
    life.keep(7, write=True)
    found, _ = life.resume()
    assert found == [0, 1, 2], "epochs 4 to 6 on the disk did not happen"


def test_what_does_not_say_what_it_has_come_by_is_passed_over() -> None:
    life = Life()
    for epoch in (1, 2, 3):
        life.keep(epoch, write=True)
    life.store.save(Checkpoint(2, b"no record", {}))
    life.keep(4, write=True)
    assert life.resume()[0] == [0, 1, 2]
