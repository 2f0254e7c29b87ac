"""What a workload is: a host, its data, where it may grow, and how long a run of it takes."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from contracts.config import Config
from contracts.growth import Layout
from esper.tolaria.task import Task


@dataclass(frozen=True)
class Workload:
    """One named host with its data.

    `task(seed)` makes the host with the initial weights of that seed; the data are the same for every
    seed. `gflop` is the length of a run that states none, in training GFLOP.
    """

    name: str
    description: str
    sites: tuple[str, ...]
    max_params: int
    gflop: float
    task: Callable[[int], Task]
    layouts: dict[str, Layout] = field(default_factory=dict)

    def complete(self, config: Config) -> Config:
        """`config` with this workload's own values wherever it leaves them open."""
        run, growth = config.run, config.growth
        if run.epochs is None and run.gflop is None:
            run = msgspec.structs.replace(run, gflop=self.gflop)
        growth = msgspec.structs.replace(
            growth,
            sites=growth.sites or self.sites,
            layouts=growth.layouts or self.layouts,
            max_params=growth.max_params or self.max_params,
        )
        return msgspec.structs.replace(config, run=run, growth=growth)
