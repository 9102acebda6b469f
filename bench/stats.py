"""Statistics over seeds and tasks. The seed is the unit of replication; a run that diverged ranks below every other.

Scores are oriented: greater is better, ``-inf`` is a run that diverged, NaN one that is not there, which a sample must
not have. Whatever is drawn at random is drawn from the generator that is given.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from bench.errors import InputError

LEVEL = 0.95
"""Confidence level of all intervals."""
ALPHA = 1 - LEVEL  # what a p-value must be below
RESAMPLES = 4_999
"""Resamples of a bootstrap, and sign flips where there are too many to enumerate."""
PROFILE_RESAMPLES = 999
"""Resamples of a profile, whose interval is drawn and not written, of every task at every bound."""
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
    names = ["index", "name", "rule_name", "space"]
    frame = test[names].assign(score=values.astype(float).where(test["status"] == "finished", -math.inf))
    if (again := frame.duplicated(names)).any():
        seed, task, rule, space = frame.loc[again, names].iloc[0]
        raise InputError(f"seed {seed} of {rule} in {space} space on {task} has two records; delete one of them")
    return frame.pivot(index="index", columns=names[1:], values="score").sort_index(axis=1)  # noqa: PD010


def differences(a: pd.Series, b: pd.Series) -> Floats:
    """Subtract ``b`` from ``a`` seed by seed, by the names of the seeds; only seeds that both have count.

    Args:
        a: scores by seed.
        b: scores by seed.

    Returns:
        A difference per seed, in the order of seeds: infinite where one of the two diverged, zero where both did.

    Raises:
        InputError: a seed stands there twice.

    Example:
        >>> differences(pd.Series({0: 3.0, 1: 5.0}), pd.Series({1: 4.0, 2: 9.0}))
        array([1.])
    """
    for each in (a, b):
        if each.index.has_duplicates:
            raise InputError(f"seed {each.index[each.index.duplicated()][0]} has two scores; a pair takes one")
    both = pd.concat([a, b], axis=1, join="inner", keys=["a", "b"]).dropna().sort_index().to_numpy(float)
    equal = both[:, 0] == both[:, 1]
    return np.where(equal, 0.0, np.subtract(both[:, 0], both[:, 1], where=~equal, out=np.zeros(len(both))))


def interquartile_mean(values: ArrayLike, axis: int = -1) -> Floats:
    """Average what is left without the lowest and the highest quarter, rounded down to whole values."""
    ordered = np.sort(_known(values, "values of a mean"), axis=axis)
    size, cut = ordered.shape[axis], ordered.shape[axis] // 4
    with np.errstate(invalid="ignore", over="ignore"):  # NaN of nothing, and of both infinities
        return np.asarray(ordered.take(range(cut, size - cut), axis=axis).sum(axis=axis) / np.float64(size - 2 * cut))


def _known(values: ArrayLike, what: str) -> Floats:
    array = np.asarray(values, dtype=float)
    if missing := int(np.isnan(array).sum()):
        raise InputError(f"{what} must not be NaN, got {missing} of {array.size}")
    return array


def interval(values: ArrayLike, generator: np.random.Generator, statistic: Callable[..., Floats] = np.mean) -> Interval:
    """Estimate a statistic of a sample with its bootstrap interval: BCa, its levels expanded for small samples.

    The plain BCa interval of five normal values is a third narrower than Student's and covers the mean 84 times in 100.
    Here the levels are those at which the two agree (Hesterberg, The American Statistician 69, 2015): five normal
    values cover it 91 times in 100, six 93, eight or more 94 to 95; exponential ones 88, 90, 91, twenty 93. Between the
    ends of five, 94 is the most. The interquartile mean is covered 93 times by five, 97 to 98 by eight. Where BCa is
    not defined, with infinite values or next to no spread, quantiles of the resamples take its place.

    Args:
        values: the sample; infinite values are kept.
        generator: draws the resamples.
        statistic: of the sample along ``axis``.

    Returns:
        The estimate and its interval, which is the whole line where both infinities are in the sample.
    """
    sample = _known(values, "values of an interval")
    if len(sample) < 2:
        return Interval(float(sample[0]) if len(sample) else math.nan, math.nan, math.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        estimate = float(statistic(sample, axis=-1))
        if {-math.inf, math.inf} <= set(sample):
            return Interval(estimate, -math.inf, math.inf)
        return Interval(estimate, *_bootstrap(sample, generator, statistic))


def _bootstrap(sample: Floats, generator: np.random.Generator, statistic: Callable[..., Floats]) -> tuple[float, float]:
    tail, method = _expanded_tail(len(sample)), "BCa" if np.isfinite(sample).all() else "percentile"
    with warnings.catch_warnings(action="ignore", category=scipy_stats.DegenerateDataWarning):
        result = scipy_stats.bootstrap(
            (sample,), statistic, n_resamples=RESAMPLES, confidence_level=1 - 2 * tail, method=method, rng=generator
        )
    low, high = result.confidence_interval
    if not (np.isfinite(low) and np.isfinite(high)):
        low, high = np.quantile(result.bootstrap_distribution, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def _expanded_tail(size: int, samples: int = 1) -> float:
    freedom = samples * (size - 1)
    return float(scipy_stats.norm.sf(scipy_stats.t.ppf((1 + LEVEL) / 2, freedom) * math.sqrt(size / (size - 1))))


def probability_better(wins: ArrayLike) -> Interval:
    """Estimate how probable it is that one arm beats another, with Wilson's score interval.

    Args:
        wins: 1 for a win, 1/2 for a tie, 0 for a loss, or means of these; one value per independent unit.

    Returns:
        The mean and its interval; on the safe side with ties and means, which vary less than wins and losses do.

    Raises:
        InputError: a value is not between 0 and 1.

    Example:
        >>> [round(each, 3) for each in probability_better([1, 1, 1, 1, 1])]
        [1.0, 0.566, 1.0]
    """
    share = _known(wins, "wins")
    size = len(share)
    if ((share < 0) | (share > 1)).any():
        raise InputError(f"wins must be between 0 and 1, got {share.min():g} to {share.max():g}")
    if not size:
        return Interval(math.nan, math.nan, math.nan)
    z, mean = float(scipy_stats.norm.ppf((1 + LEVEL) / 2)), float(share.mean())
    middle = (mean + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z * math.sqrt(mean * (1 - mean) / size + z**2 / (4 * size**2)) / (1 + z**2 / size)
    return Interval(mean, min(mean, max(0.0, middle - half)), max(mean, min(1.0, middle + half)))  # but for rounding


def wins(difference: ArrayLike) -> Floats:
    """Turn differences into 1 for a win, 1/2 for a tie, 0 for a loss."""
    return np.asarray((1 + np.sign(_known(difference, "differences"))) / 2)


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
    sample = _known(difference, "differences")
    if not len(sample):
        return math.nan
    finite = np.where(np.isfinite(sample), sample, 0.0)
    finite /= np.abs(finite).max() or 1.0
    weighed = np.where(np.isfinite(sample), finite, np.sign(sample) * 3 * len(sample))  # more than the others twice
    if enumerated := len(sample) <= MOST_FLIPPED:
        flipped = np.arange(2 ** len(sample))[:, None] >> np.arange(len(sample)) & 1
    else:
        flipped = generator.integers(2, size=(RESAMPLES, len(sample)))
    extreme = np.abs((1 - 2 * flipped) @ weighed) >= abs(weighed.sum()) - 1e-12 * np.abs(weighed).sum()  # rounding
    return float(extreme.mean() if enumerated else (extreme.sum() + 1) / (RESAMPLES + 1))


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
        Columns ``bound``, ``share``, ``low`` and ``high``; the ends are NaN where a task has a single run. Levels are
        expanded as those of :func:`interval` are, by the fewest runs of a task: three tasks of five runs each are
        covered 94 to 97 times in 100 where the share is middling, but less and less as it nears 0 or 1.

    Raises:
        InputError: there is no task, or one without runs.
    """
    at = _known(bounds, "bounds of a profile")
    costs = [np.sort(_known(each, "costs")) for each in values]
    sizes = [len(each) for each in costs]
    if not (fewest := min(sizes, default=0)):
        raise InputError(f"a profile needs runs of every task, got {sizes}")
    within = [np.searchsorted(each, at, side="right") for each in costs]
    share = np.mean([place / size for place, size in zip(within, sizes, strict=True)], axis=0)
    low = high = np.full(len(at), math.nan)
    if fewest > 1:
        tail = _expanded_tail(fewest, len(sizes))
        drawn = np.mean([_resampled(*each, generator) for each in zip(within, sizes, strict=True)], axis=0)
        low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return pd.DataFrame({"bound": at, "share": share, "low": low, "high": high})


def _resampled(within: NDArray[np.intp], size: int, generator: np.random.Generator) -> Floats:
    """Draw runs again and again, and take the share of those that are among the best so many."""
    times = generator.multinomial(size, np.full(size, 1 / size), size=PROFILE_RESAMPLES)
    return np.asarray(np.pad(times, ((0, 0), (1, 0))).cumsum(axis=1)[:, within] / size)


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
    ordered = np.sort(_known(trials, "trials"))
    size = len(ordered)
    ranks, others = np.arange(size), np.arange(size - 1)[:, None]
    below = np.maximum(ranks - others, 0) / (size - 1 - others)  # that one more trial is below this rank, too
    weights = np.cumprod(np.vstack([np.ones(size), below]), axis=0) * np.arange(1, size + 1)[:, None] / size
    with np.errstate(invalid="ignore"):  # of both infinities: NaN
        return np.asarray(np.multiply(weights, ordered, where=weights > 0, out=np.zeros_like(weights)).sum(axis=1))
