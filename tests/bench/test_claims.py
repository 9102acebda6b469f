"""Verdicts on planted records: what must be supported, refuted or inconclusive is."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import suite as suites
from bench.claims import Below, Better, Claims, Equal, Finding, Holds, judge
from bench.errors import InputError
from bench.evidence import Evidence
from bench.findings import FINDINGS, TIMINGS, write_findings
from bench.schema import read
from bench.seeds import seed
from bench.theorems import STATEMENTS
from bench.theory import Finding as Theorem
from bench.throughput import Timing
from tests.bench.conftest import ROOT
from tests.bench.planted import stored, study

BETTER = Better(text="", source="", rule="better", suites=("planted",), space="path", over="weight")
EQUAL = Equal(text="", source="", rule="equal", suites=("planted",), space="path", tasks=("*_sigma_2.0",), margin=2.0)


def noise(*names: Any) -> float:
    return float(np.random.default_rng(seed(*names)).normal())


def found(claim: Any, root: Path) -> Finding:
    return judge(Claims(claims={"it": claim}), Evidence(root, None))["it"]


def compared(tmp_path: Path, advantage: Any, claim: Better = BETTER, **shape: Any) -> Finding:
    """Judge path against weight, where path space has an advantage by task and seed."""

    def outcome(task: str, rule: str, space: str, index: int, _: float) -> float:
        return 70 + (index % 3) + (advantage(task, rule, index) if space == "path" else 0.0)

    stored(tmp_path, study(outcome, **shape))
    return found(claim, tmp_path)


def test_an_advantage_on_every_seed_is_supported(tmp_path: Path) -> None:
    finding = compared(tmp_path, lambda *_: 1.0)
    assert finding.verdict == "supported"
    assert finding.numbers == "wins 100 % [76, 100] of 12 pairs, p = 0.00049; 2 tasks, momentum"
    assert finding.by == ("digits: 100 % [61, 100], p = 0.062 (Holm)", "reber: 100 % [61, 100], p = 0.062 (Holm)")


def test_a_disadvantage_on_every_seed_is_refuted(tmp_path: Path) -> None:
    assert compared(tmp_path, lambda *_: -1.0).verdict == "refuted"


def test_an_advantage_on_half_of_the_seeds_is_inconclusive(tmp_path: Path) -> None:
    assert compared(tmp_path, lambda _, __, index: (-1.0) ** index).verdict == "inconclusive"


def test_no_difference_on_many_seeds_is_refuted_since_it_is_smaller_than_what_counts(tmp_path: Path) -> None:
    assert compared(tmp_path, lambda _, __, index: (-1.0) ** index, seeds=80).verdict == "refuted"


def test_an_advantage_that_is_certain_but_too_small_is_not_supported(tmp_path: Path) -> None:
    rare = lambda _, __, index: -1.0 if index % 9 < 4 else 1.0  # noqa: E731 - wins 5 of 9
    assert compared(tmp_path, rare, seeds=900).verdict == "refuted"


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_too_few_seeds_are_inconclusive_however_large_the_advantage(tmp_path: Path, seeds: int) -> None:
    finding = compared(tmp_path, lambda *_: 30.0, seeds=seeds)
    assert finding.verdict == "inconclusive"
    assert finding.numbers == f"not enough seeds: {seeds} on digits, {seeds} on reber, where 5 are needed"


def test_five_seeds_of_one_task_cannot_support_anything(tmp_path: Path) -> None:
    """The least p-value of five sign flips is 1/16."""
    assert compared(tmp_path, lambda *_: 30.0, tasks=["digits"], seeds=5).verdict == "inconclusive"


def test_rules_are_averaged_within_a_seed_and_do_not_multiply_the_pairs(tmp_path: Path) -> None:
    one = compared(tmp_path / "one", lambda *_: 1.0, rules=["momentum"])
    three = compared(tmp_path / "three", lambda *_: 1.0, rules=["momentum", "adam", "muon"])
    assert one.numbers.partition(";")[0] == three.numbers.partition(";")[0]


def test_tasks_of_one_kind_share_random_numbers_and_do_not_multiply_the_pairs(tmp_path: Path) -> None:
    alike = {"specification": json.dumps({"task": {"task": "digits", "rescale": 0.0}, "test_at": "end"})}
    apart = compared(tmp_path / "apart", lambda *_: 1.0, tasks=["rows", "pixels"])
    shared = compared(tmp_path / "shared", lambda *_: 1.0, tasks=["rows", "pixels"], **alike)
    assert apart.numbers.startswith("wins 100 % [76, 100] of 12 pairs")
    assert shared.numbers.startswith("wins 100 % [61, 100] of 6 pairs")


def test_only_the_rules_and_tasks_of_the_claim_count(tmp_path: Path) -> None:
    better_with_adam = lambda _, rule, __: 1.0 if rule == "adam" else -1.0  # noqa: E731
    claim = BETTER.model_copy(update={"rules": ("adam",), "tasks": ("dig*",)})
    finding = compared(tmp_path, better_with_adam, claim, rules=["momentum", "adam"])
    assert (finding.verdict, finding.by[0].split(":")[0], len(finding.by)) == ("supported", "digits", 1)


def test_divergence_loses(tmp_path: Path) -> None:
    assert compared(tmp_path, lambda *_: math.nan).verdict == "refuted"


def test_a_metric_where_lower_is_better_turns_round(tmp_path: Path) -> None:
    assert compared(tmp_path, lambda *_: 1.0, higher_is_better=False).verdict == "refuted"


def test_updates_to_target_count_misses_as_infinite(tmp_path: Path) -> None:
    """Weight space misses the target of 60 on every seed, path space meets it."""
    claim = BETTER.model_copy(update={"metric": "updates_to_target"})
    stored(tmp_path, study(lambda _, __, space, index, ___: 61.0 if space == "path" else 50.0 + index))
    assert found(claim, tmp_path).verdict == "supported"


def test_a_missing_arm_is_inconclusive_and_says_so(tmp_path: Path) -> None:
    finding = compared(tmp_path, lambda *_: 1.0, spaces=["path", "gauge"])
    assert finding == Finding("inconclusive", "not measured: no task has both arms")


def test_missing_records_are_inconclusive_and_say_so(tmp_path: Path) -> None:
    assert found(BETTER, tmp_path) == Finding("inconclusive", "not measured: no records of the suite planted")
    (tmp_path / "planted" / "records").mkdir(parents=True)
    assert found(BETTER, tmp_path).numbers.endswith("holds no records; make some with python -m bench run SUITE")
    (tmp_path / "planted" / "records" / "cut.parquet").write_bytes(b"PAR1")
    assert "the record cannot be read" in found(BETTER, tmp_path).numbers


def rescaled(root: Path, change: Any, seeds: int = 8) -> Finding:
    """Judge whether path space is affected by another start, where the change is chosen by task and seed."""
    plain = study(lambda *_: 80.0, seeds=seeds)
    other = study(lambda task, _, __, index, ___: 80.0 + change(task, index), seeds=seeds)
    other = other[other["role"] == "test"].assign(tuned_task=other["name"], name=other["name"] + "_sigma_2.0")
    stored(root, pd.concat([plain, other.assign(key="rescaled-" + other["key"])]))
    return found(EQUAL, root)


def test_a_start_that_changes_little_is_supported(tmp_path: Path) -> None:
    finding = rescaled(tmp_path, lambda _, index: 0.5 * (-1.0) ** index)
    assert finding.verdict == "supported"
    assert finding.numbers.startswith("mean change +0 [")


def test_a_start_that_changes_much_is_refuted(tmp_path: Path) -> None:
    assert rescaled(tmp_path / "worse", lambda _, index: -5.0 - index).verdict == "refuted"
    assert rescaled(tmp_path / "better", lambda _, index: 5.0 + index).verdict == "refuted"
    assert rescaled(tmp_path / "lost", lambda *_: math.nan).verdict == "refuted"


def test_a_start_whose_change_is_uncertain_is_inconclusive(tmp_path: Path) -> None:
    assert rescaled(tmp_path, lambda _, index: 6.0 * (-1.0) ** index).verdict == "inconclusive"
    assert rescaled(tmp_path / "few", lambda *_: 0.0, seeds=3).verdict == "inconclusive"


def test_a_start_that_saves_one_rule_and_loses_another_is_inconclusive(tmp_path: Path) -> None:
    plain = study(lambda _, rule, *__: math.nan if rule == "adam" else 80.0, rules=["adam", "momentum"])
    other = study(lambda _, rule, *__: 80.0 if rule == "adam" else math.nan, rules=["adam", "momentum"])
    other = other[other["role"] == "test"].assign(tuned_task=other["name"], name=other["name"] + "_sigma_2.0")
    stored(tmp_path, pd.concat([plain, other.assign(key="rescaled-" + other["key"])]))
    assert found(EQUAL, tmp_path).numbers.startswith("no mean change: with one rule")


def test_another_task_of_the_kind_does_not_hide_that_a_mean_change_is_missing(tmp_path: Path) -> None:
    tasks, rules = ["digits"], ["adam", "momentum"]
    plain = study(lambda _, rule, *__: math.nan if rule == "adam" else 80.0, tasks, rules)
    other = study(lambda _, rule, *__: 80.0 if rule == "adam" else math.nan, tasks, rules)
    other = other[other["role"] == "test"].assign(tuned_task="digits", name="digits_sigma_2.0")
    start = study(lambda *_: 80.0, ["digits_long"], rules).assign(specification=other["specification"].iloc[0])
    clear = start[start["role"] == "test"].assign(tuned_task="digits_long", name="digits_long_sigma_2.0")
    records = pd.concat([plain, other, start, clear], ignore_index=True)
    stored(tmp_path, records.assign(key=records.index.astype(str)))
    assert found(EQUAL, tmp_path).numbers.startswith("no mean change: with one rule")


def timing(ratio: float, spread: float = 0.005, network: str = "rows") -> Timing:
    draw = np.random.default_rng(7)
    return Timing(network, "SGD", "path", 1e4, tuple(ratio + spread * draw.normal(size=30)), ratio - 1)


@pytest.mark.parametrize(
    ("timings", "verdict"),
    [
        ([timing(1.02)], "supported"),
        ([timing(1.09)], "refuted"),
        ([timing(1.05)], "inconclusive"),
        ([timing(1.02), timing(1.09, network="deep")], "refuted"),
        ([timing(1.02), timing(1.05, network="deep")], "inconclusive"),
    ],
)
def test_the_cost_of_a_step(tmp_path: Path, timings: list[Timing], verdict: str) -> None:
    claim = Below(text="", source="", rule="below", space="path", bound=0.05)
    assert found(claim, tmp_path) == Finding("inconclusive", "not measured: run python -m bench throughput")
    write_findings(tmp_path / TIMINGS, timings)
    assert found(claim, tmp_path).verdict == verdict
    other = claim.model_copy(update={"space": "gauge"})
    assert found(other, tmp_path) == Finding("inconclusive", "not measured: gauge space was not timed")


def test_a_law(tmp_path: Path) -> None:
    claim = Holds(text="", source="", rule="holds", law="rank")
    assert found(claim, tmp_path).numbers == "not measured: run python -m bench theory"
    theorem = Theorem("rank", "m - H", 40, 0.0, 0.0, holds=True)
    write_findings(tmp_path / FINDINGS, [theorem])
    assert found(claim, tmp_path) == Finding("supported", "worst relative error 0 (bound 0), 40 networks")
    write_findings(tmp_path / FINDINGS, [dataclasses.replace(theorem, worst=1.0, holds=False)])
    assert found(claim, tmp_path).verdict == "refuted"
    assert found(claim.model_copy(update={"law": "flow"}), tmp_path).verdict == "inconclusive"


def test_the_claims_of_the_project_are_about_what_there_is() -> None:
    claims = read(ROOT / "suites" / "claims.toml", Claims).claims
    assert len(claims) >= 10
    for name, claim in claims.items():
        if isinstance(claim, Holds):
            assert claim.law in STATEMENTS, name
        if isinstance(claim, Better | Equal):
            for suite in (suites.load(ROOT / "suites" / f"{each}.toml") for each in claim.suites):
                spaces = {claim.space, claim.over} if isinstance(claim, Better) else {claim.space}
                assert spaces <= set(suite.spaces), name
                assert set(claim.rules or ()) <= set(suite.rules), name


def test_the_seeds_of_the_embedded_suites_are_enough_for_the_claims() -> None:
    for claim in read(ROOT / "suites" / "claims.toml", Claims).claims.values():
        if isinstance(claim, Better | Equal):
            for each in claim.suites:
                assert suites.load(ROOT / "suites" / f"{each}.toml").profiles["embedded"].test_seeds >= claim.seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('rule = "holds"', "law: Field required"),
        (
            'rule = "guess"\nlaw = "rank"',
            "does not match any of the expected tags: 'holds', 'below', 'better', 'equal'",
        ),
        ('rule = "holds"\nlaw = "rank"\nlaws = 3', "unknown key 'laws'; allowed are"),
        ('rule = "below"\nspace = "path"\nbound = -1.0', "greater than 0, got -1.0"),
    ],
)
def test_a_wrong_claim_is_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(f'[claims.mine]\ntext = "it is so"\nsource = "me"\n{text}\n')
    with pytest.raises(InputError) as error:
        read(path, Claims)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_verdict_does_not_depend_on_the_order_of_the_records(tmp_path: Path) -> None:
    frame = study(lambda task, _, space, index, __: 70 + noise(task, space, index), seeds=7)
    findings = []
    for place, order in enumerate((frame, frame.sample(frac=1, random_state=0), frame.iloc[::-1])):
        stored(tmp_path / str(place), order)
        findings.append(found(BETTER, tmp_path / str(place)))
    assert findings[0] == findings[1] == findings[2]
    assert json.dumps(findings[0].numbers)
