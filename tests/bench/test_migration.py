"""Records of version 4 serve beside those of now; those that no step leads from are left aside, and stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench import suite as suites
from bench.data import IMPLIED
from bench.files import read_record, write_record
from bench.migration import migrated
from bench.registry import DATA
from bench.runs import METHOD_VERSION, RECORD_VERSION, Run
from bench.store import Store
from tests.bench.conftest import ROOT, TINY, Bench
from tests.bench.planted import record, stored, study

REFERENCE = ROOT / "results" / "reference"
MNIST = {name: digest for name, digest in IMPLIED.items() if name.startswith("mnist/")}


def of_4(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=["method", "data"]).assign(version=4)


def planted() -> pd.DataFrame:
    frame = study(lambda *_: 70.0, tasks=("digits", "mnist_rows"))
    return frame.assign(data=frame["name"].map({"digits": "{}", "mnist_rows": json.dumps(MNIST, sort_keys=True)}))


def singles(folder: Path, frame: pd.DataFrame) -> None:
    for row in frame.assign(suite="planted").to_dict("records"):
        write_record(folder / "records" / f"{row['key']}.json", {str(name): value for name, value in row.items()})


def of_both(root: Path) -> Path:
    """Version 4 in a table, in a table with version 5, and in files; version 5 in files."""
    frame = planted()
    parts = [frame.iloc[start::4] for start in range(4)]
    folder = stored(root, of_4(parts[0]))
    mixed = pd.concat([of_4(parts[1].iloc[::2]), parts[1].iloc[1::2]]).astype({"method": "Int64"})
    mixed.assign(suite="planted").to_parquet(folder / "records" / "mixed.parquet", index=False)
    singles(folder, of_4(parts[2]))
    singles(folder, parts[3])
    return folder


def sorted_columns(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[sorted(frame)]


def test_both_versions_serve_together(tmp_path: Path, bench: Bench) -> None:
    both, now = of_both(tmp_path / "both"), stored(tmp_path / "now", planted())
    records, expected = Store(both).load(), sorted_columns(Store(now).load())
    pd.testing.assert_frame_equal(sorted_columns(records), expected)
    assert Store(both).keys() == set(expected["key"])
    assert sorted(Store(both).durations()) == sorted(Store(now).durations())
    for folder in (both, now):
        assert bench("report", folder).returncode == 0
    assert (both / "report.md").read_text() == (now / "report.md").read_text()
    compared = bench("compare", both, now, "--fail-on-regression")
    assert compared.returncode == 0, compared.stderr
    assert "Left out" not in compared.stdout
    assert "4 arms: 4 same" in compared.stdout
    assert bench("compact", both).stdout == f"{len(expected)} records in one file in {both / 'records'}\n"
    (path,) = (both / "records").iterdir()
    written = pd.read_parquet(path)
    assert set(written["version"]) == {RECORD_VERSION}
    assert set(written["method"]) == {METHOD_VERSION}
    pd.testing.assert_frame_equal(sorted_columns(Store(both).load()), expected)


def test_runs_on_other_data_are_not_compared(tmp_path: Path, bench: Bench) -> None:
    frame, (name, digest) = planted(), next(iter(MNIST.items()))
    other = frame.assign(data=frame["data"].str.replace(digest, "0" * 64))
    result = bench("compare", stored(tmp_path / "a", frame), stored(tmp_path / "b", other))
    line = f"Left out: digest of {name} {digest} in A, {'0' * 64} in B: mnist_rows (all 2 arms)"
    assert line in result.stdout.splitlines()
    assert "2 arms: 2 same" in result.stdout


def test_a_record_of_version_4_tells_the_data_that_version_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def data_of(task: str, **options: Any) -> Any:
        specification = json.dumps({"task": {"task": task, "options": options}})
        return json.loads(migrated({"version": 4, "specification": specification})["data"])

    monkeypatch.setitem(DATA, "mnist_rows", dict.fromkeys(MNIST, "0" * 64))  # as if a release had other files
    monkeypatch.setitem(DATA, "theirs", {"theirs.csv": "0" * 64})
    assert data_of("mnist_rows") == MNIST
    assert data_of("digits", steps=8) == data_of("nobody_knows") == data_of("theirs") == {}
    assert data_of("characters") == {name: IMPLIED[name] for name in ["tinyshakespeare/input.txt"]}
    assert data_of("characters", file="my.txt", sha256="AB" * 32) == {"my.txt": "ab" * 32}
    for broken in (None, "", "5", "[]", '{"task": 3}', '{"task": {"task": "digits", "options": 3}}'):
        assert migrated({"version": 4, "specification": broken})["data"] == "{}"


@pytest.mark.parametrize("name", ["defaults", "muon"])
def test_the_committed_records_tell_their_data(name: str) -> None:
    records = Store(REFERENCE / name).load()
    assert len(records) == len(pd.read_parquet(REFERENCE / name / "records"))
    for specification, data in records[["specification", "data"]].itertuples(index=False):
        task = json.loads(specification)["task"]["task"]
        assert json.loads(data) == (MNIST if task.startswith("mnist") else {})


ELSEWHEN = [
    {"version": 3},
    {"version": RECORD_VERSION + 1},
    {"method": METHOD_VERSION + 1},
    {"version": None},
    {"version": "4"},
]


@pytest.mark.parametrize("changes", ELSEWHEN)
def test_other_versions_are_left_aside_and_stay(tmp_path: Path, changes: dict[str, Any]) -> None:
    frame = planted()
    folder = stored(tmp_path, frame.iloc[:-3])
    others = [frame.iloc[[place]].assign(**changes) for place in (-3, -2, -1)]
    singles(folder, others[0])
    pd.concat(others[1:]).to_parquet(folder / "records" / "others.parquet", index=False)
    store = Store(folder)
    assert len(store.load()) == len(frame) - 3
    assert store.omissions() == ["3 records of other versions are left out"]
    assert store.compact() == len(frame) - 3
    assert len(list((folder / "records").iterdir())) == 3
    assert Store(folder).load()["key"].is_unique


def run_of(tmp_path: Path) -> Run:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return suites.load(path).tuning_runs("embedded", ["digits_rows"])[0]


def record_of(run: Run, **changes: Any) -> dict[str, Any]:
    return record("digits", "momentum", "weight", "tuning", 0, run.lr, 70.0, key=run.key, **changes)


@pytest.mark.parametrize("changes", ELSEWHEN)
@pytest.mark.parametrize("compacted", [False, True])
def test_a_record_that_is_left_aside_does_not_make_its_run_done(
    tmp_path: Path, changes: dict[str, Any], compacted: bool
) -> None:
    run, store = run_of(tmp_path), Store(tmp_path / "tiny")
    store.prepare()
    other = record_of(run, **changes)
    if compacted:
        pd.DataFrame([other]).to_parquet(store.records / "all.parquet", index=False)
    else:
        write_record(store.records / f"{run.key}.json", other)
    for each in (store, Store(tmp_path / "beside")):
        assert each.take([run], pytest.fail) == set()
        assert not each.has(run)
        with pytest.raises(ValueError, match=f"there is no record of run {run.key}"):
            each.of([run])


def test_a_run_of_version_4_is_done_and_its_copy_has_the_new_format(tmp_path: Path) -> None:
    run, store, beside = run_of(tmp_path), Store(tmp_path / "tiny"), Store(tmp_path / "beside")
    store.prepare()
    now = record_of(run)
    old = {name: value for name, value in now.items() if name not in {"method", "data"}} | {"version": 4}
    write_record(store.records / f"{run.key}.json", old)
    for each in (store, beside):
        assert each.take([run], pytest.fail) == {run.key}
        assert each.has(run)
        assert each.of([run])["method"].tolist() == [METHOD_VERSION]
    copied = read_record(beside.records / f"{run.key}.json")
    assert {name: repr(value) for name, value in copied.items()} == {name: repr(value) for name, value in now.items()}
