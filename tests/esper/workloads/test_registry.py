import pytest

from contracts.config import Config, GrowthConfig, RunConfig
from esper.workloads.registry import WORKLOADS, UnknownWorkload, find_workload


def test_a_workload_is_found_by_its_name() -> None:
    for name in WORKLOADS:
        assert find_workload(name).name == name


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(UnknownWorkload, match=r"no workload 'mnist2d'; there are: .*mnist1d"):
        find_workload("mnist2d")


def test_a_workload_fills_in_what_the_configuration_leaves_open() -> None:
    workload = find_workload("mnist1d")
    complete = workload.complete(Config())
    assert complete.run.gflop == workload.gflop
    assert complete.growth.sites == workload.sites
    assert complete.growth.max_params == workload.max_params


def test_what_the_configuration_states_is_kept() -> None:
    stated = Config(run=RunConfig(epochs=3), growth=GrowthConfig(sites=("conv1",), max_params=500))
    complete = find_workload("mnist1d").complete(stated)
    assert (complete.run.epochs, complete.run.gflop) == (3, None)
    assert (complete.growth.sites, complete.growth.max_params) == (("conv1",), 500)
