"""Statistics against closed forms, other libraries and brute force; their laws; how often intervals cover the truth."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import ArrayLike
from pandas.testing import assert_frame_equal
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from bench import stats
from bench.errors import InputError
from bench.stats import Floats, Interval
from tests.bench.planted import record

INF, NAN = math.inf, math.nan
Statistic = Callable[..., Floats]
STATISTICS: list[Any] = [np.mean, np.median, stats.interquartile_mean]
NAMES = ["index", "name", "rule_name", "space"]
WHOLE = st.integers(-1000, 1000)
OUTCOMES = st.one_of(st.integers(-50, 50).map(float), st.just(NAN))  # NaN: it diverged


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def run(index: int, value: float, task: str = "reber", space: str = "path", **changes: Any) -> dict[str, Any]:
    return record(task, "adam", space, "test", index, 0.1, value, **changes)


def runs(outcomes: dict[tuple[str, str, int], float], **changes: Any) -> pd.DataFrame:
    """Test records by task, space and seed."""
    return pd.DataFrame([run(seed, value, task, space, **changes) for (task, space, seed), value in outcomes.items()])


# Arranging runs


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_scores_are_arranged_by_name_and_point_upwards(higher_is_better: bool) -> None:
    outcomes = {
        ("reber", "path", 7): 70.0,
        ("digits", "path", 0): 50.0,
        ("reber", "path", 1): NAN,  # diverged
        ("reber", "weight", 7): 60.0,  # has no seed 1
    }
    sign = 1 if higher_is_better else -1
    result = stats.scores(runs(outcomes, higher_is_better=higher_is_better))
    assert list(result.index) == [0, 1, 7]
    assert list(result.columns) == [("digits", "adam", "path"), ("reber", "adam", "path"), ("reber", "adam", "weight")]
    assert_array_equal(result["reber", "adam", "path"], [NAN, -INF, sign * 70])
    assert_array_equal(result["reber", "adam", "weight"], [NAN, NAN, sign * 60])
    assert_array_equal(result["digits", "adam", "path"], [sign * 50, NAN, NAN])


def test_a_run_that_diverged_ranks_below_every_other_whatever_its_metric_says() -> None:
    frame = pd.DataFrame([run(0, 90.0, status="diverged"), run(1, 10.0)])
    assert_array_equal(stats.scores(frame)["reber", "adam", "path"], [-INF, 10])


def test_scores_of_another_kind_go_with_their_records_and_may_be_whole_numbers() -> None:
    frame = pd.DataFrame([run(2, 5.0), run(1, 6.0, status="diverged"), run(0, 7.0)], index=[10, 11, 12])
    values = pd.Series({12: -30, 11: -20, 10: -10})
    assert_array_equal(stats.scores(frame, values)["reber", "adam", "path"], [-30, -INF, -10])


def test_an_arm_without_any_score_stays() -> None:
    frame = runs({("reber", "path", 0): 1.0, ("reber", "weight", 0): 2.0})
    result = stats.scores(frame, pd.Series([1.0, NAN]))
    assert_array_equal(result["reber", "adam", "weight"], [NAN])


def test_a_seed_that_stands_there_twice_is_refused_by_name() -> None:
    frame = pd.DataFrame([run(0, 1.0), run(3, 1.0), run(3, 2.0), run(3, 3.0, space="weight")])
    with pytest.raises(InputError, match="seed 3 of adam in path space on reber has two records"):
        stats.scores(frame)
    with pytest.raises(InputError, match="seed 3 has two scores"):
        stats.differences(pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0], index=[3, 3]))


def test_no_records_make_no_scores() -> None:
    assert stats.scores(pd.DataFrame([run(0, 1.0)]).iloc[:0]).empty


def test_differences_pair_seeds_by_name() -> None:
    a = pd.Series({3: 30.0, 1: 10.0, 2: -INF, 4: -INF, 5: 50.0, 6: NAN, 7: 70.0})
    b = pd.Series({1: 1.0, 2: 2.0, 3: 3.0, 4: -INF, 5: -INF, 6: 6.0, 8: 8.0})
    assert_array_equal(stats.differences(a, b), [9, -INF, 27, 0, INF])  # seeds 1 to 5
    assert stats.differences(a, pd.Series({9: 1.0})).shape == (0,)
    assert stats.differences(a, pd.Series(dtype=float)).shape == (0,)


SEEDS = st.dictionaries(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from("xy"), st.integers(0, 6)), OUTCOMES)


@given(SEEDS.filter(bool), st.randoms(use_true_random=False))
def test_the_order_of_records_never_matters(outcomes: dict[tuple[str, str, int], float], random: Any) -> None:
    frame = runs(outcomes)
    places = list(range(len(frame)))
    random.shuffle(places)
    shuffled = frame.iloc[places]
    assert_frame_equal(stats.scores(frame), stats.scores(shuffled))
    a, b = (frame[frame["space"] == space].set_index("index")["test"] for space in "xy")
    if a.index.is_unique and b.index.is_unique:
        random.shuffle(places)
        c, d = (shuffled[shuffled["space"] == space].set_index("index")["test"] for space in "xy")
        assert_array_equal(stats.differences(a, b), stats.differences(c, d))


@given(SEEDS.filter(bool))
def test_scores_are_those_of_a_loop_over_records(outcomes: dict[tuple[str, str, int], float]) -> None:
    result = stats.scores(runs(outcomes))
    found = {
        (task, space, seed): value
        for (task, _, space), column in result.items()
        for seed, value in column.items()
        if not math.isnan(value)
    }
    assert found == {place: -INF if math.isnan(value) else value for place, value in outcomes.items()}


# Estimates with intervals


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end() -> None:
    assert stats.interquartile_mean([100, 1, 2, 3, 4, -50, 5, 6]) == (2 + 3 + 4 + 5) / 4
    assert stats.interquartile_mean([1000, 1, 2, -INF, 3]) == 2
    assert stats.interquartile_mean([1, 2, 6]) == 3  # a quarter of three is none
    assert stats.interquartile_mean([-INF, -INF, 3, 4]) == -INF
    assert_array_equal(stats.interquartile_mean([[1, 2], [3, 4], [5, 9], [100, 0]], axis=0), [4, 3])


@given(st.lists(WHOLE, min_size=1, max_size=30))
def test_the_interquartile_mean_is_the_trimmed_mean_of_scipy(values: list[int]) -> None:
    expected = scipy_stats.mstats.trimmed_mean(values, (0.25, 0.25), inclusive=(True, True))
    assert_allclose(stats.interquartile_mean(values), expected, rtol=1e-12, atol=1e-12)


def hesterberg(size: int) -> float:
    return float(scipy_stats.norm.cdf(-math.sqrt(size / (size - 1)) * scipy_stats.t.ppf(0.975, size - 1)))


@pytest.mark.parametrize(("size", "quantile"), [(5, 2.776), (10, 2.262), (20, 2.093), (50, 2.010)])
def test_the_expanded_tail_is_that_of_hesterberg(size: int, quantile: float) -> None:
    tail = math.erfc(quantile * math.sqrt(size / (size - 1)) / math.sqrt(2)) / 2  # quantile of a printed table
    assert_allclose(stats._expanded_tail(size), tail, rtol=2e-3)
    assert_allclose(stats._expanded_tail(size), hesterberg(size), rtol=1e-12)
    assert stats._expanded_tail(10**7) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("size", [5, 8, 25])
def test_the_interval_is_the_bca_of_scipy_at_the_expanded_level(size: int, statistic: Statistic) -> None:
    sample = seeded(size).exponential(size=size)
    result = stats.interval(sample, seeded(1), statistic)
    expected = scipy_stats.bootstrap(
        (sample,), statistic, n_resamples=4999, confidence_level=1 - 2 * hesterberg(size), method="BCa", rng=seeded(1)
    ).confidence_interval
    assert result.estimate == statistic(sample)
    assert_allclose(result[1:], expected, rtol=1e-12)


def test_the_interval_is_that_of_efrons_formulas() -> None:
    sample, resamples = seeded(2).exponential(size=12), 200_000
    drawn = np.sort(seeded(3).choice(sample, (resamples, len(sample))).mean(axis=1))
    without = np.array([np.delete(sample, place).mean() for place in range(len(sample))])
    influence = without.mean() - without
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    bias = scipy_stats.norm.ppf((drawn < sample.mean()).mean())
    z = bias + scipy_stats.norm.ppf([hesterberg(12), 1 - hesterberg(12)])
    ends = np.quantile(drawn, scipy_stats.norm.cdf(bias + z / (1 - acceleration * z)))
    result = stats.interval(sample, seeded(4))
    assert_allclose(result[1:], ends, atol=0.04 * (ends[1] - ends[0]))


@pytest.mark.parametrize("size", [20, 50, 200])
def test_the_interval_of_a_normal_mean_approaches_students(size: int) -> None:
    sample = scipy_stats.norm.ppf((np.arange(size) + 0.5) / size)
    result = stats.interval(sample, seeded())
    low, high = scipy_stats.t.interval(0.95, size - 1, sample.mean(), scipy_stats.sem(sample))
    assert_allclose(result[1:], [low, high], atol=0.03 * (high - low))


@given(
    st.lists(WHOLE, min_size=3, max_size=12, unique=True),
    st.sampled_from([0.25, 1.0, 8.0]),
    WHOLE,
    st.sampled_from(STATISTICS),
)
def test_the_interval_moves_with_the_values(values: list[int], scale: float, shift: int, statistic: Statistic) -> None:
    own = np.array(stats.interval(values, seeded(), statistic))
    moved = stats.interval([scale * (value + shift) for value in values], seeded(), statistic)
    assert_allclose(moved, scale * (own + shift), rtol=1e-6, atol=1e-6)
    assert moved.low <= moved.estimate <= moved.high


@given(st.lists(WHOLE, min_size=3, max_size=12, unique=True), st.sampled_from(STATISTICS))
def test_the_interval_turns_round_with_the_values(values: list[int], statistic: Statistic) -> None:
    own = stats.interval(values, seeded(), statistic)
    turned = stats.interval([-value for value in values], seeded(), statistic)
    assert_allclose(turned, own.scaled(-1), rtol=1e-6, atol=1e-6)


def test_an_interval_turned_round_keeps_its_ends_in_order() -> None:
    assert Interval(1, -2, INF).scaled(-2) == (-2, -INF, 4)


def test_the_interval_takes_in_runs_that_diverged() -> None:
    values = [-INF, 1, 2, 3, 4]
    assert stats.interval(values, seeded(), stats.interquartile_mean) == (2, -INF, 4)
    mean = stats.interval(values, seeded())
    assert (mean.estimate, mean.low) == (-INF, -INF)
    assert 3 < mean.high <= 4
    many = stats.interval([-INF, *range(99)], seeded(), stats.interquartile_mean)  # one of a hundred does not reach it
    assert 30 < many.low < many.estimate < many.high < 70


def test_the_interval_of_two_values_lies_between_them() -> None:
    assert stats.interval([1, 2], seeded()) == (1.5, 1, 2)


# Tests of differences


def bits(values: Sequence[float], order: Callable[[Sequence[float]], Any]) -> float:
    """Flip signs one way after another; count what is at least as extreme, exactly."""
    flips = [order([s * v for s, v in zip(signs, values, strict=True)]) for signs in flips_of(len(values))]
    return sum(flip >= flips[0] for flip in flips) / len(flips)


def flips_of(size: int) -> list[tuple[int, ...]]:
    return list(itertools.product((1, -1), repeat=size))


def infinite_first(values: Sequence[float]) -> tuple[int, int]:
    """Order whole and infinite values by how far their sum is from zero, infinite ones before all others."""
    key = (
        sum(int(math.copysign(1, value)) for value in values if math.isinf(value)),
        sum(int(value) for value in values if math.isfinite(value)),
    )
    return max(key, (-key[0], -key[1]))


def tenths(values: Sequence[float]) -> list[float]:
    return [value / 10 for value in values]


@given(st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=8))
def test_the_sign_flip_test_enumerates_every_flip(values: list[float]) -> None:
    expected = bits(values, lambda flipped: abs(sum(flipped)))
    assert stats.sign_flip(values, seeded()) == expected
    assert stats.sign_flip(tenths(values), seeded()) == expected  # sums that are equal but for rounding


@given(st.lists(st.one_of(st.integers(-6, 6).map(float), st.sampled_from([-INF, INF])), min_size=1, max_size=8))
def test_an_infinite_difference_outweighs_all_finite_ones(values: list[float]) -> None:
    expected = bits(values, infinite_first)
    for scale in (1e-300, 0.1, 1.0, 1e300):
        assert stats.sign_flip([scale * value for value in values], seeded()) == expected


@pytest.mark.parametrize("size", range(2, 11))
def test_the_sign_flip_test_is_the_permutation_test_of_scipy(size: int) -> None:
    sample = seeded(size).normal(0.4, size=size)
    expected = scipy_stats.permutation_test((sample,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert stats.sign_flip(sample, seeded()) == pytest.approx(expected.pvalue, abs=1e-12)


def test_up_to_sixteen_differences_are_enumerated_and_more_are_drawn() -> None:
    generator = seeded()
    before = generator.bit_generator.state
    assert stats.sign_flip(range(1, 17), generator) == 2 / 2**16
    assert generator.bit_generator.state == before
    stats.sign_flip(range(1, 18), generator)
    assert generator.bit_generator.state != before


@pytest.mark.parametrize("size", [17, 24, 40])
def test_flips_that_are_drawn_come_near_the_exact_p(size: int) -> None:
    sample = seeded(size).integers(-9, 13, size)
    sums = Counter({0: 1})
    for value in map(int, sample):
        sums = Counter({total: sums[total - value] + sums[total + value] for total in range(-600, 601)})
    exact = sum(count for total, count in sums.items() if abs(total) >= abs(sample.sum())) / 2**size
    assert 0.02 < exact < 0.98
    noise = math.sqrt(exact * (1 - exact) / stats.RESAMPLES)
    assert abs(stats.sign_flip(sample, seeded()) - exact) < 4 * noise


@pytest.mark.parametrize("size", [1, 2, 5, 10, 16, 40, 100])
def test_the_least_p_is_that_of_differences_that_all_agree(size: int) -> None:
    least = 2.0 ** (1 - size) if size <= stats.MOST_FLIPPED else 1 / (stats.RESAMPLES + 1)
    assert stats.sign_flip(range(1, size + 1), seeded()) == least


@pytest.mark.parametrize("size", [6, 30])
def test_the_sign_flip_test_is_right_as_often_as_it_says(size: int) -> None:
    repetitions, generator = 400, seeded(size)
    p = np.array([stats.sign_flip(generator.normal(size=size), generator) for _ in range(repetitions)])
    for alpha in (0.05, 0.25, 0.5):
        assert (p <= alpha).mean() < alpha + 3 * math.sqrt(alpha * (1 - alpha) / repetitions)


@given(st.dictionaries(st.integers(0, 30), st.tuples(OUTCOMES, OUTCOMES), max_size=20))
def test_to_swap_two_arms_negates_differences_mirrors_wins_and_leaves_p(
    outcomes: dict[int, tuple[float, float]],
) -> None:
    a, b = (pd.Series({seed: pair[side] for seed, pair in outcomes.items()}, dtype=float) for side in (0, 1))
    a, b = a.fillna(-INF), b.fillna(-INF)
    there, back = stats.differences(a, b), stats.differences(b, a)
    assert_array_equal(there, -back)
    assert_array_equal(stats.wins(there), 1 - stats.wins(back))
    forth, mirrored = (stats.probability_better(stats.wins(each)) for each in (there, back))
    assert_allclose(forth, [1 - mirrored.estimate, 1 - mirrored.high, 1 - mirrored.low], atol=1e-12)
    assert_array_equal(stats.sign_flip(there, seeded()), stats.sign_flip(back, seeded()))


def test_wins_count_ties_half() -> None:
    assert_array_equal(stats.wins([-INF, -2, 0, 1e-300, INF]), [0, 0, 0.5, 1, 1])


@given(st.integers(1, 200), st.floats(0, 1))
def test_the_probability_to_be_better_has_the_interval_of_wilson(size: int, share: float) -> None:
    won = round(share * size)
    expected = scipy_stats.binomtest(won, size).proportion_ci(method="wilson")
    result = stats.probability_better([1] * won + [0] * (size - won))
    assert_allclose(result, [won / size, expected.low, expected.high], atol=1e-12)
    assert 0 <= result.low <= result.estimate <= result.high <= 1


@given(st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), max_size=20))
def test_holm_corrects_as_statsmodels_does_and_passes_over_nan(values: list[float]) -> None:
    result, raw = np.array(stats.holm(values)), np.array(values)
    known = ~np.isnan(raw)
    assert_array_equal(np.isnan(result), ~known)
    if known.any():
        assert_allclose(result[known], multipletests(raw[known], method="holm")[1], rtol=1e-12)
    assert (result[known] >= raw[known]).all()
    assert (np.diff(result[known][np.argsort(raw[known])]) >= 0).all()


# Profiles and curves of tuning


COSTS = st.lists(st.lists(st.one_of(st.integers(0, 9), st.just(INF)), min_size=2, max_size=6), min_size=1, max_size=4)
BOUNDS = [-1.0, 0.0, 2.0, 2.5, 5.0, 9.0, INF]


@given(COSTS)
def test_a_profile_counts_runs_within_each_bound(costs: list[list[float]]) -> None:
    result = stats.share_within(costs, BOUNDS, seeded())
    expected = [np.mean([sum(cost <= bound for cost in task) / len(task) for task in costs]) for bound in BOUNDS]
    assert list(result.columns) == ["bound", "share", "low", "high"]
    assert_array_equal(result["bound"], BOUNDS)
    assert_allclose(result["share"], expected, rtol=1e-12)
    assert result["share"].iloc[-1] == 1


@given(COSTS)
def test_a_profile_and_its_interval_rise_with_the_bound(costs: list[list[float]]) -> None:
    result = stats.share_within(costs, BOUNDS, seeded())
    for column in ("share", "low", "high"):
        assert (result[column].diff().dropna() >= -1e-12).all()
    assert (result["low"] <= result["share"] + 1e-12).all()
    assert (result["share"] <= result["high"] + 1e-12).all()


def test_the_interval_of_a_profile_is_that_of_runs_drawn_again() -> None:
    generator = seeded(5)
    costs = [generator.exponential(size=size) for size in (13, 4, 17)]
    tail = scipy_stats.norm.cdf(-scipy_stats.t.ppf(0.975, 3 * 3) * math.sqrt(4 / 3))  # by the fewest runs
    bounds = [0.2, 0.7, 1.5]
    drawn = [generator.choice(task, (30_000, len(task)))[:, :, None] <= bounds for task in costs]
    ends = np.quantile(np.mean([task.mean(axis=1) for task in drawn], axis=0), [tail, 1 - tail], axis=0)
    result = stats.share_within(costs, bounds, seeded())
    assert_allclose(result[["low", "high"]].to_numpy().T, ends, atol=0.02)


def test_the_interval_of_a_profile_is_that_of_a_sum_of_binomials() -> None:
    costs = [[1, 1, 1, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 1, 2, 2], [1, 2, 2, 2, 2, 2, 2, 2]]
    chances = np.ones(1)
    for within in (3, 6, 1):
        chances = np.convolve(chances, scipy_stats.binom.pmf(range(9), 8, within / 8))
    tail = scipy_stats.norm.cdf(-scipy_stats.t.ppf(0.975, 3 * 7) * math.sqrt(8 / 7))
    ends = np.searchsorted(chances.cumsum(), [tail, 1 - tail]) / 24
    result = stats.share_within(costs, [1], seeded())
    assert_allclose([result["low"][0], result["high"][0]], ends, atol=1.01 / 24)


def test_a_profile_of_tasks_with_one_run_has_no_interval() -> None:
    result = stats.share_within([[1], [2, 2]], [1], seeded())
    assert result["share"][0] == 0.5
    assert result[["low", "high"]].isna().all(axis=None)


@given(st.lists(st.one_of(WHOLE.map(float), st.just(-INF)), min_size=1, max_size=8))
def test_the_expected_best_is_the_mean_over_all_choices_of_trials(trials: list[float]) -> None:
    result = stats.expected_best(trials)
    choices = [list(map(max, itertools.combinations(trials, count))) for count in range(1, len(trials) + 1)]
    assert_allclose(result, [sum(best) / len(best) for best in choices], rtol=1e-12, atol=1e-9)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_the_expected_best_rises_from_the_mean_to_the_best(trials: list[float]) -> None:
    result = stats.expected_best(trials)
    assert_allclose(result[0], np.mean(trials), rtol=1e-12, atol=1e-6)
    assert result[-1] == max(trials)
    assert (np.diff(result) >= -1e-6).all()


def test_the_expected_best_of_thousands_of_trials_is_finite() -> None:
    result = stats.expected_best(np.arange(2000.0))
    assert_allclose(result, np.arange(1, 2001) * 2001 / np.arange(2, 2002) - 1, rtol=1e-9)  # of ranks, in closed form


# How often intervals cover the truth


def covered(draw: Callable[[np.random.Generator], Interval], truth: float, repetitions: int) -> float:
    """Draw from one generator again and again, and count the intervals that hold the truth."""
    generator = seeded(20_250_000)
    hits = [(found := draw(generator)).low <= truth <= found.high for _ in range(repetitions)]
    return float(np.mean(hits))


def normal(generator: np.random.Generator, size: int) -> Floats:
    return generator.normal(size=size)


def exponential(generator: np.random.Generator, size: int) -> Floats:
    return generator.exponential(size=size)


def paired(generator: np.random.Generator) -> Interval:
    """What an arm gains that is better by 2, by seeds that matter more than the arm does."""
    seeds = generator.normal(scale=10, size=10)
    a, b = (pd.Series(mean + seeds + generator.normal(size=10)) for mean in (2, 0))
    return stats.interval(stats.differences(a, b), generator)


MIDDLE = 3 / 2 * math.log(4 / 3) - math.log(4) / 2 + 1  # interquartile mean of exponential values
COVERAGE: dict[str, tuple[Callable[[np.random.Generator], Interval], float, int]] = {
    "the mean of 8 normal values": (lambda g: stats.interval(normal(g, 8), g), 0, 3000),
    "the mean of 20 normal values": (lambda g: stats.interval(normal(g, 20), g), 0, 3000),
    "the mean of 50 exponential values": (lambda g: stats.interval(exponential(g, 50), g), 1, 2000),
    "a paired difference of 10 seeds": (paired, 2, 3000),
    "the interquartile mean of 6 exponential values": (
        lambda g: stats.interval(exponential(g, 6), g, stats.interquartile_mean),
        MIDDLE,
        3000,
    ),
    "the interquartile mean of 20 exponential values": (
        lambda g: stats.interval(exponential(g, 20), g, stats.interquartile_mean),
        MIDDLE,
        3000,
    ),
}


@pytest.mark.parametrize("case", COVERAGE)
def test_the_interval_covers_the_truth_95_times_in_100(case: str) -> None:
    assert 0.93 < covered(*COVERAGE[case]) < 0.97


def test_the_interval_of_five_values_covers_as_often_as_its_docstring_says() -> None:
    assert "five normal values cover it 91 times in 100" in " ".join(str(stats.interval.__doc__).split())
    assert 0.895 < covered(lambda generator: stats.interval(normal(generator, 5), generator), 0, 3000) < 0.93


@pytest.mark.parametrize("size", [5, 6, 8, 10, 20, 50])
def test_the_interval_of_a_probability_covers_it_95_times_in_100(size: int) -> None:
    found = [stats.probability_better([1] * won + [0] * (size - won)) for won in range(size + 1)]
    chances = np.linspace(0.01, 0.99, 99)  # over which it goes up and down by some per cent
    hits = np.array([[each.low <= chance <= each.high for each in found] for chance in chances])
    coverage = (hits * scipy_stats.binom.pmf(np.arange(size + 1), size, chances[:, None])).sum(axis=1)
    assert 0.93 < coverage.mean() < 0.97
    assert coverage.min() > 0.83


@pytest.mark.parametrize(("size", "chances"), [(5, (0.45, 0.51, 0.55)), (5, (0.1, 0.51, 0.9)), (12, (0.51, 0.74))])
def test_the_interval_of_a_profile_covers_it_95_times_in_100(size: int, chances: tuple[float, ...]) -> None:
    truth, total = np.mean(chances), 0.0
    for within in itertools.product(range(size + 1), repeat=len(chances)):
        costs = [np.arange(size) >= few for few in within]  # 0 within the bound, 1 beyond
        share = stats.share_within(costs, [0.5], seeded(len(within))).iloc[0]
        chance = math.prod(scipy_stats.binom.pmf(within, size, chances))
        total += chance * float(share["low"] <= truth <= share["high"])
    assert 0.93 < total < 0.97


# Where randomness comes from


RANDOM: dict[str, Callable[[np.random.Generator], Any]] = {
    "interval": lambda generator: stats.interval([1.0, 2.5, 3.1, 7.7, 9.2, 4.4], generator),
    "sign_flip": lambda generator: stats.sign_flip(np.arange(-7, 13), generator),
    "share_within": lambda generator: stats.share_within(
        [np.arange(0, 1, 0.03)] * 3, np.arange(0, 1, 0.01), generator
    ).to_numpy(),
}


@pytest.mark.parametrize("function", RANDOM)
def test_the_generator_decides_and_the_global_seed_does_not(function: str) -> None:
    results = []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002
        results.append(RANDOM[function](seeded(3)))
    assert_array_equal(*results)
    np.random.seed(0)  # noqa: NPY002
    assert not np.array_equal(results[0], RANDOM[function](seeded(4)))


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]  # noqa: NPY002
    for function in RANDOM.values():
        function(seeded())
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index, union-attr]  # noqa: NPY002


# Samples without much in them; any warning fails the test


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (NAN, NAN, NAN)),
        ([3], (3, NAN, NAN)),
        ([-INF], (-INF, NAN, NAN)),
        ([0.1] * 6, (0.1, 0.1, 0.1)),
        ([-INF] * 6, (-INF, -INF, -INF)),
        ([INF, INF], (INF, INF, INF)),
        ([-INF, INF], (NAN, -INF, INF)),
    ],
)
def test_the_interval_of_what_does_not_vary(
    values: list[float], expected: tuple[float, ...], statistic: Statistic
) -> None:
    assert_allclose(stats.interval(values, seeded(), statistic), expected, rtol=1e-15)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize(
    "values",
    [
        [0, 0, 0, 0, 5],  # no acceleration for a median
        [1, 1, 1, 1, 1 + 1e-15],
        [1e-320, 2e-320, 3e-320],
        [0, 1, 2, 3, 1e200],
        [-1.5e308, 1e308, 1.7e308],
        [-INF, -INF, 1, 2],
        [0, 1] * 4,
    ],
)
def test_the_interval_of_odd_samples_is_in_order_and_within_them(values: list[float], statistic: Statistic) -> None:
    result = stats.interval(values, seeded(), statistic)
    assert result.low <= result.estimate <= result.high
    if max(map(abs, values)) < 1e300:
        assert min(values) <= result.low
        assert result.high <= max(values)


def test_both_infinities_leave_everything_open() -> None:
    values = [-INF, 1, 2, 3, INF]
    assert stats.interval(values, seeded(), stats.interquartile_mean) == (2, -INF, INF)
    assert_array_equal(stats.interval(values, seeded()), [NAN, -INF, INF])
    assert math.isnan(stats.interquartile_mean([-INF, INF]))
    assert_array_equal(stats.expected_best([-INF, INF]), [NAN, INF])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], NAN),
        ([5], 1),
        ([-INF], 1),
        ([0] * 5, 1),
        ([0] * 30, 1),
        ([-INF] * 5, 2 / 32),
        ([-INF, INF], 1),
        ([0.1, 0.2, -0.3], 1),  # a sum that is zero but for rounding
        ([1e-13, 2e-13, INF], 2 / 8),
        ([1.7e308] * 5, 2 / 32),
    ],
)
def test_the_sign_flip_test_of_odd_samples(values: list[float], expected: float) -> None:
    assert_array_equal(stats.sign_flip(values, seeded()), expected)


def test_nothing_comes_of_nothing() -> None:
    assert all(map(math.isnan, stats.probability_better([])))
    assert stats.holm([]) == []
    assert math.isnan(stats.holm([NAN])[0])
    assert stats.wins([]).shape == stats.expected_best([]).shape == (0,)
    assert math.isnan(stats.interquartile_mean([]))
    assert stats.share_within([[1, 2]], [], seeded()).empty


def test_runs_and_trials_that_all_diverged() -> None:
    assert_array_equal(stats.expected_best([-INF] * 3), [-INF] * 3)
    never = stats.share_within([[INF, INF], [INF] * 3], [1], seeded())
    assert never.to_numpy().tolist() == [[1, 0, 0, 0]]


REFUSED: dict[str, tuple[Callable[[ArrayLike], Any], str]] = {
    "interval": (lambda values: stats.interval(values, seeded()), "values of an interval"),
    "interquartile_mean": (stats.interquartile_mean, "values of a mean"),
    "probability_better": (stats.probability_better, "wins"),
    "wins": (stats.wins, "differences"),
    "sign_flip": (lambda values: stats.sign_flip(values, seeded()), "differences"),
    "costs": (lambda values: stats.share_within([[1], values], [1], seeded()), "costs"),
    "bounds": (lambda values: stats.share_within([[1]], values, seeded()), "bounds of a profile"),
    "expected_best": (stats.expected_best, "trials"),
}


@pytest.mark.parametrize("function", REFUSED)
def test_nan_is_refused(function: str) -> None:
    call, name = REFUSED[function]
    with pytest.raises(InputError, match=f"^{name} must not be NaN, got 1 of 3$"):
        call([1, NAN, 0])


def test_wins_beyond_0_and_1_are_refused() -> None:
    with pytest.raises(InputError, match=r"^wins must be between 0 and 1, got -1 to 0\.5$"):
        stats.probability_better([0.5, -1])


@pytest.mark.parametrize(("costs", "sizes"), [([], "[]"), ([[1, 2], []], "[2, 0]")])
def test_a_profile_without_runs_is_refused(costs: list[list[float]], sizes: str) -> None:
    with pytest.raises(InputError) as refused:
        stats.share_within(costs, [1], seeded())
    assert str(refused.value) == f"a profile needs runs of every task, got {sizes}"
