"""A seed's own random stream."""

import random

import numpy as np
import pytest
import torch

from esper.kasmina.stream import RandomStream, kept_streams


def draws(normal: bool = False) -> tuple[float, float, float]:
    """One number of each global stream."""
    if normal:  # numpy keeps the second of a pair
        return torch.randn(()).item(), random.gauss(0.0, 1.0), float(np.random.randn())
    return torch.rand(()).item(), random.random(), float(np.random.rand())


@pytest.mark.parametrize("normal", [False, True])
def test_the_global_streams_go_on_as_if_nothing_had_flowed(normal: bool) -> None:
    with kept_streams():
        before = draws(normal)
        with kept_streams():
            expected = draws(normal)
        with RandomStream(0).flowing():
            draws(normal)
        assert draws(normal) == expected
        assert before != expected


def test_each_flow_is_new_and_a_stream_goes_on_from_where_another_had_been() -> None:
    stream, flows = RandomStream(3, "s#0"), []
    for _ in range(3):
        with stream.flowing():
            flows.append(draws())
    assert len(set(flows)) == 3
    assert stream.flowed == 3
    with RandomStream(3, "s#0", flowed=2).flowing():
        assert draws() == flows[2]
    for other in (RandomStream(4, "s#0"), RandomStream(3, "s#1")):
        with other.flowing():
            assert draws() != flows[0]


def test_a_flow_does_not_depend_on_the_global_streams() -> None:
    found = []
    for seed in (0, 1):
        with kept_streams():
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            with RandomStream(0).flowing():
                found.append(draws())
    assert found[0] == found[1]


def test_the_streams_come_back_after_a_failure() -> None:
    with kept_streams():
        with kept_streams():
            expected = draws()
        with pytest.raises(KeyError, match="inside"), RandomStream(0).flowing():
            raise KeyError("inside")
        assert draws() == expected
