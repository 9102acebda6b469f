"""Statistics over seeds and tasks. The seed is the unit of replication; a run that diverged ranks below every other.

Scores are oriented: greater is better, ``-inf`` is a run that diverged, NaN one that is not there. Whatever is drawn at
random is drawn from the generator that is given.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy import stats as scipy_stats

from bench.errors import InputError

LEVEL = 0.95
"""Confidence level of all intervals."""
RESAMPLES = 4_999
"""Resamples of a bootstrap, and sign flips where there are too many to enumerate."""
MOST_FLIPPED = 16
"""Up to so many differences, all sign flips are enumerated."""

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate with its 95 % confidence interval.

    Attributes:
        estimate: the statistic of the sample; NaN of an empty one.
        low: lower end; NaN below two values. Infinite where runs that diverged reach into it.
        high: upper end.
    """

    estimate: float
    low: float
    high: float

    def scaled(self, factor: float) -> Interval:
        """Multiply by a factor, -1 for example, which swaps the ends."""
        low, high = sorted((factor * self.low, factor * self.high))
        return Interval(factor * self.estimate, low, high)


def scores(test: pd.DataFrame, values: pd.Series | None = None) -> pd.DataFrame:
    """Arrange test runs by name: a row per seed, a column per task, rule and space.

    Args:
        test: test records.
        values: a score per record, greater is better; the test metric, turned round where lower is better, without.

    Returns:
        The scores, -inf where a run diverged, NaN where there is none.

    Raises:
        InputError: a seed of an arm stands there twice.
    """
    if values is None:
        values = test["test"].where(test["higher_is_better"], -test["test"])
    frame = test[["index", "name", "rule_name", "space"]].assign(score=values)
    frame.loc[test["status"] != "finished", "score"] = -math.inf
    names = ["index", "name", "rule_name", "space"]
    if (again := frame.duplicated(names)).any():
        seed, task, rule, space = frame.loc[again, names].iloc[0]
        raise InputError(f"seed {seed} of {rule} in {space} space on {task} has two records; delete one of them")
    return frame.pivot_table(index="index", columns=["name", "rule_name", "space"], values="score", aggfunc="first")


def differences(a: pd.Series, b: pd.Series) -> Floats:
    """Subtract ``b`` from ``a`` seed by seed, by the names of the seeds; only seeds that both have count.

    Args:
        a: scores by seed.
        b: scores by seed.

    Returns:
        A difference per seed: infinite where one of the two diverged, zero where both did.

    Example:
        >>> differences(pd.Series({0: 3.0, 1: 5.0}), pd.Series({1: 4.0, 2: 9.0}))
        array([1.])
    """
    both = pd.concat([a, b], axis=1, keys=["a", "b"]).dropna().to_numpy(float)
    equal = both[:, 0] == both[:, 1]
    return np.where(equal, 0.0, np.subtract(both[:, 0], both[:, 1], where=~equal, out=np.zeros(len(both))))


def interquartile_mean(values: ArrayLike, axis: int = -1) -> Floats:
    """Average what is left without the lowest and the highest quarter, rounded down to whole values."""
    return np.asarray(scipy_stats.trim_mean(values, 0.25, axis=axis))


