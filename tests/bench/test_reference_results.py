"""The committed records are those that the committed suites ask for: addresses, specifications, rates and flags."""

from __future__ import annotations

import pytest

from bench import suite as suites
from bench.runs import from_record, labels
from bench.store import Store
from bench.tuning import choose, grow
from tests.bench.conftest import ROOT

REFERENCE = ROOT / "results" / "reference"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in REFERENCE.glob("*/records")))
def test_the_records_are_those_of_the_suite(name: str) -> None:
    suite = suites.load(ROOT / "suites" / f"{name}.toml")
    records = Store(REFERENCE / name).load().set_index("key", drop=False)
    assert records.index.is_unique
    tasks = list(suite.profiles["embedded"].updates)
    runs = suite.tuning_runs("embedded", tasks)
    while more := grow(runs, records.loc[[run.key for run in runs]], suite.growth):
        runs += more
    runs += suite.test_runs("embedded", tasks, choose(records.loc[[run.key for run in runs]]))
    assert {run.key for run in runs} == set(records["key"])
    for run in runs:
        record = records.loc[run.key]
        assert record["specification"] == run.specification
        assert {label: record[label] for label in labels(run)} == labels(run)
        rebuilt = from_record(record)
        assert (rebuilt.specification, labels(rebuilt)) == (run.specification, labels(run))
    assert records.loc[records["role"] == "tuning", "test"].isna().all()
