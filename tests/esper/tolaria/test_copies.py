"""Copies of a moment: equal in every bit, of nothing that changes later, small ones in one piece."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from esper.checkpoint.tensors import bits
from esper.tolaria.copies import PIECE_MAX, PLAIN, SMALL, Copies, copied, nbytes_of, packing

SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (3, 0), (2, 3), (4, 1, 2), (SMALL,), (SMALL + 1,))
OTHERS = (torch.complex64, torch.int16)


def content(tensor: Tensor) -> bytes:
    return bits(tensor).numpy().tobytes()


def packed(values: Mapping[str, object]) -> Copies:
    with packing() as copies_of:
        return copies_of(values)


def places(copies: Mapping[str, Tensor]) -> set[int]:
    """Where the storages of the tensors begin."""
    return {tensor.untyped_storage().data_ptr() for tensor in copies.values()}


@given(
    st.lists(
        st.tuples(st.sampled_from(SHAPES), st.sampled_from(sorted((*PLAIN, *OTHERS), key=str))), max_size=12
    )
)
def test_each_copy_says_what_its_tensor_said_whatever_becomes_of_it(
    kinds: list[tuple[tuple[int, ...], torch.dtype]],
) -> None:
    tensors = {
        str(n): (torch.randn(shape) * 3).to(torch.bool if dtype is torch.bool else dtype)
        for n, (shape, dtype) in enumerate(kinds)
    }
    said = {name: (one.dtype, one.shape, content(one)) for name, one in tensors.items()}
    copies = packed(tensors)
    assert nbytes_of(copies) == nbytes_of(tensors)
    for tensor in tensors.values():
        tensor.zero_()
    assert {name: (one.dtype, one.shape, content(one)) for name, one in copies.items()} == said
    assert (list(copies), len(copies)) == (list(tensors), len(tensors))


def test_nan_of_every_payload_and_negative_zero_are_kept() -> None:
    pattern = torch.tensor([0x7FC00001, -1, -(1 << 31)], dtype=torch.int32).view(torch.float32)
    assert content(packed({"one": pattern, "other": torch.ones(1)})["one"]) == content(pattern)


def test_small_tensors_of_a_kind_lie_in_one_piece_and_large_ones_by_themselves() -> None:
    small = {str(n): torch.randn(n + 1, 2) for n in range(50)}
    assert len(places(packed(small))) == 1
    assert len(places(packed({**small, "wide": torch.zeros(3, dtype=torch.float64)}))) == 2
    assert len(places(packed({"large": torch.zeros(SMALL + 1), "larger": torch.zeros(2 * SMALL)}))) == 2


@pytest.mark.parametrize("number", [1, 2])
def test_a_piece_shares_no_memory_with_what_it_was_made_of(number: int) -> None:
    tensors = {str(n): torch.ones(3) for n in range(number)}
    copies = packed(tensors)
    assert not places(copies) & places(tensors)


def test_a_piece_is_bounded() -> None:
    copies = packed({str(n): torch.full((SMALL,), float(n)) for n in range(2 * PIECE_MAX // SMALL + 1)})
    assert len(places(copies)) == 3
    assert all((tensor == float(name)).all() for name, tensor in copies.items())


def test_a_parameter_becomes_a_tensor_that_needs_no_gradient_and_has_no_history() -> None:
    weight = nn.Parameter(torch.randn(3))
    copy = packed({"weight": weight})["weight"]
    assert (type(copy), copy.requires_grad, copy.grad_fn) == (Tensor, False, None)


@pytest.mark.parametrize(
    "value",
    [
        torch.randn(6, 4).T,
        torch.randn(8, 8)[::2, ::3],
        torch.eye(3).to_sparse(),
        torch.randn(2).as_subclass(nn.Buffer),
    ],
    ids=["transposed", "strided", "sparse", "of a class of its own"],
)
def test_what_is_no_plain_run_of_numbers_is_copied_by_itself(value: Tensor) -> None:
    seen: list[object] = []

    def copy_of(one: object) -> object:
        seen.append(one)
        return copied(one)

    with packing(copy_of) as copies_of:
        copies = copies_of({"value": value, "plain": torch.ones(2)})
    assert len(seen) == 1
    assert seen[0] is value
    assert torch.equal(copies["value"].to_dense(), value.to_dense())
    assert nbytes_of(copies) == value.numel() * 4 + 8


def test_nobody_looks_into_copies_that_are_not_made_yet() -> None:
    with packing() as copies_of:
        copies = copies_of({"small": torch.ones(2)})
        with pytest.raises(ValueError, match="at the end of the block"):
            copies["small"]
    assert torch.equal(copies["small"], torch.ones(2))


def test_what_is_no_tensor_is_copied_and_what_never_changes_is_not() -> None:
    held, betas = [1, 2], (0.9, 0.999)
    copies = packed({"held": held, "betas": betas, "none": None, "array": np.arange(3)})
    held.append(3)
    assert copies["held"] == [1, 2]
    assert copies["betas"] is betas
    assert copies["none"] is None
    inner = ([1],)
    assert copied(inner) is not inner
