"""Settings that all tests share."""

import gc
import os
from collections.abc import Generator, Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, settings

from actors.runtime.interpreter import YOUNG_MAX
from tests.actors.oona.faults.ledger import Counts, FaultLedger, put, told
from tests.actors.oona.redis_server import RedisServer
from tests.examples import THOROUGH

# Importing torch inside the first example takes longer than hypothesis's own deadline.
settings.register_profile(
    "esper", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True, max_examples=50
)
settings.register_profile(THOROUGH, settings.get_profile("esper"), max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "esper"))


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One worker more than processors: many tests wait for a server, a process or the disk."""
    return (yield) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays until the end: the collector need not walk through it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        if "PYTEST_XDIST_WORKER" in os.environ:
            _load_torch()
        gc.freeze()
        gc.set_threshold(YOUNG_MAX, *gc.get_threshold()[1:])
        gc.enable()


def _load_torch() -> None:
    """All of it that tests use, its compiler too, which it loads with the first optimizer."""
    import torch

    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Torch's thread count decides bits and, on a busy machine, minutes."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for all tests that leave it whole; each takes a namespace of its own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server for one test, to be broken."""
    with RedisServer() as server:
        yield server


FAULTS = "faults"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of several says what its fault tests came to."""
    if isinstance(output := getattr(session.config, "workeroutput", None), dict):
        output[FAULTS] = msgspec.to_builtins(FaultLedger.closed)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Add it up."""
    if isinstance(output := getattr(node, "workeroutput", None), dict) and FAULTS in output:
        for scenario, seeds in msgspec.convert(output[FAULTS], dict[str, dict[int, Counts]]).items():
            for seed, counts in seeds.items():
                put(FaultLedger.closed, scenario, seed, counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The fault tests of every worker, by scenario, with their seeds."""
    for line in told(FaultLedger.closed):
        terminalreporter.write_line(line)
