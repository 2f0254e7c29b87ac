"""Drill permission: without one nobody finds, builds or germinates a blueprint that is for drills alone.

It is an object that whoever assembles the drill hands to the engine. No command, policy or setting makes one.
To germinate takes more: a permission covers only designs that have passed their trial in quarantine.
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
