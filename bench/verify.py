"""Train records again, and compare what comes out.

In the environment of a record everything but times must be the same, bit for bit. Elsewhere sums are rounded otherwise,
and training amplifies that: some runs carry a difference of 1e-7 to another result. How much of it is chance was
measured, docs/reports.md says how; what it leaves to check is sharp where a run begins, and blunt where it ends.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console

from bench.errors import CheckFailedError, InputError, MissingDataError
from bench.runs import Run, from_record
from bench.store import Store
from bench.workers import Workers, progress_bar

Record = Mapping[Any, Any]
OPENING_TOLERANCE = 1e-3
"""Relative difference of the first losses that other rounding explains: 0.5 % of runs exceed it."""
SPREADS = 6
"""Difference of the metric that other rounding explains, in spreads between seeds: 0.7 % of runs exceed it."""
_ALIKE = ("cpu", "rounding", "platform", "python", "torch", "threads", "device")
"""What decides how sums are rounded, as far as records tell."""
_FIXED = ("study", "lr", "role", "index", "updates", "model", "batch", "metric", "higher_is_better", "target", "status")
"""What is the same in every environment: of 5,665 runs none diverged under one rounding and finished under another."""
_ROUNDED = ("reason", "validation", "test", "curve_update", "curve_train_loss", "curve_validation")
"""What is the same bit for bit in the same environment."""


class Check(NamedTuple):
    """What became of a record.

    Attributes:
        record: the record.
        again: its metric now; NaN where it was not trained again.
        tolerance: how far that may lie from the record; 0 in the same environment, NaN where it is not known.
        verdict: ``"same bits"``, ``"within tolerance"``, ``"differs"`` or ``"skipped"``.
        reason: what differs, or why it was skipped.
    """

    record: Record
    again: float
    tolerance: float
    verdict: str
    reason: str = ""

    @property
    def before(self) -> float:
        """The metric of the record."""
        return _metric(self.record)


def verify(records: pd.DataFrame, sample: int, seed: int, workers: int, console: Console) -> list[Check]:
    """Train a random sample of records again.

    Args:
        records: all records of a profile; the spread between their seeds is the measure of the tolerance.
        sample: how many; all, if there are no more.
        seed: chooses them.
        workers: processes, one torch thread each.
        console: where the progress goes.

    Returns:
        A check per record, in the order of the records.

    Raises:
        CheckFailedError: a run failed, which is no divergence.
    """
    chosen = records.sample(min(sample, len(records)), random_state=seed).sort_index()
    originals: Sequence[Record] = chosen.to_dict("records")
    checks, runs = {}, {}
    for record in originals:
        try:
            runs[record["key"]] = _trainable(record)
        except InputError as error:
            verdict = "skipped" if isinstance(error, MissingDataError) else "differs"
            checks[record["key"]] = Check(record, math.nan, math.nan, verdict, str(error))
    again = _train(list(runs.values()), workers, console)
    spreads = _spreads(records, again)
    for record in originals:
        if (key := record["key"]) in runs:
            checks[key] = compare(record, again[key], spreads.get(_arm(record), math.nan))
    return [checks[record["key"]] for record in originals]


def compare(record: Record, again: Record, spread: float) -> Check:
    """Compare a record with what its run did when it was trained again.

    Args:
        record: the record.
        again: that of the same run.
        spread: standard deviation of the metric between seeds of its arm; NaN where it is not known.

    Returns:
        The check.
    """
    value, tolerance = _metric(again), 0.0
    different = [name for name in _FIXED if not _same(record[name], again[name])]
    rounded = [name for name in _ROUNDED if not _same(record[name], again[name])]
    if _has_opening(record) and not _same(record["opening"], again["opening"]):
        rounded.append("opening")
    if not (different or rounded):
        return Check(record, value, tolerance, "same bits")
    if unlike := _unlike(record, again):
        tolerance = SPREADS * spread
        different += _beyond(record, again, tolerance)
        if not different:
            return Check(record, value, tolerance, "within tolerance", unlike)
    else:
        different += rounded
    return Check(record, value, tolerance, "differs", "; ".join(_change(name, record, again) for name in different))


def _trainable(record: Record) -> Run:
    """Rebuild a run, and see that it can be trained here."""
    from bench.train import build, task_of

    run = from_record(record)
    build(run, task_of(run.task))
    return run


def _train(runs: Sequence[Run], workers: int, console: Console) -> dict[str, Record]:
    with tempfile.TemporaryDirectory() as folder, progress_bar(console) as progress:
        store = Store(Path(folder) / "again")
        store.prepare()
        with Workers(store, workers, progress) as pool:
            pool.finish(runs, "training again", len(runs))
        return {record["key"]: record for record in store.of(runs).to_dict("records")} if runs else {}


def _arm(record: Record) -> tuple[str, str, str]:
    return record["name"], record["rule_name"], record["space"]


def _metric(record: Record) -> float:
    """Return the test metric of a test run, the validation metric of a tuning run."""
    return float(record["test"] if record["role"] == "test" else record["validation"])


def _spreads(records: pd.DataFrame, again: Mapping[str, Record]) -> dict[tuple[str, str, str], float]:
    """Compute the spread between seeds of each arm, pooled over rates and roles; NaN where each has one seed."""
    # What was trained again stands in for its record: one that was changed would make room for itself.
    values = records["test"].where(records["role"] == "test", records["validation"])
    values = records["key"].map({key: _metric(record) for key, record in again.items()}).fillna(values)
    columns = [records[name] for name in ("name", "rule_name", "space", "lr", "role")]
    variances: Any = values.groupby(columns).var().groupby(level=[0, 1, 2]).mean()
    return dict(np.sqrt(variances))


def _unlike(record: Record, again: Record) -> str:
    """Name what the environments differ in; nothing where they are alike in all that the record tells."""
    before, after = (json.loads(each["environment"]) for each in (record, again))
    return ", ".join(name for name in _ALIKE if name in before and before[name] != after[name])


def _beyond(record: Record, again: Record, tolerance: float) -> list[str]:
    """Name what lies beyond its tolerance; what has none is not judged."""
    beyond = []
    if _has_opening(record):
        before, after = (np.asarray(each["opening"], dtype=float) for each in (record, again))
        near = before.shape == after.shape and np.allclose(after, before, rtol=OPENING_TOLERANCE, atol=0)
        beyond += [] if near else ["opening"]
    if abs(_metric(again) - _metric(record)) > tolerance:
        beyond.append("test" if record["role"] == "test" else "validation")
    return beyond


def _has_opening(record: Record) -> bool:
    """Tell whether a record has its first losses; older ones do not."""
    return np.ndim(record.get("opening", 0)) > 0


def _same(before: Any, after: Any) -> bool:
    """Tell whether two values are the same, numbers bit for bit, where NaN is itself."""
    if isinstance(before, str):
        return bool(before == after)
    return np.array_equal(np.asarray(before, dtype=float), np.asarray(after, dtype=float), equal_nan=True)


def _change(name: str, record: Record, again: Record) -> str:
    """Write a change, of a curve at the first of its values that is another."""
    before, after = record[name], again[name]
    if not np.ndim(before):
        return f"{name} {before} before, {after} now"
    if len(before) != len(after):
        return f"{name} of {len(before)} values before, {len(after)} now"
    at = next(place for place, both in enumerate(zip(before, after, strict=True)) if not _same(*both))
    return f"{name} {before[at]} before, {after[at]} now, value {at + 1} of {len(before)}"


def require_none_differs(checks: Sequence[Check]) -> None:
    """Refuse records that came out otherwise, and a sample of which none could be trained.

    Args:
        checks: what became of each record.

    Raises:
        InputError: all were skipped.
        CheckFailedError: one differs.
    """
    counts = Counter(check.verdict for check in checks)
    if counts["skipped"] == len(checks):
        raise InputError("none of the records can be trained on this machine; see the lines above")
    if counts["differs"]:
        raise CheckFailedError(f"{counts['differs']} of {len(checks)} records differ; see the lines above")
