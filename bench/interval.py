"""How far a median can be trusted, whatever the distribution of what it is the median of."""

from collections.abc import Sequence
from math import comb

MISSED_AT_MOST = 0.05


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median from order statistics (Conover 1999, section 3.2).

    The k-th smallest and the k-th largest value, k as large as possible. Fewer than six values can't
    give 95 %: then it is the smallest and the largest. Values must be independent of one another.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("an interval of no values; measure at least one")
    ordered = sorted(values)
    n, k = len(ordered), 1
    missed = 2.0 / 2**n  # that the median lies outside: all values on one side of it
    while k + 1 <= (n + 1) // 2:
        missed += 2.0 * comb(n, k) / 2**n
        if missed > MISSED_AT_MOST:
            break
        k += 1
    return ordered[k - 1], ordered[n - k]
