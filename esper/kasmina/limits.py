"""How much may grow at once: seeds by count, their parameters, and the memory that they take.

Only seeds whose fate is open count, paused ones among them. What one takes in memory is an estimate, of
its parameters and of the copies that are kept until its fate is decided:

    weights + gradients + optimizer state       of the seed
    weights + optimizer state                   of the seed, in each boundary kept in memory
    weights + optimizer state                   of the whole network, to roll back to before the graft

Activations are not in it: they come and go within a step, and what a module keeps of a mini-batch is only
known once it has run on one. Buffers are left out too: a batch norm's are four values a channel at most.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from contracts.config import Config, GrowthConfig
from esper.kasmina.graft import Grafts

BYTES_PER_MB = 1_000_000
DECIDE_FIRST = "fossilize or cull one first"


@dataclass(frozen=True)
class Burden:
    """What a parameter of a seed takes."""

    value_bytes: int = 4
    """Of one value of the host's floating type."""
    state_values: int = 2
    """Values that the optimizer keeps of a parameter."""
    boundaries: int = 5
    """Boundaries that are kept in memory."""

    @property
    def kept(self) -> int:
        """Bytes of one parameter in a copy: its weight and its optimizer state."""
        return self.value_bytes * (1 + self.state_values)

    @property
    def own(self) -> int:
        """Bytes of one parameter of a seed, its copies in the kept boundaries included."""
        return self.kept + self.value_bytes + self.boundaries * self.kept

    def of(self, params: Sequence[int], params_now: int) -> int:
        """Estimated bytes of seeds with these numbers of parameters, in a network of `params_now`."""
        return sum(params) * self.own + len(params) * params_now * self.kept


ADAMS: Final = Burden()
"""Of a host of 32 bits under Adam."""
_STATE_VALUES: Final = {"adam": 2, "adamw": 2, "adam_amsgrad": 3, "sgd": 0, "rmsprop": 1}
"""By optimizer, its momentum apart, which is one value more."""


def burden_of(grafts: Grafts, config: Config) -> Burden:
    """What a parameter takes in this run.

    An optimizer that the task brings along is taken to keep as much as the configured one.
    """
    train = config.train
    sizes = [parameter.element_size() for _, parameter in grafts.host_named_parameters()]
    momentum = train.momentum != 0.0 if train.optimizer == "sgd" else bool(train.momentum)
    return Burden(
        value_bytes=max(sizes, default=4),
        state_values=_STATE_VALUES[train.optimizer] + momentum,
        boundaries=config.checkpoint.boundaries,
    )


@dataclass(frozen=True)
class Limits:
    """What the configuration allows; `active` are the parameters of each seed whose fate is open."""

    config: GrowthConfig
    burden: Burden = ADAMS

    def refusal(self, params: int, active: Sequence[int], params_now: int) -> str:
        """Why a seed of `params` can't grow now: the limit, the figure, and what would work; empty if it can.

        `params_now` counts the grown network as it is.
        """
        config, together = self.config, sum(active)
        if len(active) >= config.max_active:
            return f"{len(active)} seeds are active and max_active is {config.max_active}: {DECIDE_FIRST}"
        if config.max_params is not None and params_now + params > config.max_params:
            return (
                f"{params} more parameters would make {params_now + params}, and max_params is "
                f"{config.max_params}: at most {max(config.max_params - params_now, 0)} fit"
            )
        if config.max_active_params is not None and together + params > config.max_active_params:
            return (
                f"{params} more parameters would make {together + params} of seeds whose fate is open, and "
                f"max_active_params is {config.max_active_params}: {self._advice(active, params_now)}"
            )
        taken = self.burden.of([*active, params], params_now)
        if config.max_active_mb is not None and taken > config.max_active_mb * BYTES_PER_MB:
            return (
                f"with {params} more parameters the seeds whose fate is open would take "
                f"{taken / BYTES_PER_MB:.1f} MB, and max_active_mb is {config.max_active_mb}: "
                f"{self._advice(active, params_now)}"
            )
        return ""

    def room(self, active: Sequence[int], params_now: int) -> int:
        """Parameters that one more seed may have beside the active ones; 0 if not even one fits."""
        config, found = self.config, sys.maxsize
        if config.max_active_params is not None:
            found = min(found, config.max_active_params - sum(active))
        if config.max_active_mb is not None:
            left = config.max_active_mb * BYTES_PER_MB - self.burden.of([*active, 0], params_now)
            found = min(found, left // self.burden.own)
        return max(0, found)

    def _advice(self, active: Sequence[int], params_now: int) -> str:
        room = self.room(active, params_now)
        if room > 0:
            return f"at most {room} fit" + (f", or {DECIDE_FIRST}" if active else "")
        return DECIDE_FIRST if active else "raise it"
