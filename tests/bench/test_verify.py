"""Records are trained again: what was changed is found, what other rounding explains is let pass, the rest is told."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.errors import CheckFailedError, InputError
from bench.runs import from_record
from bench.store import Store
from bench.verify import LEAST_TOLERANCE, OPENING_TOLERANCE, SPREADS, Check, compare, require_none_differs
from tests.bench.conftest import ROOT, TINY, Bench
from tests.bench.planted import stored

SPREADS_OF_SEEDS = {"validation": 3.0, "test": 2.0}


@pytest.fixture(scope="module")
def tiny_records(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("tiny")
    suite = folder / "tiny.toml"
    suite.write_text(TINY.replace(", mnist_rows = 1", ""))
    result = bench("run", suite, "--results", folder)
    assert result.returncode == 0, result.stderr
    return Store(folder / "tiny").load()


@pytest.fixture
def record(tiny_records: pd.DataFrame) -> dict[str, Any]:
    return test_runs(tiny_records)[0]


def test_runs(records: pd.DataFrame) -> list[dict[Any, Any]]:
    return records[records["role"] == "test"].to_dict("records")


test_runs.__test__ = False  # type: ignore[attr-defined]


def elsewhere(record: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A record that was made where sums are rounded otherwise."""
    environment = json.loads(record["environment"]) | {"torch": "another"}
    return {**record, "environment": json.dumps(environment), **changes}


def scaled(values: Any, factor: float) -> Any:
    return np.asarray(values, dtype=float) * factor


def next_after(values: Any) -> Any:
    """Change the last bit of the last value."""
    changed = np.array(values, dtype=float)
    changed[-1] = np.nextafter(changed[-1], math.inf)
    return changed


def test_every_record_comes_out_bit_for_bit_the_same(bench: Bench, tiny_records: pd.DataFrame, tmp_path: Path) -> None:
    folder = stored(tmp_path, tiny_records)
    first = bench("verify", folder, "--sample", "100", "--seed", "1")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("same bits") == len(tiny_records) == 8
    assert "differs" not in first.stdout
    again = bench("verify", folder, "--sample", "100", "--seed", "1", "--workers", "1")
    assert first.stdout == again.stdout


def test_the_seed_chooses_the_sample_and_is_told(bench: Bench, tiny_records: pd.DataFrame, tmp_path: Path) -> None:
    folder = stored(tmp_path, tiny_records)
    drawn = bench("verify", folder, "--sample", "2")
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.count("same bits") == 2
    command = drawn.stdout.splitlines()[0].partition(": ")[2].split()
    assert bench("verify", folder, *command).stdout == drawn.stdout


@pytest.mark.parametrize("change", [{"test": 1e-9}, {"validation": -1.0}, {"target": 0.5}])
def test_a_record_that_was_changed_is_found(
    bench: Bench, tiny_records: pd.DataFrame, tmp_path: Path, change: dict[str, float]
) -> None:
    changed = tiny_records.copy()
    (name, more), row = next(iter(change.items())), changed.index[changed["role"] == "test"][0]
    changed[name] = changed[name].astype(type(more))
    changed.loc[row, name] += more
    result = bench("verify", stored(tmp_path, changed), "--sample", "8")
    assert result.returncode == 1, result.stdout
    assert result.stderr.splitlines()[-1] == "Error: 1 of 8 records differ; see the lines above"
    line = next(line for line in result.stdout.splitlines() if line.startswith("differs: "))
    assert f"{name} {changed.loc[row, name]} before, {tiny_records.loc[row, name]} now" in line


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("specification", '{"task": {"task": "digits"}}', "its specification is not that of a run: KeyError"),
        ("key", "0123456789abcdef", "its key is 0123456789abcdef, that of its specification "),
        ("lr", 0.5, "its lr is 0.5, that of its specification 0"),
        ("index", 7, "its index is 7, that of its specification "),
        ("model", "gru", "its model is gru, that of its specification relu"),
        ("batch", 1, "its batch is 1, that of its specification 32"),
    ],
)
def test_a_record_of_another_run_than_it_says_is_refused_before_it_is_trained(
    record: dict[str, Any], column: str, value: object, reason: str
) -> None:
    with pytest.raises(InputError, match=f"^{reason}"):
        from_record({**record, column: value})


def test_another_setting_in_the_specification_is_found(
    bench: Bench, tiny_records: pd.DataFrame, tmp_path: Path
) -> None:
    text = tiny_records["specification"].str.replace('"hidden":8', '"hidden":16')
    result = bench("verify", stored(tmp_path, tiny_records.assign(specification=text)), "--sample", "8")
    assert result.returncode == 1
    assert result.stdout.count("its key is") == 8


def test_a_name_that_was_made_up_is_no_plug_in(bench: Bench, tiny_records: pd.DataFrame, tmp_path: Path) -> None:
    text = tiny_records["specification"].str.replace('"task":"digits"', '"task":"nowhere"')
    changed = tiny_records.assign(specification=text.where(tiny_records.index == 0, tiny_records["specification"]))
    result = bench("verify", stored(tmp_path, changed), "--sample", "8")
    assert result.returncode == 1
    assert "its task 'nowhere' is not registered, and it was made without plug-ins" in result.stdout


