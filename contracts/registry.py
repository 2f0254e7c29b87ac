"""What a run says of itself in the registry, where other processes look for it."""

import msgspec

from contracts.growth import SiteInfo
from contracts.messages import WallNs
from contracts.report import Ending, EpochFacts
from contracts.view import Phase, ProbeProgress, RunFacts

SITES_NAMED = 100
"""Sites that an entry names at most."""


class ControlFacts(msgspec.Struct, frozen=True):
    """The ungrown host that is trained for comparison, as far as it has come."""

    params: int
    budget_flops: int
    newest: EpochFacts | None = None


class Pulse(msgspec.Struct, frozen=True):
    """A sign of life, with what changes too often or too little to be published."""

    number: int
    """1, 2, ... in one run."""
    phase: Phase = "starting"
    elapsed_s: float = 0.0
    bus_depth: int = 0
    probe: ProbeProgress | None = None
    control: ControlFacts | None = None
    epoch: int = 0
    """Epochs of the run that are finished, the comparison's not counted."""


class RunEntry(msgspec.Struct, frozen=True):
    """One run. Everything of its course that has to be trusted comes over the bus instead."""

    run_id: str
    """Also the namespace of its bus."""
    facts: RunFacts
    started_ns: WallNs
    sites: tuple[SiteInfo, ...] = ()
    signed: bool = False
    """Whether its messages are signed."""
    pulse: Pulse = Pulse(0)
    ended: Ending | None = None
    closing: str = ""
    """What came of it in one sentence; empty until it has ended."""


class ListedRun(msgspec.Struct, frozen=True):
    """An entry, and whether its run gave a sign of life in the last seconds."""

    entry: RunEntry
    alive: bool
