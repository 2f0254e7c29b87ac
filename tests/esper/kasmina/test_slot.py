"""Names of what has grown."""

import re

from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from esper.kasmina.slot import is_grown, key_of


@given(st.text())
@example("layers.1.relu#0")
@example("keys")
@example("a__b_x2e_c")
def test_a_seed_s_key_is_a_module_s_name(seed_id: str) -> None:
    key = key_of(seed_id)
    assert re.fullmatch(r"[A-Za-z0-9_]+", key)
    modules = nn.ModuleDict({key: nn.Identity()})
    assert list(modules) == [key]


@given(st.text(), st.text())
def test_different_seeds_have_different_keys(one: str, other: str) -> None:
    assert (key_of(one) == key_of(other)) == (one == other)


def test_a_key_can_be_read_by_people() -> None:
    assert key_of("layers.1.relu#0") == "at_layers_x2e_1_x2e_relu_x23_0"


def test_only_what_hangs_on_a_graft_is_grown() -> None:
    assert is_grown("conv.esper_graft.seeds.at_s.body.weight")
    assert not is_grown("conv.my_esper_graft.weight")
