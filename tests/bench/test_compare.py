"""Comparisons of two folders of results, on planted records and on those of the project."""

from __future__ import annotations

import json
import math
import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from bench import side_by_side
from bench.compare import WORSE, Comparison, Row, compare
from bench.errors import CheckFailedError, InputError
from bench.regression import diverges_more, fell
from bench.seeds import seed
from bench.stats import Floats, holm
from bench.store import Store
from tests.bench.conftest import ROOT, Bench
from tests.bench.planted import record, stored, study

REFERENCE = ROOT / "results" / "reference" / "accuracy"
MACHINE = {"commit": "c0ffee", "cpu": "abacus", "device": "cpu", "threads": 1, "torch": "2", "python": "3"}


def planted(**shape: Any) -> pd.DataFrame:
    """Five seeds around 80, which differ by about 1."""
    shape = {"seeds": 5, **shape}
    return study(lambda *names: 80 + float(np.random.default_rng(seed(*names)).normal()), **shape)


def arm(frame: pd.DataFrame, task: str = "digits", space: str = "path", *seeds: int) -> pd.Series:
    """Mark the test runs of an arm, all or some."""
    own = (frame["name"] == task) & (frame["space"] == space) & (frame["role"] == "test")
    return own & frame["index"].isin(seeds or range(100))


def shifted(frame: pd.DataFrame, by: float, where: pd.Series) -> pd.DataFrame:
    return frame.assign(test=frame["test"].mask(where, frame["test"] + by))


