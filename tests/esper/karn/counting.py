"""A blueprint that counts how often its costs are asked for."""

from collections.abc import Mapping

from contracts.growth import SiteInfo
from esper.karn.blueprints.identity import Identity


class Counting(Identity):
    """Counts how often its costs are asked for."""

    counted = 0

    def _params(self, site: SiteInfo, size: Mapping[str, int]) -> int:
        Counting.counted += 1
        return super()._params(site, size)
