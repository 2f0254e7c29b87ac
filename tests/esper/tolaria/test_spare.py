"""Copies that lie in spare room: nothing that can be reached ever changes, and room is really used again."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack

from esper.checkpoint.tensors import bits, lay_out, pieces
from esper.tolaria import copies as copies_module
from esper.tolaria.snapshot import Snapshot
from esper.tolaria.spare import LEAST_BYTES, Spare
from esper.tolaria.trainer import Trainer
from tests.esper.tolaria.runs import same_snapshot, same_value
from tests.esper.tolaria.world import config, insert, live, plan, remove, trainer

BOUNDARIES = 5
DTYPES = (
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.bool,
    torch.complex64,
)
ALIASES: dict[str, Callable[[Tensor], Any]] = {
    "view": lambda tensor: tensor.view(-1)[1:],
    "transposed": lambda tensor: tensor.unsqueeze(0).transpose(0, -1),
    "detached": lambda tensor: tensor.detach(),
    "bytes of a checkpoint": lambda tensor: bits(tensor).numpy().data,
    "array": lambda tensor: bits(tensor).numpy()[2:],
    "exported": lambda tensor: from_dlpack(bits(tensor)),
    "storage": lambda tensor: tensor.untyped_storage(),
}


def content(alias: Any) -> bytes:
    """All bytes that can be read through it."""
    if isinstance(alias, Tensor):
        return bits(alias).numpy().tobytes()
    return bytes(alias)


def copies(spare: Spare, *values: Tensor) -> list[Tensor]:
    with spare.copying() as copy_of:
        return [copy_of(value) for value in values]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_copy_is_the_same_in_every_bit_and_shares_nothing(dtype: torch.dtype) -> None:
    value = (torch.arange(60).reshape(3, 4, 5) % 7).to(dtype)
    (copy,) = copies(Spare(1), value)
    assert (copy.dtype, copy.shape, content(copy)) == (value.dtype, value.shape, content(value))
    value.zero_()
    assert content(copy) != content(value)


@pytest.mark.parametrize(
    "value",
    [
        torch.randn(2, 8, 3, 3).to(memory_format=torch.channels_last),
        torch.randn(6, 4).T,
        torch.randn(8, 8)[::2, ::3],
        torch.randn(8, 1).expand(8, 8),
        torch.randn(4, 4, dtype=torch.complex64).conj(),
        nn.Parameter(torch.randn(3)),
    ],
    ids=["channels last", "transposed", "strided", "expanded", "conjugate", "parameter"],
)
def test_a_copy_lies_in_memory_as_a_clone_would(value: Tensor) -> None:
    (copy,) = copies(Spare(1), value)
    clone = value.detach().clone()
    assert (copy.stride(), copy.requires_grad, type(copy)) == (clone.stride(), False, Tensor)
    assert torch.equal(copy, clone)


def test_what_is_no_tensor_and_what_is_small_is_copied_as_ever() -> None:
    spare = Spare()
    held, small = [1, 2], torch.zeros(LEAST_BYTES // 4 - 1)
    with spare.copying() as copy_of:
        assert copy_of(3.5) == 3.5
        assert copy_of(held) == held
        assert copy_of(held) is not held
        copy = copy_of(small)
    assert torch.equal(copy, small)
    del copy
    assert spare.nbytes == 0
    large = torch.zeros(LEAST_BYTES // 4)
    del (copies(spare, large))[0]
    assert spare.nbytes == LEAST_BYTES


def test_the_room_of_a_copy_that_is_let_go_takes_up_the_next_of_its_size() -> None:
    spare, value = Spare(1), torch.randn(10, 10)
    (first,) = copies(spare, value)
    where = first.data_ptr()
    (second,) = copies(spare, value)
    assert second.data_ptr() != where, "the first is held"
    del first
    assert spare.nbytes == value.nbytes
    (third,) = copies(spare, torch.ones(25, 4))
    assert (third.data_ptr(), spare.nbytes) == (where, 0)
    assert torch.equal(third, torch.ones(25, 4))
    assert torch.equal(second, value)


@pytest.mark.parametrize("alias_of", ALIASES.values(), ids=ALIASES.keys())
def test_room_that_anyone_can_still_reach_is_not_spare(alias_of: Callable[[Tensor], object]) -> None:
    spare, value = Spare(1), torch.randn(10, 10)
    (first,) = copies(spare, value)
    alias = alias_of(first)
    known = content(alias)
    del first
    assert spare.nbytes == 0
    (second,) = copies(spare, -value)
    assert content(alias) == known
    del alias
    assert spare.nbytes == value.nbytes
    assert torch.equal(second, -value)


def test_no_more_lies_spare_than_the_newest_moment_takes() -> None:
    spare, values = Spare(1), [torch.randn(100), torch.randn(100), torch.randn(30)]
    moments = [copies(spare, *values) for _ in range(6)]
    moments.clear()
    assert spare.nbytes == sum(value.nbytes for value in values)


def test_what_the_network_has_no_more_use_for_is_let_go() -> None:
    spare, host, seed = Spare(1), torch.randn(100), torch.randn(30)
    grown = copies(spare, host, seed)
    bare = copies(spare, host)
    grown.clear()
    assert spare.nbytes == host.nbytes, "no tensor is of the seed's size any more"
    bare.clear()
    assert spare.nbytes == host.nbytes
    other = copies(spare, torch.randn(7))
    assert spare.nbytes == 0
    assert len(other) == 1


def test_a_writer_in_a_thread_of_its_own_has_the_bytes_of_its_moment_to_the_last() -> None:
    spare, values = Spare(1), {f"w{n}": torch.randn(50, 50) for n in range(4)}
    begun, goes_on, written = threading.Event(), threading.Event(), list[bytes]()

    def write(moment: dict[str, Tensor]) -> None:
        for number, piece in enumerate(pieces(lay_out(moment), moment)):
            if number == 2:
                begun.set()
                assert goes_on.wait(10)
            written.append(bytes(piece))

    def kept(step: int) -> dict[str, Tensor]:
        return dict(zip(values, copies(spare, *(value + step for value in values.values())), strict=True))

    ring = deque([kept(0)], maxlen=BOUNDARIES)
    expected = b"".join(pieces(lay_out(ring[0]), ring[0]))
    writer = threading.Thread(target=write, args=(ring[0],))
    writer.start()
    assert begun.wait(10)
    for step in range(1, 20):
        ring.append(kept(step))
    goes_on.set()
    writer.join()
    assert b"".join(written) == expected
    assert spare.nbytes == sum(value.nbytes for value in values.values())


class Moments(RuleBasedStateMachine):
    """Moments kept, let go and looked at in any order, of a network that trains, grows and is culled."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = Spare(1)
        self.network: list[Tensor] = [torch.zeros(4, 4)]
        self.moments: list[tuple[list[Tensor], list[bytes]]] = []
        self.aliases: list[tuple[object, bytes]] = []
        self.newest = 0
        self.clock = 0

    @rule(size=st.sampled_from([3, 4, 16]), dtype=st.sampled_from(DTYPES))
    def grow(self, size: int, dtype: torch.dtype) -> None:
        self.network.append(torch.zeros(size, 2, dtype=dtype))

    @precondition(lambda self: self.network)
    @rule(data=st.data())
    def cull(self, data: st.DataObject) -> None:
        self.network.pop(data.draw(st.integers(0, len(self.network) - 1)))

    @rule()
    def keep(self) -> None:
        self.clock += 1
        for tensor in self.network:  # it trains all the time
            tensor.fill_(self.clock % 2 if tensor.dtype is torch.bool else self.clock)
        moment = copies(self.spare, *self.network)
        assert [content(copy) for copy in moment] == [content(tensor) for tensor in self.network]
        self.moments.append((moment, [content(tensor) for tensor in self.network]))
        self.newest = sum(tensor.nbytes for tensor in self.network)

    @precondition(lambda self: self.moments)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        self.moments.pop(data.draw(st.integers(0, len(self.moments) - 1)))

    @precondition(lambda self: any(moment for moment, _ in self.moments))
    @rule(data=st.data(), how=st.sampled_from(sorted(ALIASES)))
    def hold_a_part(self, data: st.DataObject, how: str) -> None:
        moment = data.draw(st.sampled_from([n for n, (held, _) in enumerate(self.moments) if held]))
        held = self.moments[moment][0]
        alias = ALIASES[how](held[data.draw(st.integers(0, len(held) - 1))])
        self.aliases.append((alias, content(alias)))

    @precondition(lambda self: self.aliases)
    @rule(data=st.data())
    def let_go_of_the_part(self, data: st.DataObject) -> None:
        self.aliases.pop(data.draw(st.integers(0, len(self.aliases) - 1)))

    @invariant()
    def nothing_that_is_held_has_changed(self) -> None:
        for moment, known in self.moments:
            assert [content(tensor) for tensor in moment] == known
        for alias, seen in self.aliases:
            assert content(alias) == seen

    @invariant()
    def no_more_is_spare_than_one_moment(self) -> None:
        assert self.spare.nbytes <= self.newest

    @invariant()
    def no_two_copies_lie_in_the_same_place(self) -> None:
        places = sorted(
            (tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes)
            for held, _ in self.moments
            for tensor in held
        )
        assert all(one[1] <= other[0] for one, other in pairwise(places))


