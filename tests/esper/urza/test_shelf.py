"""Claims about the shelf of ready kernels."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from contracts.kernels import KernelSpec
from esper.karn.catalogue import CATALOGUE
from esper.urza.kernel import Kernel
from esper.urza.names import ArtifactRef
from esper.urza.opening import build
from esper.urza.shelf import Shelf
from tests.esper.urza.world import a_certificate, a_spec


def a_kernel(spec: KernelSpec, module: nn.Module | None = None) -> Kernel:
    module = build(spec, CATALOGUE) if module is None else module
    return Kernel(module, a_certificate(spec), ArtifactRef("", "", 0))


def test_a_kernel_is_taken_once() -> None:
    shelf, kernel = Shelf(4, 1000), a_kernel(a_spec())
    assert shelf.put(a_spec(), kernel)
    assert shelf.holds(a_spec())
    assert shelf.take(a_spec()) is kernel
    assert not shelf.holds(a_spec())
    assert shelf.take(a_spec()) is None
    assert shelf.statistics() == (0, 0, 1, 1, 0)


def test_a_newer_kernel_of_a_specification_takes_the_place_of_the_older() -> None:
    shelf, newer = Shelf(4, 1000), a_kernel(a_spec())
    shelf.put(a_spec(), a_kernel(a_spec()))
    shelf.put(a_spec(), newer)
    assert len(shelf) == 1
    assert shelf.statistics().bytes == newer.nbytes == 4 * 31
    assert shelf.take(a_spec()) is newer


def test_a_kernel_larger_than_the_shelf_is_not_put_and_nothing_leaves_for_it() -> None:
    shelf = Shelf(4, 200)
    shelf.put(a_spec(), a_kernel(a_spec()))
    assert not shelf.put(a_spec(1), a_kernel(a_spec(1), nn.Linear(10, 10)))
    assert shelf.holds(a_spec())
    assert not shelf.holds(a_spec(1))


@pytest.mark.parametrize(("entries", "size"), [(0, 10), (1, -1)])
def test_a_shelf_that_holds_nothing_is_refused(entries: int, size: int) -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        Shelf(entries, size)


@settings(max_examples=50)
@given(
    entries=st.integers(1, 4),
    bytes_max=st.integers(0, 400),
    acts=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30),
)
def test_the_shelf_holds_what_was_put_last_within_both_bounds(
    entries: int, bytes_max: int, acts: list[tuple[bool, int]]
) -> None:
    shelf, model = Shelf(entries, bytes_max), list[int]()
    for puts, draw in acts:
        if puts:
            model = [one for one in model if one != draw]
            if KERNELS[draw].nbytes <= bytes_max:
                model.append(draw)
            while len(model) > entries or sum(KERNELS[one].nbytes for one in model) > bytes_max:
                model.pop(0)
            shelf.put(a_spec(draw), KERNELS[draw])
        else:
            taken = shelf.take(a_spec(draw))
            assert taken is (KERNELS[draw] if draw in model else None)
            model = [one for one in model if one != draw]
        assert [draw for draw in range(6) if shelf.holds(a_spec(draw))] == sorted(model)
        assert shelf.statistics()[:2] == (len(model), sum(KERNELS[one].nbytes for one in model))


KERNELS = [a_kernel(a_spec(draw), nn.Linear(draw + 1, 4)) for draw in range(6)]


def test_of_many_threads_one_takes_a_kernel() -> None:
    shelf, gate, got = Shelf(100, 10**6), threading.Barrier(8), list[Kernel]()

    def take() -> None:
        gate.wait(10)
        for draw in range(50):
            kernel = shelf.take(a_spec(draw))
            if kernel is not None:
                got.append(kernel)

    for draw in range(50):
        shelf.put(a_spec(draw), a_kernel(a_spec(draw), nn.Linear(1, 1)))
    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(got) == len({id(one) for one in got}) == 50
    assert shelf.statistics()[:2] == (0, 0)
