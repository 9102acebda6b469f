"""Tests for regressions: whether what was measured again is worse than before, and not by chance alone."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy import stats as scipy_stats

from bench.stats import Floats

_RESOLUTION = 1e-3
"""Error of a mean that is there at least, relative to the metric: few seeds may fall by the same amount by chance."""


def fell(before: Floats, after: Floats, *, retuned: bool = False) -> float:
    """Test whether scores fell: one-sided t-tests of the differences by seed and of the two groups, corrected for two.

    On another machine sums are rounded otherwise, and training amplifies that. In a stable arm, both runs of a seed
    still move together, which the first test makes use of; in a chaotic one they do not, and the second has twice the
    degrees of freedom. A permutation test of five seeds has no p-value below 1/32, too large to correct for 36 arms.

    Measured on the accuracy suite, run six times, tuning included, under other ways of rounding, with arms drawn at
    random from these runs and Holm's correction: 1 % of comparisons of five seeds raise a false alarm, 3 % of three
    seeds; 2 and 4 % where B has other seeds as well. One arm that drops by 3, 4, 5 times the spread of its seeds is
    found in 50, 68, 79 % of cases, the arms of a space that all drop by 2 in 95 %. The paired test alone raises 8 %;
    with the precautions below, 1 %, and then finds 39, 53, 66 %.

    Args:
        before: a score per seed, greater is better; ``-inf`` where a run diverged, which outweighs all others.
        after: scores of the same seeds.
        retuned: whether the best rate is another. As tuning has few seeds, its choice is chance, too: what is tested is
            a drop by more than the spread of a seed. Without this, 8 % of comparisons raise a false alarm.

    Returns:
        The p-value; NaN of one seed.

    Example:
        >>> before, after = np.array([95.0, 94.0, 96.0, 95.0, 94.0]), np.array([91.0, 92.0, 90.0, 91.0, 92.0])
        >>> round(fell(before, after), 4), fell(after, before)
        (0.0002, 1.0)
    """
    size, both = len(before), np.stack([before, after])
    if size < 2:
        return math.nan
    known = both[np.isfinite(both)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    a, b = np.where(np.isfinite(both), both, low - 1e6 * (1 + high - low))
    least = _RESOLUTION * max(abs(low), abs(high)) or 1.0
    by_seed, by_group = (b - a).var(ddof=1), a.var(ddof=1) + b.var(ddof=1)
    shift = (b - a).mean() + retuned * math.sqrt(by_group / 2)
    tests = ((by_seed, size - 1), (by_group, 2 * size - 2))
    p = [scipy_stats.t.cdf(shift / math.sqrt(variance / size + least**2), freedom) for variance, freedom in tests]
    return min(1.0, 2 * float(min(p)))


def diverges_more(counts: Iterable[tuple[int, int, int]]) -> float:
    """Test whether more runs diverge than before, over all arms together: the exact test of Mantel and Haenszel.

    Args:
        counts: per arm, how many seeds there are, and how many diverged before and after.

    Returns:
        The one-sided p-value; 1 where none diverged.

    Example:
        >>> round(diverges_more([(5, 0, 2), (5, 0, 2)]), 3), diverges_more([(5, 0, 0), (5, 3, 0)])
        (0.049, 1.0)
    """
    chances, found = np.ones(1), 0
    for seeds, before, after in counts:
        diverged = np.arange(seeds + 1)
        chances = np.convolve(chances, scipy_stats.hypergeom.pmf(diverged, 2 * seeds, before + after, seeds))
        found += after
    return min(1.0, float(chances[found:].sum()))