def test_what_was_trained_is_shown_behind_a_name_that_says_otherwise(
    bench: Bench, tiny_records: pd.DataFrame, tmp_path: Path
) -> None:
    swapped = tiny_records.assign(space=tiny_records["space"].map({"weight": "path", "path": "weight"}))
    result = bench("verify", stored(tmp_path, swapped), "--sample", "8")
    assert result.stdout.count("path (weight)") == result.stdout.count("weight (path)") == 4
    assert result.stdout.count("momentum (SGD)") == 8


def test_other_kernels_stay_within_the_tolerances(bench: Bench, tiny_records: pd.DataFrame, tmp_path: Path) -> None:
    """The same processor rounds otherwise if it is told to do without its vectors."""
    folder = stored(tmp_path, tiny_records)
    result = bench("verify", folder, "--sample", "8", ATEN_CPU_CAPABILITY="default", MKL_CBWR="COMPATIBLE")
    assert result.returncode == 0, result.stdout + result.stderr
    if result.stdout.count("same bits") == 8:
        pytest.skip("this machine rounds in one way alone")
    assert "within tolerance: digits_rows" in result.stdout
    assert ": rounding" in result.stdout


def test_a_changed_record_does_not_make_room_for_itself(
    bench: Bench, tiny_records: pd.DataFrame, tmp_path: Path
) -> None:
    """Elsewhere, where the tolerance is that of the spread between seeds."""
    row = tiny_records.index[tiny_records["role"] == "test"][0]
    changed = tiny_records.copy()
    changed.loc[row, "test"] += 1000
    changed["environment"] = [elsewhere(record)["environment"] for record in tiny_records.to_dict("records")]
    changed["opening"] *= 1 + 1e-6
    result = bench("verify", stored(tmp_path, changed), "--sample", "8")
    assert result.returncode == 1, result.stdout
    assert result.stdout.count("within tolerance: ") == 3
    assert result.stdout.count("not judged: ") == 4  # tuning runs of one seed
    assert result.stdout.count("differs: ") == 1


@pytest.mark.parametrize(
    "name",
    ["status", "reason", "test", "validation", "opening", "curve_train_loss", "curve_validation", "curve_update"],
)
def test_in_the_same_environment_the_last_bit_counts(record: dict[str, Any], name: str) -> None:
    value = record[name]
    changed = "another" if isinstance(value, str) else next_after(np.atleast_1d(value))
    again = {**record, name: changed if np.ndim(value) or isinstance(value, str) else changed[0]}
    check = compare(record, again, SPREADS_OF_SEEDS)
    assert check.verdict == "differs"
    assert check.tolerance == 0
    assert check.reason.startswith(f"{name} ")
    assert compare(record, record, SPREADS_OF_SEEDS) == Check(record, record["test"], 0, "same bits")


def test_a_curve_is_quoted_where_it_changed_most(record: dict[str, Any]) -> None:
    first, second, third = record["opening"]
    again = {**record, "opening": [first * (1 + 1e-7), second, third * 1.5]}
    assert compare(record, again, SPREADS_OF_SEEDS).reason == (
        f"opening {third} before, {third * 1.5} now, value 3 of 3"
    )
    lost = {**record, "opening": [first, math.nan, math.nan]}
    again = {**lost, "opening": [first, math.nan, 0.0]}
    assert compare(lost, again, SPREADS_OF_SEEDS).reason == "opening nan before, 0.0 now, value 3 of 3"


def test_times_and_commits_do_not_count(record: dict[str, Any]) -> None:
    environment = json.dumps(json.loads(record["environment"]) | {"commit": "another", "dirty": True})
    again = {**record, "seconds": 1e9, "curve_seconds": scaled(record["curve_seconds"], 2), "environment": environment}
    assert compare(record, again, SPREADS_OF_SEEDS).verdict == "same bits"


def test_elsewhere_differences_are_judged_by_their_tolerances(record: dict[str, Any]) -> None:
    def verdict(spreads: Mapping[str, float] = SPREADS_OF_SEEDS, **changes: Any) -> str:
        return compare(record, elsewhere(record, **changes), spreads).verdict

    assert verdict() == "same bits"
    opening = record["opening"]
    assert verdict(opening=scaled(opening, 1 + 0.9 * OPENING_TOLERANCE)) == "within tolerance"
    assert verdict(opening=scaled(opening, 1 + 1.1 * OPENING_TOLERANCE)) == "differs"
    assert verdict(opening=opening[:-1]) == "differs"
    assert verdict(opening=scaled(opening, math.nan)) == "differs"
    for sign, (name, spread) in itertools.product((-1, 1), SPREADS_OF_SEEDS.items()):
        far = sign * SPREADS * spread
        assert verdict(**{name: record[name] + 0.99 * far}) == "within tolerance"
        assert verdict(**{name: record[name] + 1.01 * far}) == "differs"
    none = dict.fromkeys(SPREADS_OF_SEEDS, 0.0)
    assert verdict(none, test=record["test"] * (1 + 0.9 * LEAST_TOLERANCE)) == "within tolerance"
    assert verdict(none, test=record["test"] * (1 + 1.1 * LEAST_TOLERANCE)) == "differs"
    assert verdict(status="diverged") == verdict(curve_update=[3.0, 7.0]) == "differs"
    assert verdict(status="diverged", curve_update=[3.0], validation=math.nan, test=math.nan) == "differs"
    assert verdict(curve_train_loss=scaled(record["curve_train_loss"], 2)) == "within tolerance"


