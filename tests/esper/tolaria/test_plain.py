import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.tolaria.plain import Plain, kept, original

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["$tuple", "$table", ""])
)
KEYS = st.text(max_size=4) | st.sampled_from(["$tuple", "$counter"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(st.integers(-5, 5), inner, max_size=3),
        st.dictionaries(st.integers(0, 5), st.integers(1, 3), max_size=3).map(Counter),
    ),
    max_leaves=12,
)


def back(values: dict[str, Plain]) -> dict[str, object]:
    """As a checkpoint would give them back."""
    return {key: original(value) for key, value in json.loads(json.dumps(values)).items()}


def same(left: object, right: object) -> bool:
    """Equal, and of the same types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4))
def test_what_is_kept_comes_back_through_text_as_it_was(values: dict[str, object]) -> None:
    plain, lost = kept(values)
    assert lost == ()
    assert same(back(plain), values)


@given(st.floats())
def test_a_number_comes_back_bit_for_bit(number: float) -> None:
    came = back(kept({"number": number})[0])["number"]
    assert isinstance(came, float)
    assert math.isnan(came) if math.isnan(number) else came.hex() == number.hex()


def test_numbers_of_others_are_plain_numbers_and_tensors_keep_their_kind() -> None:
    values = {"a": np.float64(0.1), "b": np.int64(3), "c": torch.tensor([0.1, 2.0]), "d": torch.tensor(7)}
    came = back(kept(values)[0])
    assert (came["a"], came["b"]) == (0.1, 3)
    assert (type(came["a"]), type(came["b"])) == (float, int)
    for name in "cd":
        tensor = came[name]
        assert isinstance(tensor, torch.Tensor)
        assert torch.equal(tensor, values[name])
        assert tensor.dtype == values[name].dtype


def test_what_can_not_be_kept_is_named_and_the_rest_is_kept() -> None:
    values = {"run": print, "deep": {"model": torch.nn.ReLU(), "rate": 0.5}, "many": [1, len], "rate": 0.1}
    plain, lost = kept(values)
    assert plain == {"deep": {"rate": 0.5}, "rate": 0.1}
    assert lost == (
        "run (builtin_function_or_method)",
        "deep.model (ReLU)",
        "many.1 (builtin_function_or_method)",
    )


def test_what_holds_itself_ends_as_lost() -> None:
    ring: list[object] = []
    ring.append(ring)
    plain, lost = kept({"ring": ring, "rate": 1.0})
    assert plain == {"rate": 1.0}
    assert "nested too deep" in lost[0]


@pytest.mark.parametrize(
    "damaged",
    [
        {"$tuple": 3},
        {"$code": "import os"},
        {"$tuple": [], "more": 1},
        {"$table": [[1, 2, 3]]},
        {"$counter": [[1, "x"]]},
        {"$tensor": ["torch.void", [1]]},
        {"$tensor": ["torch.float32", "x"]},
    ],
)
def test_what_was_never_made_by_keeping_is_refused(damaged: Plain) -> None:
    with pytest.raises((ValueError, TypeError)):
        original(damaged)
