"""The order in which actors start, from who asks whom."""

import graphlib
from collections.abc import Mapping

from actors.runtime.errors import AskCycle, UnknownActor


def start_order(asks: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Names such that whoever is asked comes before whoever asks; as spawned where that leaves a choice.

    Raises `AskCycle` naming the circle, or `UnknownActor`.
    """
    for name, asked in asks.items():
        for target in asked:
            if target not in asks:
                raise UnknownActor(name, target, tuple(asks))
    try:
        return list(graphlib.TopologicalSorter(asks).static_order())
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1]
        # graphlib lists each name before the one that waits for it; we read "a → b" as "a asks b".
        raise AskCycle(tuple(reversed(circle))) from None