TestMoments = Moments.TestCase
TestMoments.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def values_of(snapshot: Snapshot) -> list[Tensor]:
    """All tensors that were copied for it."""
    kept = [value for entries in snapshot.optimizer.entries.values() for value in entries.values()]
    values = (*snapshot.network.tensors.values(), *kept)
    return [value for value in values if isinstance(value, Tensor)]


def words(snapshot: Snapshot) -> list[bytes]:
    """What they say."""
    return [content(value) for value in values_of(snapshot)]


def places(snapshot: Snapshot) -> set[int]:
    """Where they lie."""
    return {value.data_ptr() for value in values_of(snapshot)}


@pytest.fixture
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no tensor is packed with others."""
    monkeypatch.setattr(copies_module, "SMALL", 0)


def sparing() -> tuple[Trainer, Spare]:
    """A trainer that copies its smallest tensor into spare room too."""
    one, spare = trainer(config(epochs=100, epoch_steps=2)), Spare(1)
    one._machine = replace(one._machine, spare=spare)
    return one, spare


def turn(one: Trainer, number: int) -> Snapshot:
    """An epoch, before which a seed comes or goes now and then; what is kept after it."""
    seeds = one._grafts.seed_ids()
    if seeds and number % 3 == 0:
        one.apply(plan(remove(seeds[0], number)))
    elif not seeds and number % 3 != 0:
        one.apply(plan(insert(f"one#{number}", number), live(f"one#{number}", number)))
    one.run_epoch()
    return one.keep()


@dataclass
class Ring:
    """The last moments of a run, as a keeper has them, with one that is being written, and what each said."""

    moments: deque[tuple[Snapshot, list[bytes]]] = field(default_factory=deque)
    writing: tuple[Snapshot, list[bytes]] | None = None

    def keep(self, moment: Snapshot) -> None:
        self.moments.append((moment, words(moment)))
        if len(self.moments) > BOUNDARIES:
            self.moments.popleft()

    def look(self) -> None:
        """Nothing has changed."""
        for moment, said in (*self.moments, *filter(None, [self.writing])):
            assert words(moment) == said


@pytest.mark.usefixtures("nothing_is_small")
def test_no_moment_of_the_ring_changes_whatever_the_run_does_and_each_can_be_gone_back_to() -> None:
    one, spare = sparing()
    ring, number = Ring(), 0
    for back in range(BOUNDARIES):
        for _ in range(BOUNDARIES + 1 - len(ring.moments)):
            number += 1
            ring.keep(turn(one, number))
            if number % 4 == 0:  # the writer begins with another moment only now
                ring.writing = ring.moments[-1]
            ring.look()
        there, said = ring.moments[-1 - back]
        one.restore(there)
        assert same_snapshot(one.keep(), there, spent=False)
        while len(ring.moments) > BOUNDARIES - back:
            ring.moments.pop()
        ring.look()
        assert words(there) == said
    assert 0 < spare.nbytes <= there.network.nbytes + there.optimizer.nbytes


@pytest.mark.usefixtures("nothing_is_small")
def test_a_run_that_copies_into_spare_room_is_the_run_that_does_not_and_takes_room_for_six() -> None:
    one, spare = sparing()
    other, _ = sparing()
    other._machine = replace(other._machine, spare=Spare(1 << 60))
    ring, seen, taken, most = deque[Snapshot](maxlen=BOUNDARIES), set[int](), 0, 0
    for number in range(20):
        newest = turn(one, number)
        plain = turn(other, number)
        assert same_value(newest.network, plain.network)
        assert same_value(newest.optimizer, plain.optimizer)
        ring.append(newest)
        assert spare.nbytes <= newest.network.nbytes + newest.optimizer.nbytes
        seen |= places(newest)
        taken, most = taken + len(places(newest)), max(most, len(places(newest)))
    assert len(seen) <= (BOUNDARIES + 2) * most < taken / 2, "room is used again, over growth and culls"


@pytest.mark.usefixtures("nothing_is_small")
def test_growth_takes_new_room_for_what_has_grown_alone() -> None:
    one, _ = sparing()
    one.run_epoch()
    bare = one.keep()
    before, count = places(bare), len(bare.network.tensors)
    del bare
    one.apply(plan(insert("one#0"), live("one#0")))
    grown = one.keep()
    assert len(grown.network.tensors) > count
    assert len(places(grown) & before) == len(before)
