"""Drill permission: what lets a run germinate a blueprint that is never germinated otherwise.

It is an object that whoever assembles the run hands to the engine. No command, policy or setting makes one,
and it covers only designs that have passed their trial in quarantine.
"""

from contracts.kernels import Design


class DrillPermission:
    """The designs that may be germinated in this run's drill."""

    def __init__(self) -> None:
        self._passed: set[str] = set()

    def admit(self, design: Design) -> None:
        """`design` has passed its trial."""
        self._passed.add(design.key)

    def covers(self, design: Design) -> bool:
        """Whether `design`, with exactly these settings at a site of this shape, has passed its trial."""
        return design.key in self._passed
