"""What a trial in quarantine is given and what it tells: plain data, sent as JSON."""

import msgspec

from contracts.kernels import KernelSpec

PASSES_A_STEP = 4
"""Forward passes in training mode that a trial's step takes of the module."""


class TrialTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a trial lasts, and what it holds the module to.

    Gradients are judged by the host's own, whatever its size is. The module's may be anything from 10⁻⁹ to
    10⁴ times the host's: a last layer that starts at zero, or wide weights, are no fault. What a host tensor
    gets with the module in place may be 10⁻⁶ to 10⁴ times what it gets without.
    """

    steps: int = 8
    learning_rate: float = 1e-2
    """Adam's, for the module alone; the host learns nothing here."""
    step_s_max: float = 4.0
    """Seconds of one step."""
    growth_bytes_max: int = 96 << 20
    """Resident memory at the end, above that after the first step."""
    own_gradient_min: float = 1e-9
    own_gradient_max: float = 1e4
    host_gradient_min: float = 1e-6
    host_gradient_max: float = 1e4
    jump_max: float = 1e-6
    """Largest relative change of the host's output when the module is put in."""


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One blueprint on trial at one site of the host that travels beside this."""

    spec: KernelSpec
    site: str
    terms: TrialTerms = TrialTerms()


class TrialReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a trial went; `figures` are those of the last step that was completed."""

    passed: bool
    steps: int
    """Steps completed."""
    check: str = ""
    """What was not held; "time", "memory" and "crash" are also found from outside.

    Else start, finite, gradient, host, input, repeat, thread, escape or error.
    """
    reason: str = ""
    figures: dict[str, float] = {}

    @property
    def passes(self) -> int:
        """Forward passes in training mode that the completed steps took."""
        return self.steps * PASSES_A_STEP