def diverged(frame: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
    return frame.assign(status=frame["status"].mask(where, "diverged"), test=frame["test"].mask(where))


def against(root: Path, a: pd.DataFrame, b: pd.DataFrame, profile: str | None = None) -> Comparison:
    stores = [Store(stored(root / side, frame)) for side, frame in (("a", a), ("b", b))]
    return compare(stores[0], stores[1], profile)


def rows(comparison: Comparison) -> dict[tuple[str, str], Row]:
    """Rows by task and space."""
    return {(row.place[0], row.place[2]): row for row in comparison.rows}


def verdicts(comparison: Comparison) -> dict[tuple[str, str], str]:
    return {place: row.verdict for place, row in rows(comparison).items()}


# The tests themselves


def pairs_of(generator: np.random.Generator, shared: float, seeds: int = 5) -> tuple[Floats, Floats]:
    """Two runs of some seeds, of unit variance, that share so much of it."""
    common = math.sqrt(shared) * generator.normal(size=seeds)
    a, b = (common + math.sqrt(1 - shared) * generator.normal(size=seeds) for _ in range(2))
    return a, b


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_the_p_value_is_twice_the_smaller_of_two_t_tests(shared: float) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        a, b = pairs_of(generator, shared)
        tests = (scipy_stats.ttest_rel(b, a, alternative="less"), scipy_stats.ttest_ind(b, a, alternative="less"))
        expected = min(1.0, 2 * min(each.pvalue for each in tests)) if b.mean() < a.mean() else 1.0
        assert fell(a, b) == pytest.approx(expected, rel=1e-3)


def test_improvements_are_tested_by_the_other_side() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([11.0, 12.5, 13.0])
    assert fell(a, b) == 1
    assert fell(b, a) == fell(-a, -b) < 0.01


def test_equal_seeds_have_no_p_value_below_one() -> None:
    assert fell(np.ones(5), np.ones(5)) == fell(np.zeros(5), np.zeros(5)) == 1


def test_another_rate_may_cost_the_spread_of_a_seed() -> None:
    generator = np.random.default_rng(2)
    a, b = pairs_of(generator, 0.5)
    spread = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    assert fell(a + 100, b + 95, retuned=True) == pytest.approx(fell(a + 100, b + 95 + spread), rel=0.01)
    assert fell(a + 95, b + 100, retuned=True) == 1


def test_one_seed_is_not_tested() -> None:
    assert math.isnan(fell(np.ones(1), np.zeros(1)))


def test_differences_that_are_all_equal_count_if_they_are_large() -> None:
    a = np.array([94.0, 95.0, 96.0, 95.0, 94.0])
    assert fell(a, a - 4) < 1e-5
    assert fell(a[:2], a[:2] - 1 / 3) > 0.05
    assert fell(a, a * (1 - 1e-7)) > 0.05


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_runs_that_diverge_outweigh_all_that_improve(scale: float) -> None:
    a = scale * np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert fell(a, np.full(5, -math.inf)) < 1e-6
    assert fell(np.full(5, -math.inf), a) == 1
    one = np.where(np.arange(5) == 0, -math.inf, a + 10 * scale)
    assert 0.05 < fell(a, one) < 1
    assert fell(np.zeros(3), np.full(3, -math.inf)) < 1e-6
    assert fell(np.append(a, -math.inf), np.append(a - 4 * scale, -math.inf)) < 0.01


def test_whole_comparisons_raise_few_false_alarms_and_find_drops() -> None:
    """Of 36 arms; runs of a seed share nothing, half or nearly all of their variance; one arm drops by 5."""
    generator, alarms, found = np.random.default_rng(1), 0, 0
    for _ in range(150):
        runs = [pairs_of(generator, shared) for shared in (0.0, 0.5, 0.95) for _ in range(12)]
        p = [fell(100 + a, 100 + b) for a, b in runs]
        alarms += min(holm(p)) < 0.05
        p[0] = fell(100 + runs[0][0], 95 + runs[0][1])
        found += holm(p)[0] < 0.05
    assert alarms <= 15  # of 5 %, more would have a chance of 1 in 200
    assert found >= 130


def test_more_divergence_is_tested_exactly() -> None:
    for before, after in product(range(6), repeat=2):
        table = [[after, 5 - after], [before, 5 - before]]
        expected = scipy_stats.fisher_exact(table, alternative="greater").pvalue
        assert diverges_more([(5, before, after)]) == pytest.approx(expected)
        assert diverges_more([(5, before, after), (3, 0, 0), (4, 4, 4)]) == pytest.approx(expected)
    assert diverges_more([]) == 1


def test_divergence_of_arms_adds_up() -> None:
    """By counting: which two of four runs, twice."""
    splits = [sum(chosen) for chosen in product((0, 1), repeat=4) if sum(chosen[:2]) + sum(chosen[2:]) == 2]
    assert len(splits) == 6
    after = [2, 1, 1, 1, 1, 0]
    sums = [x + y for x, y in product(after, repeat=2)]
    assert diverges_more([(2, 0, 2), (2, 1, 1)]) == pytest.approx(sum(each >= 3 for each in sums) / 36)


# Whole comparisons


def test_the_same_records_are_the_same(bench: Bench) -> None:
    result = bench("compare", REFERENCE, REFERENCE, "--fail-on-regression")
    assert result.returncode == 0, result.stderr
    assert "36 arms: 36 same" in result.stdout
    assert "They differ" not in result.stdout
    assert max(map(len, result.stdout.splitlines()[3:])) <= 160


def test_a_drop_is_named_and_fails_on_request(bench: Bench, tmp_path: Path) -> None:
    records = pd.read_parquet(REFERENCE / "records")
    where = arm(records, "digits_rows") & (records["rule_name"] == "muon")
    folder = stored(tmp_path, shifted(records, -8.0, where), "accuracy")
    result = bench("compare", REFERENCE, folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert "36 arms: 1 worse (regression), 35 same" in result.stdout
    failed = bench("compare", REFERENCE, folder, "--fail-on-regression")
    arm_and_drop = "digits_rows, muon in path space by -8 [-8, -8], accuracy [%]"
    assert (failed.returncode, failed.stderr) == (1, f"Error: B is worse: {arm_and_drop}\n")
    assert failed.stdout == result.stdout
    assert f"Regression: {arm_and_drop}" in result.stdout
    improved = bench("compare", folder, REFERENCE, "--fail-on-regression")
    assert improved.returncode == 0
    assert "36 arms: 1 better, 35 same" in improved.stdout


def test_a_row_has_means_difference_and_sign(tmp_path: Path) -> None:
    a = planted()
    row = rows(against(tmp_path, a, shifted(a, -6.0, arm(a))))["digits", "path"]
    own = np.sort(a.loc[arm(a), "test"])
    assert row.scores[0].estimate == pytest.approx(own[1:4].mean())
    assert row.scores[1].estimate == pytest.approx(own[1:4].mean() - 6)
    assert row.difference.estimate == pytest.approx(-6)
    assert row.scores[0].low < row.scores[0].estimate < row.scores[0].high
    assert (row.verdict, row.seeds, row.diverged, row.metric) == (WORSE, 5, (0, 0), "accuracy [%]")


def test_differences_that_cancel_have_no_sign(tmp_path: Path) -> None:
    a = planted(seeds=3)
    b = a.assign(test=a["test"] + a["index"].map({0: -1 / 3, 1: -1 / 3, 2: 2 / 3}).where(arm(a), 0))
    row = rows(against(tmp_path, a, b))["digits", "path"]
    assert (row.verdict, row.gain) == ("no difference shown", 0)
    assert "+0 [-0.33, 0.67]" in side_by_side._cells(row, [row])
    lower = row._replace(difference=row.difference.scaled(-1))
    assert "+0 [-0.67, 0.33]" in side_by_side._cells(lower, [lower])
    same = row._replace(same=True)
    assert "0" in side_by_side._cells(same, [same])


def test_where_lower_is_better_a_rise_is_worse(tmp_path: Path) -> None:
    a = planted(higher_is_better=False)
    b = shifted(shifted(a, 6.0, arm(a)), -6.0, arm(a, "reber"))
    found = rows(against(tmp_path, a, b))
    worse, better = found["digits", "path"], found["reber", "path"]
    assert (worse.verdict, better.verdict) == (WORSE, "better")
    lowest = a.loc[arm(a), "test"]
    assert lowest.min() <= worse.scores[0].low <= worse.scores[0].estimate <= lowest.max() < worse.scores[1].low
    assert (worse.difference.estimate, better.difference.estimate) == (pytest.approx(6), pytest.approx(-6))
    assert "+6 [6, 6] worse" in side_by_side._cells(worse, [worse])
    assert "-6 [-6, -6] better" in side_by_side._cells(better, [better])


def test_what_chance_explains_is_no_difference(tmp_path: Path) -> None:
    a, where = planted(), arm(planted(), "digits", "path", 0, 1)
    comparison = against(tmp_path, a, shifted(a, -0.5, where))
    assert verdicts(comparison).pop(("digits", "path")) == "no difference shown"
    assert set(verdicts(comparison).values()) == {"no difference shown", "same"}
    side_by_side.require_no_regression(comparison)


def test_p_values_are_corrected_for_arms_that_are_not_the_same(tmp_path: Path) -> None:
    a = planted()
    noise = [float(np.random.default_rng(seed("noise", place)).normal()) for place in range(len(a))]
    few = shifted(a, -2.0, arm(a)).assign(test=lambda frame: frame["test"] + np.where(arm(a), noise, 0))
    many = few.assign(test=few["test"] + np.where(arm(a), 0, noise))
    alone, among = (rows(against(tmp_path / each, a, b))["digits", "path"] for each, b in (("1", few), ("4", many)))
    scores = [frame.loc[arm(a), "test"].to_numpy() for frame in (a, few)]
    assert alone.worse == pytest.approx(fell(*scores))
    assert among.worse == pytest.approx(4 * alone.worse)


def test_what_only_one_has_is_listed(tmp_path: Path) -> None:
    a = planted(spaces=["weight", "path", "gauge"])
    b = planted(tasks=["digits", "adding"], spaces=["weight", "path"])
    comparison = against(tmp_path, a, b[~arm(b, "digits", "path", 1, 4)])
    assert comparison.apart == [
        "only in B: adding (all 2 arms)",
        "seeds 1, 4 only in A: digits (momentum in path space)",
        "only in A: digits (momentum in gauge space), reber (all 3 arms)",
    ]
    assert {place: row.seeds for place, row in rows(comparison).items()} == {
        ("digits", "weight"): 5,
        ("digits", "path"): 3,
    }
    assert set(verdicts(comparison).values()) == {"same"}
    columns, tables = side_by_side._tables(comparison.rows)
    at = columns.index("diverged")
    assert [cells[at] for cells in tables["digits: accuracy [%], 5 seeds"]] == ["", "0 of 3"]


def test_only_seeds_in_both_count(tmp_path: Path) -> None:
    a = planted()
    b = shifted(a, -50.0, arm(a, "digits", "path", 0, 1))
    comparison = against(tmp_path, a[~arm(a, "digits", "path", 0)], b[~arm(b, "digits", "path", 1)])
    assert verdicts(comparison)["digits", "path"] == "same"
    assert rows(comparison)["digits", "path"].seeds == 3


def test_arms_without_a_seed_in_common_are_listed(tmp_path: Path) -> None:
    a = planted()
    comparison = against(tmp_path, a[~arm(a, "digits", "path", 0, 1)], a[~arm(a, "digits", "path", 2, 3, 4)])
    assert ("digits", "path") not in rows(comparison)
    assert len(comparison.apart) == 2


def with_setting(frame: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    """Change the specification of the task digits."""
    specification = {**json.loads(frame["specification"].iloc[0]), **changes}
    specification["task"] = {"task": "digits", **changes.get("task", {})}
    return frame.assign(specification=frame["specification"].mask(frame["name"] == "digits", json.dumps(specification)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frame: frame.assign(metric="error [%]"), "metric accuracy [%] in A, error [%] in B"),
        (lambda frame: frame.assign(target=70.0), "target 60.0 in A, 70.0 in B"),
        (lambda frame: frame.assign(updates=20), "updates 10 in A, 20 in B"),
        (lambda frame: with_setting(frame, task={"hidden": 8}), "hidden of the task default in A, 8 in B"),
        (lambda frame: with_setting(frame, rule={"options": {"momentum": 0.5}}), "options of the rule default in A"),
        (lambda frame: with_setting(frame, study="other"), "study None in A, other in B"),
    ],
)
def test_other_experiments_are_not_compared(tmp_path: Path, change: Any, reason: str) -> None:
    a = planted()
    others = a["name"] != "digits"
    comparison = against(tmp_path, a, pd.concat([a[others], change(a)[~others]]))
    assert set(rows(comparison)) == {("reber", "weight"), ("reber", "path")}
    (line,) = comparison.apart
    assert line.startswith(reason)
    assert line.endswith(": digits (all 2 arms)")


def test_settings_that_are_the_default_do_not_tell_experiments_apart(tmp_path: Path) -> None:
    a = planted()
    comparison = against(tmp_path, a, with_setting(a, task={"hidden": 64, "a_setting_of_later": 1}))
    assert comparison.apart == []
    assert set(verdicts(comparison).values()) == {"same"}


def test_best_rates_that_differ_are_marked(tmp_path: Path) -> None:
    a = planted()
    b = a.copy()
    b.loc[b["space"] == "path", "lr"] = b["lr"].map({0.1: 0.2, 0.2: 0.1})
    comparison = against(tmp_path, a, b)
    assert {row.rates for row in comparison.rows} == {(0.1, 0.1), (0.1, 0.2)}
    _, tables = side_by_side._tables(comparison.rows)
    assert [cells[2] for cells in tables["digits: accuracy [%], 5 seeds"]] == ["0.1", "0.1\N{RIGHTWARDS ARROW}0.2"]


def test_best_rates_that_differ_need_a_larger_drop(tmp_path: Path) -> None:
    a = planted()
    b = shifted(a, -2.0, arm(a)).assign(test=lambda frame: frame["test"].mask(arm(a, "digits", "path", 0), 77.9))
    other = b.assign(lr=b["lr"].mask(b["space"] == "path", b["lr"].map({0.1: 0.2, 0.2: 0.1})))
    p = [rows(against(tmp_path / name, a, each))["digits", "path"].worse for name, each in (("1", b), ("2", other))]
    scores = [frame.loc[arm(a), "test"].to_numpy() for frame in (a, b)]
    assert p == [pytest.approx(fell(*scores)), pytest.approx(fell(*scores, retuned=True))]
    assert p[0] < p[1]
    assert rows(against(tmp_path / "back", other, a))["digits", "path"].better == p[1]


# Divergence


def test_a_divergence_alone_shows_and_is_no_regression(tmp_path: Path) -> None:
    a = planted()
    comparison = against(tmp_path, a, diverged(a, arm(a, "digits", "path", 3)))
    row = rows(comparison)["digits", "path"]
    assert (row.verdict, row.diverged) == ("no difference shown", (0, 1))
    assert "0\N{RIGHTWARDS ARROW}1 of 5" in side_by_side._cells(row, comparison.rows)
    assert side_by_side.regressions(comparison) == []


def test_divergence_of_all_seeds_is_a_regression(tmp_path: Path) -> None:
    a = planted()
    comparison = against(tmp_path, a, diverged(a, arm(a)))
    assert verdicts(comparison)["digits", "path"] == WORSE
    with pytest.raises(CheckFailedError, match=r"digits, momentum in path space by -inf \[-inf, -inf\], accuracy"):
        side_by_side.require_no_regression(comparison)


def test_divergence_here_and_there_is_a_regression_where_it_adds_up(tmp_path: Path) -> None:
    a = planted()
    b = diverged(a, arm(a, "digits", "path", 1, 2) | arm(a, "reber", "path", 0, 4) | arm(a, "reber", "weight", 1))
    comparison = against(tmp_path, a, b)
    assert WORSE not in verdicts(comparison).values()
    (line,) = side_by_side.regressions(comparison)
    assert line.startswith("more runs diverge than by chance (p 0.025): digits, momentum in path space 0")
    assert against(tmp_path / "back", b, a).diverging == 1


def test_what_diverges_in_both_is_the_same(tmp_path: Path) -> None:
    a = planted()
    both = diverged(a, a["role"] == "test")
    comparison = against(tmp_path, both, both)
    assert {(row.verdict, row.diverged) for row in comparison.rows} == {("same", (5, 5))}
    side_by_side.show(comparison)
    assert verdicts(against(tmp_path / "back", both, a)) == dict.fromkeys(verdicts(comparison), "better")


def test_one_seed_is_compared_and_not_tested(tmp_path: Path) -> None:
    a = planted(seeds=1)
    comparison = against(tmp_path, a, shifted(a, -30.0, arm(a)))
    assert verdicts(comparison)["digits", "path"] == "not tested"
    cells = side_by_side._cells(rows(comparison)["digits", "path"], comparison.rows)
    assert "-30 worse" in cells
    assert side_by_side.regressions(comparison) == []


# Environments and times


def made_on(frame: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    return frame.assign(environment=json.dumps({**MACHINE, **changes}))


def test_times_are_compared_on_the_same_machine(tmp_path: Path) -> None:
    a = made_on(planted())
    b = a.assign(curve_seconds=[[0.5, 1.5 + index] for index in a["index"]])
    b = diverged(made_on(b, commit="decade"), arm(b, "digits", "path", 4))
    comparison = against(tmp_path, a, b)
    found = rows(comparison)
    assert found["digits", "weight"].time == pytest.approx(3.5 / 1.5)
    assert found["digits", "path"].time == pytest.approx(3.0 / 1.5)  # seed 4 diverged
    assert comparison.heading[2:] == ["They differ in commit (c0ffee; decade)."]
    assert comparison.heading[0] == f"A: {tmp_path / 'a' / 'planted'}, embedded; " + ", ".join(
        f"{key} {MACHINE[key]}" for key in sorted(MACHINE)
    )


@pytest.mark.parametrize("key", ["cpu", "device", "threads", "torch", "python"])
def test_times_are_not_compared_over_unlike_environments(tmp_path: Path, key: str) -> None:
    a = made_on(planted())
    mixed = a.assign(environment=a["environment"].mask(arm(a), made_on(a, **{key: "other"})["environment"]))
    unknown = a.assign(environment=json.dumps({each: MACHINE[each] for each in MACHINE if each != key}))
    for name, one, other in (("1", a, made_on(a, **{key: "other"})), ("2", mixed, mixed), ("3", unknown, unknown)):
        comparison = against(tmp_path / name, one, other)
        assert all(math.isnan(row.time) for row in comparison.rows)
        reason = f"Times are not compared, for the environments are not known to be alike in {key}."
        assert comparison.heading[-1] == reason
        assert "time" not in side_by_side._tables(comparison.rows)[0]


# What is shown


EVIL = "a|b <script>[red]*x*`"


def test_markdown_shows_names_as_text_and_the_same_bytes(tmp_path: Path) -> None:
    a = planted(tasks=[EVIL, "digits"], rules=["sgd|<b>"])
    comparison = against(tmp_path, a, shifted(a, -6.0, arm(a, EVIL)))
    for name in ("1.md", "2.md"):
        side_by_side.write(comparison, tmp_path / name)
        comparison = compare(*(Store(tmp_path / side / "planted") for side in "ab"), None)
    text = (tmp_path / "1.md").read_text(encoding="utf-8")
    assert (tmp_path / "2.md").read_bytes() == (tmp_path / "1.md").read_bytes()
    assert "<" not in text
    assert r"### a\|b &lt;script&gt;" in text
    assert r"- Regression: a\|b" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(re.findall(r"\|", table[0]))}
    assert len(table) == 2 * (2 + 2)
    assert sum(line.endswith("worse (regression) |") for line in table) == 1


def test_the_terminal_shows_names_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = planted(tasks=[EVIL, "digits"], rules=["[i]sgd"], spaces=["weight", "[bold]path"])
    missing = a[~((a["name"] == "digits") & (a["space"] == "weight"))]
    side_by_side.show(against(tmp_path, a, shifted(missing, -6.0, arm(missing, EVIL, "[bold]path"))))
    out = capsys.readouterr().out
    assert f"{EVIL}: accuracy [%], 5 seeds" in out
    assert "-6 [-6, -6] worse" in out
    assert "Left out: only in A: digits ([i]sgd in weight space)" in out
    assert f"Regression: {EVIL}, [i]sgd in [bold]path space by -6" in out
    assert out.count("[i]sgd  [bold]path") == 2
    assert out.splitlines()[-1] == "3 arms: 1 worse (regression), 2 same"


def test_equal_arms_have_equal_intervals(tmp_path: Path) -> None:
    a = planted(seeds=13)
    assert all(row.scores[0] == row.scores[1] for row in against(tmp_path, a, a).rows)


# Bad input


def test_folders_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    a = planted()
    folder = Store(stored(tmp_path / "a", a))
    tuning = Store(stored(tmp_path / "tuning", a[a["role"] == "tuning"]))
    full = Store(stored(tmp_path / "full", a.assign(profile="full")))
    other = Store(stored(tmp_path / "other", planted(tasks=["adding"])))
    for b, profile, message in (
        (Store(tmp_path / "nowhere"), None, "nowhere holds no records"),
        (tuning, None, "tuning/planted: there are no test runs"),
        (full, None, "profiles must be the same: .*a/planted holds embedded, .*full/planted holds full"),
        (full, "embedded", "unknown profile 'embedded'; .*full/planted holds full"),
        (
            other,
            None,
            r"must have an arm in common; only in B: adding \(all 2 arms\); only in A: digits \(all 2 arms\)",
        ),
    ):
        with pytest.raises(InputError, match=message):
            compare(folder, b, profile)


def test_two_records_of_a_seed_are_refused(tmp_path: Path) -> None:
    a = planted()
    twice = pd.concat([a, pd.DataFrame([record("digits", "momentum", "path", "test", 0, 0.1, 1.0, key="again")])])
    with pytest.raises(InputError, match="seed 0 of momentum in path space on digits has two records"):
        against(tmp_path, a, twice)


def test_bad_arguments_are_one_line(bench: Bench, tmp_path: Path) -> None:
    for arguments, message in (
        ([REFERENCE, tmp_path / "none"], f"{tmp_path / 'none'} holds no records"),
        (
            [REFERENCE, REFERENCE, "--markdown", tmp_path / "none" / "file.md"],
            "the comparison cannot be written: No such",
        ),
    ):
        result = bench("compare", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert re.fullmatch(r"Error: .*\n", result.stderr)
        assert message in result.stderr