def test_a_metric_that_is_not_a_number_is_not_within_a_tolerance(record: dict[str, Any]) -> None:
    unknown = dict.fromkeys(SPREADS_OF_SEEDS, math.nan)
    for spreads in (SPREADS_OF_SEEDS, unknown):
        assert compare({**record, "test": math.nan}, elsewhere(record), spreads).verdict == "differs"
        assert compare(record, elsewhere(record, test=math.nan), spreads).verdict == "differs"
    assert compare(record, elsewhere(record, test=record["test"] + 1), unknown).verdict == "not judged"


def test_runs_that_diverged_elsewhere_as_well_may_do_so_at_another_update(record: dict[str, Any]) -> None:
    lost = {**record, "status": "diverged", "validation": math.nan, "test": math.nan}
    again = elsewhere(lost, curve_update=[3.0], curve_validation=[1.0], curve_train_loss=[1.0], reason="later")
    assert compare(lost, again, SPREADS_OF_SEEDS).verdict == "within tolerance"


def test_a_record_without_first_losses_is_compared_in_all_else(record: dict[str, Any]) -> None:
    known = {name: value for name, value in json.loads(record["environment"]).items() if name != "rounding"}
    older = {name: value for name, value in record.items() if name != "opening"} | {"environment": json.dumps(known)}
    for before in (older, {**older, "opening": None}, {**older, "opening": math.nan}):
        assert compare(before, record, SPREADS_OF_SEEDS).verdict == "same bits"
        assert compare(before, {**record, "test": -100.0}, SPREADS_OF_SEEDS).verdict == "differs"
    for lacking in (None, "text", math.nan):  # the environment tells that it is no older record
        for again in (record, elsewhere(record)):
            assert compare({**record, "opening": lacking}, again, SPREADS_OF_SEEDS).verdict == "differs"


def test_a_record_of_an_older_environment_is_compared_by_what_it_tells(record: dict[str, Any]) -> None:
    known = {name: value for name, value in json.loads(record["environment"]).items() if name != "rounding"}
    older = {**record, "environment": json.dumps(known)}
    assert compare(older, {**record, "test": 0.0}, SPREADS_OF_SEEDS).tolerance == 0


def test_records_that_cannot_be_trained_here_are_skipped_and_told(
    bench: Bench, tiny_records: pd.DataFrame, tmp_path: Path
) -> None:
    suite = ROOT / "examples" / "plugin.toml"
    made = bench("run", suite, "--results", tmp_path, "--plugin", "examples.plugin")
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "plugin"
    alone = bench("verify", folder, "--sample", "2")
    assert alone.returncode == 2
    assert alone.stdout.count("is not registered; use --plugin: it was made with examples.plugin") == 2
    assert "none of the records can be trained on this machine" in alone.stderr
    assert bench("verify", folder, "--sample", "2", "--plugin", "examples.plugin").stdout.count("same bits") == 2
    both = pd.concat([tiny_records, Store(folder).load().assign(profile="embedded")], ignore_index=True)
    mixed = bench("verify", stored(tmp_path, both), "--sample", str(len(both)), "--seed", "0")
    assert mixed.returncode == 0, mixed.stderr
    assert mixed.stdout.count("same bits") == 8


def test_records_whose_data_are_missing_are_skipped(bench: Bench, tmp_path: Path) -> None:
    records = pd.read_parquet(ROOT / "results" / "reference" / "muon" / "records")
    result = bench("verify", stored(tmp_path, records), "--sample", "1")
    assert result.returncode == 2
    assert "data fetch mnist" in result.stdout
    assert "skipped" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere holds no records"),
        (["results/reference/accuracy", "--profile", "full"], "unknown profile 'full'"),
        (["results/reference/accuracy", "--sample", "0"], "'--sample'"),
        (["results/reference/accuracy", "--seed", "-1"], "'--seed'"),
    ],
)
def test_bad_input(bench: Bench, arguments: list[str], message: str) -> None:
    result = bench("verify", *arguments)
    assert result.returncode == 2
    assert message in result.stderr


def test_what_the_exit_status_says(record: dict[str, Any]) -> None:
    fine = ("same bits", "within tolerance", "not judged", "skipped")
    verdicts = {name: Check(record, 1.0, 0.0, name) for name in (*fine, "differs")}
    require_none_differs([verdicts[name] for name in fine])
    with pytest.raises(InputError, match="none of the records"):
        require_none_differs([verdicts["skipped"]] * 2)
    with pytest.raises(CheckFailedError, match="1 of 5 records differ"):
        require_none_differs(list(verdicts.values()))
