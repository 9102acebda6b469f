"""Folders of records that somebody broke, mixed or forged: a line that says what is wrong, never half of the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.errors import InputError
from bench.runs import LABEL_COLUMNS
from bench.store import Store
from bench.summary import of_profile
from tests.bench.conftest import ROOT, Bench
from tests.bench.planted import stored, study

COLUMNS = sorted(set(Store(ROOT / "results" / "reference" / "accuracy").load().columns) - {"version", "opening"})


def planted(**changes: Any) -> pd.DataFrame:
    return study(lambda *_: 70.0, **changes)


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        of_profile(Store(folder), None)
    return str(caught.value)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_is_missing_is_named(tmp_path: Path, column: str) -> None:
    whole = stored(tmp_path, planted())
    lacking = planted().drop(columns=column)
    lacking.to_parquet(whole / "records" / "more.parquet")
    if column not in {"validation", "test"}:  # which diverged runs lack, too
        assert f"column {column} must hold " in refusal(whole)
    for path in whole.glob("records/*"):
        pd.read_parquet(path).drop(columns=column, errors="ignore").to_parquet(path)
    assert f"{whole / 'records'}: column {column} is missing; delete what does not belong there" in refusal(whole)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("environment", text) for text in ("5", "null", '"cpu"', "not JSON", "")),
        *(("specification", text) for text in ("{}", "[]", '{"task": 3}', '{"task": {}}', "{")),
        *(("data", text) for text in ("5", "", None)),
        ("method", 4.5),
        ("method", "4"),
        ("lr", "0.1"),
        ("test", "70"),
        ("index", 0.5),
        ("edge", "no"),
        ("key", None),
        ("status", None),
        ("target", None),
        ("curve_validation", "70"),
        ("curve_update", None),
    ],
)
def test_a_column_of_another_kind_is_named(tmp_path: Path, column: str, value: Any) -> None:
    folder = stored(tmp_path, planted().assign(**{column: value}))
    assert f"column {column} must hold " in refusal(folder)


def test_columns_of_two_kinds_in_two_files_are_refused(tmp_path: Path) -> None:
    folder = stored(tmp_path, planted())
    planted().assign(lr="0.1").to_parquet(folder / "records" / "more.parquet")
    assert "must have columns of the same types" in refusal(folder)


def test_records_of_other_versions_are_left_out_one_by_one_and_counted(tmp_path: Path, bench: Bench) -> None:
    frame = planted()
    old = frame["rule_name"].eq("momentum") & frame["name"].eq("reber")
    folder = stored(tmp_path, frame.assign(version=frame["version"].mask(old, 3)))
    store = Store(folder)
    assert len(store.load()) == (~old).sum()
    line = f"{old.sum()} records of other versions are left out"
    assert store.omissions() == [line]
    assert bench("report", folder).returncode == 0
    assert f"- {line}" in (folder / "report.md").read_text()
    assert line in bench("compare", folder, folder).stdout


def test_a_run_with_two_records_that_disagree_is_refused(tmp_path: Path) -> None:
    frame = planted()
    same, other = frame.tail(1), frame.tail(1).assign(test=71.0)
    agreeing = stored(tmp_path / "agreeing", pd.concat([frame, same]))
    assert len(Store(agreeing).load()) == len(frame)
    disagreeing = stored(tmp_path / "disagreeing", pd.concat([frame, other]))
    assert f"run {frame['key'].iloc[-1]} has two records that disagree" in refusal(disagreeing)


def test_a_run_that_finished_without_a_metric_is_refused(tmp_path: Path) -> None:
    frame = planted()
    frame.loc[frame.index[-1], "test"] = float("nan")
    key = frame["key"].iloc[-1]
    assert f"run {key} finished, but its record has no metric" in refusal(stored(tmp_path, frame))


@pytest.mark.parametrize("index", [5, [1], [], {"embedded": ["k"]}, {"embedded": {"k": {"name": "digits"}}}, {"a": 1}])
def test_an_index_of_another_shape_is_refused(tmp_path: Path, index: Any) -> None:
    folder = stored(tmp_path, planted())
    (folder / "index.json").write_text(json.dumps(index))
    assert "index.json: the index cannot be read: " in refusal(folder)


def test_an_index_that_names_none_of_the_records_is_refused(tmp_path: Path) -> None:
    folder = stored(tmp_path, planted())
    (folder / "index.json").write_text(json.dumps({"embedded": {}}))
    assert "the index names none of the records; run the suite again" in refusal(folder)


def test_a_folder_of_suites_is_told_from_an_empty_one(tmp_path: Path, bench: Bench) -> None:
    stored(tmp_path, planted(), "one")
    stored(tmp_path, planted(), "two")
    result = bench("verify", tmp_path)
    assert result.returncode == 2
    assert "holds no records, but folders of suites: choose one of one, two" in result.stderr
    (tmp_path / "none" / "records").mkdir(parents=True)
    planted().head(0).to_parquet(tmp_path / "none" / "records" / "empty.parquet")
    assert "holds no records; make some" in refusal(tmp_path / "none")


def test_b_that_lacks_what_a_has_is_no_success(tmp_path: Path, bench: Bench) -> None:
    frame = planted()
    a = stored(tmp_path / "a", frame)
    without_an_arm = stored(tmp_path / "b", frame[~(frame["name"].eq("reber") & frame["space"].eq("path"))])
    without_seeds = stored(tmp_path / "c", frame[~(frame["role"].eq("test") & frame["index"].gt(2))])
    for b in (without_an_arm, without_seeds):
        result = bench("compare", a, b, "--fail-on-regression")
        assert result.returncode == 1
        assert "Error: B lacks what A has: " in result.stderr
        assert bench("compare", a, b).returncode == 0
    assert bench("compare", without_seeds, a, "--fail-on-regression").returncode == 0


def test_single_records_of_two_kinds_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for row, rate in zip(planted().head(2).to_dict("records"), (0.1, "0.1"), strict=True):
        store.save({str(name): value for name, value in row.items()} | {"lr": rate})
    assert "must have columns of the same types" in refusal(tmp_path)


def test_notes_and_signs_that_are_damaged_are_passed_over(tmp_path: Path, bench: Bench) -> None:
    folder = stored(tmp_path, planted())
    index = {"embedded": {key: dict.fromkeys(LABEL_COLUMNS, "a") for key in planted()["key"]}}
    (folder / "index.json").write_text(json.dumps(index))
    for name in ("failures", "working"):
        (folder / name).mkdir()
        for place, content in enumerate(("[" * 100_000, "{}", '{"lr": "a"}', "5", '["a"]')):
            (folder / name / f"{place}.json").write_text(content)
    result = bench("status", folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[7:11] == [str(len(planted())), "0", "0", "0"]