def interval(values: ArrayLike, generator: np.random.Generator, statistic: Callable[..., Floats] = np.mean) -> Interval:
    """Estimate a statistic of a sample with its bootstrap interval: BCa, its levels expanded for small samples.

    The plain interval of five values is too narrow by a quarter and covers 84 % in place of 95. Here the levels are
    those at which the interval of a mean agrees with Student's (Hesterberg, The American Statistician 69, 2015). Where
    BCa is not defined, that is, with infinite values or next to no spread, quantiles of the resamples take its place.

    Args:
        values: the sample; infinite values are kept.
        generator: draws the resamples.
        statistic: of the sample along ``axis``.

    Returns:
        The estimate and its interval.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return Interval(float(sample[0]) if len(sample) else math.nan, math.nan, math.nan)
    if {-math.inf, math.inf} <= set(sample):
        return Interval(math.nan, -math.inf, math.inf)
    estimate = float(statistic(sample, axis=-1))
    if (sample == sample[0]).all():
        return Interval(estimate, estimate, estimate)
    tail, whole = _expanded_tail(len(sample)), np.isfinite(sample).all()
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", scipy_stats.DegenerateDataWarning)
        result = scipy_stats.bootstrap(
            (sample,),
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=1 - 2 * tail,
            method="BCa" if whole else "percentile",
            rng=generator,
        )
    low, high = result.confidence_interval
    if not (np.isfinite(low) and np.isfinite(high)):
        low, high = np.quantile(result.bootstrap_distribution, [tail, 1 - tail], method="inverted_cdf")
    return Interval(estimate, float(low), float(high))


def _expanded_tail(size: int) -> float:
    quantile = scipy_stats.t.ppf((1 + LEVEL) / 2, size - 1) * math.sqrt(size / (size - 1))
    return float(scipy_stats.norm.sf(quantile))


def probability_better(wins: ArrayLike) -> Interval:
    """Estimate how probable it is that one arm beats another, with Wilson's score interval.

    Args:
        wins: 1 for a win, 1/2 for a tie, 0 for a loss, or means of these; one value per independent unit.

    Returns:
        The mean and its interval. Values between 0 and 1 vary less than wins and losses do, so that with ties, or
        means, it is on the safe side.

    Example:
        >>> [round(each, 3) for each in probability_better([1, 1, 1, 1, 1])]
        [1.0, 0.566, 1.0]
    """
    share = np.asarray(wins, dtype=float)
    size = len(share)
    if not size:
        return Interval(math.nan, math.nan, math.nan)
    z, mean = float(scipy_stats.norm.ppf((1 + LEVEL) / 2)), float(share.mean())
    middle = (mean + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z * math.sqrt(mean * (1 - mean) / size + z**2 / (4 * size**2)) / (1 + z**2 / size)
    return Interval(mean, max(0.0, middle - half), min(1.0, middle + half))


def wins(difference: ArrayLike) -> Floats:
    """Turn differences into 1 for a win, 1/2 for a tie, 0 for a loss."""
    return np.asarray((1 + np.sign(np.asarray(difference, dtype=float))) / 2)


def sign_flip(difference: ArrayLike, generator: np.random.Generator) -> float:
    """Test whether paired differences are symmetric about zero: the two-sided sign-flip permutation test of the mean.

    Args:
        difference: one per independent unit. An infinite one outweighs all finite ones together.
        generator: draws sign flips where there are too many to enumerate.

    Returns:
        The p-value, exact up to :data:`MOST_FLIPPED` differences; NaN without any.

    Example:
        >>> sign_flip([1, 2, 3, 4, 5], np.random.default_rng(0)) == 2 / 2**5
        True
    """
    sample = np.asarray(difference, dtype=float)
    if len(sample) == 0:
        return math.nan
    if len(sample) == 1 or not sample.any():
        return 1.0
    finite = np.where(np.isfinite(sample), sample, 0.0)
    outweighing = 2 * np.abs(finite).sum() + 1
    sample = np.where(np.isfinite(sample), sample, np.sign(sample) * outweighing)
    if enumerated := len(sample) <= MOST_FLIPPED:
        flipped = np.arange(2 ** len(sample))[:, None] >> np.arange(len(sample)) & 1
    else:
        flipped = generator.integers(2, size=(RESAMPLES, len(sample)))
    extreme = np.abs((1 - 2 * flipped) @ sample) >= abs(sample.sum()) * (1 - 1e-12)  # as large, but for rounding
    return float(extreme.mean() if enumerated else (extreme.sum() + 1) / (RESAMPLES + 1))


def least_p(size: int) -> float:
    """Return the least p-value that :func:`sign_flip` can have with so many differences."""
    return min(1.0, 2.0 ** (1 - size))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method; NaN stays, and does not count.

    Args:
        p_values: of one family of tests.

    Returns:
        Adjusted p-values, in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    result = np.array(p_values, dtype=float)
    order = [place for place in np.argsort(result, kind="stable") if not math.isnan(result[place])]
    adjusted = [min(1.0, (len(order) - rank) * result[place]) for rank, place in enumerate(order)]
    result[order] = np.maximum.accumulate(adjusted) if adjusted else []
    return [float(each) for each in result]


def share_within(values: Iterable[ArrayLike], bounds: ArrayLike, generator: np.random.Generator) -> pd.DataFrame:
    """Compute a profile over tasks: the share of runs whose cost is within each bound, every task of equal weight.

    Args:
        values: costs of the runs of each task; infinite for a run that diverged or missed its target.
        bounds: where to evaluate the profile.
        generator: draws resamples of the runs of each task, for a pointwise interval.

    Returns:
        Columns ``bound``, ``share``, ``low`` and ``high``.
    """
    at = np.asarray(bounds, dtype=float)
    costs = [np.sort(np.asarray(each, dtype=float)) for each in values]
    shares = np.array([np.searchsorted(each, at, side="right") / len(each) for each in costs])
    counts = np.array([[len(each)] for each in costs])
    drawn = generator.binomial(counts, shares, size=(999, *shares.shape)) / counts  # resampling runs does just this
    low, high = np.quantile(drawn.mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return pd.DataFrame({"bound": at, "share": shares.mean(axis=0), "low": low, "high": high})


def expected_best(trials: ArrayLike) -> Floats:
    """Expect the best of k trials that are drawn without replacement, which is unbiased, for every k.

    Args:
        trials: a score per trial, greater is better; ``-inf`` for one that diverged.

    Returns:
        The expected best score of 1, 2, ... trials; ``-inf`` where all that are drawn may have diverged.

    Example:
        >>> expected_best([1, 2, 6])
        array([3.        , 4.66666667, 6.        ])
    """
    ordered = np.sort(np.asarray(trials, dtype=float))
    size = len(ordered)
    ranks, count = np.arange(size), np.arange(1, size + 1)[:, None]
    weights = special.comb(ranks, count - 1) / special.comb(size, count)  # that the best has this rank
    products = np.multiply(weights, ordered, where=weights > 0, out=np.zeros_like(weights))
    return np.asarray(products.sum(axis=1))
