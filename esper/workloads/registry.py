"""The workloads that there are, by name."""

from esper.workloads.mnist1d import MNIST1D
from esper.workloads.workload import Workload

WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in (MNIST1D,)}


class UnknownWorkload(ValueError):
    """No workload has that name."""


def find_workload(name: str) -> Workload:
    """The workload called `name`.

    Raises:
        UnknownWorkload: there is none; the message names those that there are.
    """
    workload = WORKLOADS.get(name)
    if workload is None:
        raise UnknownWorkload(f"there is no workload {name!r}; there are: {', '.join(sorted(WORKLOADS))}")
    return workload
