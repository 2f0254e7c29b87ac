"""The gates G0 to G5: what was measured of a seed against the thresholds of the configuration.

A gate passes only on figures. What was not measured does not pass, and the verdict says so; NaN and
infinity are within no bounds. Every verdict carries its figures and the bounds they were held against.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from msgspec.structs import replace

from contracts.config import GateConfig
from contracts.growth import GateVerdict, SeedFigures, SeedRecord
from contracts.lifecycle import Gate, Stage


@dataclass(frozen=True)
class Check:
    """One figure and the closed range that it has to be in; a flag is 1 for true and 0 for false."""

    name: str
    value: float | None
    low: float = -math.inf
    high: float = math.inf

    def failure(self) -> str:
        """Why it does not hold; empty if it does."""
        if self.value is None:
            return f"{self.name} was not measured"
        if math.isfinite(self.value) and self.low <= self.value <= self.high:
            return ""
        stated = [("at least", self.low), ("at most", self.high)]
        bounds = " and ".join(f"{word} {bound:.6g}" for word, bound in stated if math.isfinite(bound))
        bounds = bounds or "finite"
        return f"{self.name} is {self.value:.6g}, has to be {bounds}"

    def figures(self) -> dict[str, float]:
        named = {self.name: self.value, f"{self.name}_min": self.low, f"{self.name}_max": self.high}
        return {name: value for name, value in named.items() if value is not None and not math.isinf(value)}


_LEARNING = frozenset({Stage.TRAINING, Stage.BLENDING, Stage.SHADOWING, Stage.PROBATIONARY})
"""Stages in which a seed's gradient is one that it learns from."""


def judge(gate: Gate, record: SeedRecord, figures: SeedFigures, config: GateConfig) -> GateVerdict:
    """The gate's verdict on `record`'s seed from what was measured of it.

    Raises:
        ValueError: the gate is not one of G0 to G5, or the figures are another seed's.
    """
    if figures.seed_id != record.seed_id:
        raise ValueError(f"the figures of {figures.seed_id} say nothing about {record.seed_id}")
    checks_of = _GATES.get(gate)
    if checks_of is None:
        raise ValueError(f"{gate!r} judges nothing; the gates are {', '.join(one.name for one in _GATES)}")
    checks = checks_of(record, figures, config)
    failures = [failure for failure in (check.failure() for check in checks) if failure]
    shown = {name: value for check in checks for name, value in check.figures().items()}
    reason = "; ".join(failures) or "every figure is within its bounds"
    return GateVerdict(gate, not failures, reason, shown, record.seed_id)


def breach(record: SeedRecord, figures: SeedFigures, config: GateConfig) -> GateVerdict | None:
    """The verdict that a seed can't be kept; None if it can, or if what would tell was not measured.

    Numbers that are not finite don't wait for the next gate: a seed that is live does harm until then. In a
    drill neither does a mean gradient beyond G1's bounds; elsewhere it may well be the task's own scale, or a
    host that has converged. It is the verdict of the gate that asks for the same where the seed is: G1 up to
    BLENDING, then G3.
    """
    checks = [
        _isolation(figures, config),
        Check("foreign_parameters", figures.foreign_parameters, high=0),
        _holds("finite", figures.finite),
        _holds("pure", figures.pure),
    ]
    wild = figures.grad_norm is not None and not math.isfinite(figures.grad_norm)
    if record.stage in _LEARNING and (record.drill or wild):
        checks.append(_gradient(figures, config))
    broken = [check for check in checks if check.value is not None and check.failure()]
    if not broken:
        return None
    gate = Gate.G1_GRADIENT_HEALTH if record.stage <= Stage.BLENDING else Gate.G3_INTERFACE
    reason = f"{'; '.join(check.failure() for check in broken)}; the seed is taken out"
    shown = {name: value for check in broken for name, value in check.figures().items()}
    return GateVerdict(gate, False, reason, shown, record.seed_id)


def tightened(config: GateConfig) -> GateConfig:
    """The thresholds of conservative mode: what passes under them passes under `config` too.

    Upper bounds are multiplied by `conservative_factor` (counts rounded down; of a ratio its excess over 1),
    lower ones divided by it.
    """
    factor = config.conservative_factor
    excess = config.interface_loss_ratio_max - 1.0
    return replace(
        config,
        jump_max=config.jump_max * factor,
        grad_norm_min=config.grad_norm_min / factor,
        grad_norm_max=config.grad_norm_max * factor,
        rms_ratio_max=config.rms_ratio_max * factor,
        interface_loss_ratio_max=1.0 + (excess * factor if excess > 0.0 else excess / factor),
        isolation_violations_max=int(config.isolation_violations_max * factor),
        gain_min=config.gain_min / factor,
        rent=config.rent / factor,
    )


def _sanity(record: SeedRecord, figures: SeedFigures, config: GateConfig) -> tuple[Check, ...]:
    return (
        _holds("finite", figures.finite),
        _holds("shape_kept", figures.shape_kept),
        Check("jump", figures.jump, high=config.jump_max),
    )


def _gradient_health(record: SeedRecord, figures: SeedFigures, config: GateConfig) -> tuple[Check, ...]:
    return (
        _holds("finite", figures.finite),
        _gradient(figures, config),
        _isolation(figures, config),
    )


def _stability(record: SeedRecord, figures: SeedFigures, config: GateConfig) -> tuple[Check, ...]:
    return (
        _holds("finite", figures.finite),
        Check("rms_ratio", figures.rms_ratio, high=config.rms_ratio_max),
    )


def _interface(record: SeedRecord, figures: SeedFigures, config: GateConfig) -> tuple[Check, ...]:
    """The host runs with the seed about as well as without, and its tensors still learn."""
    without = figures.loss_without
    slack = config.interface_loss_ratio_max - 1
    high = math.inf if without is None else without + slack * abs(without)
    return (
        Check("loss_without", without),
        Check("loss_with", figures.loss_with, high=high),
        Check("starved_tensors", figures.starved_tensors, high=0),
        _isolation(figures, config),
    )


def _system_impact(record: SeedRecord, figures: SeedFigures, config: GateConfig) -> tuple[Check, ...]:
    """The counterfactual gain, with against without the seed on the same data, pays its rent."""
    share = config.gain_min + config.rent * record.params / 1000
    low = math.inf if figures.loss_without is None else share * abs(figures.loss_without)
    return (Check("loss_without", figures.loss_without), Check("gain", figures.gain, low=low))


def _reset(record: SeedRecord, figures: SeedFigures, config: GateConfig) -> tuple[Check, ...]:
    return (_holds("cleared", figures.cleared),)


def _holds(name: str, flag: bool | None) -> Check:
    return Check(name, None if flag is None else float(flag), low=1.0)


def _gradient(figures: SeedFigures, config: GateConfig) -> Check:
    return Check("grad_norm", figures.grad_norm, config.grad_norm_min, config.grad_norm_max)


def _isolation(figures: SeedFigures, config: GateConfig) -> Check:
    return Check("isolation_violations", figures.isolation_violations, high=config.isolation_violations_max)


_GATES: Mapping[Gate, Callable[[SeedRecord, SeedFigures, GateConfig], tuple[Check, ...]]] = MappingProxyType(
    {
        Gate.G0_SANITY: _sanity,
        Gate.G1_GRADIENT_HEALTH: _gradient_health,
        Gate.G2_STABILITY: _stability,
        Gate.G3_INTERFACE: _interface,
        Gate.G4_SYSTEM_IMPACT: _system_impact,
        Gate.G5_RESET: _reset,
    }
)
