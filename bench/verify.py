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

from bench.environment import MACHINE
from bench.errors import CheckFailedError, InputError, MissingDataError
from bench.progress import Display
from bench.runs import Run, from_record
from bench.store import Store
from bench.workers import Execution, Workers

Record = Mapping[Any, Any]
OPENING_TOLERANCE = 1e-3
"""Relative difference of the first losses that other rounding explains: 0.5 % of pairs exceed it."""
SPREADS = 6
"""Difference of a metric that other rounding explains, in spreads between seeds: 1.1 % of pairs exceed it."""
LEAST_TOLERANCE = 0.01
"""The same, relative to the metric, where seeds hardly differ."""
_ALIKE = (*MACHINE, "rounding", "recurrence")
"""What decides how sums are rounded, as far as records tell."""
_FIXED = ("metric", "higher_is_better", "target", "status")
"""What is the same in every environment."""
_ROUNDED = ("curve_update", "reason", "validation", "test", "curve_train_loss", "curve_validation")
"""What is the same bit for bit in the same environment."""


class Check(NamedTuple):
    """What became of a record.

    Attributes:
        record: the record.
        again: its metric now; NaN where it was not trained again.
        tolerance: how far that may lie from the record; 0 in the same environment, NaN where it is not known.
        verdict: ``"same bits"``, ``"within tolerance"``, ``"not judged"`` where all but the metric is within it and the
            tolerance of that is not known, ``"differs"`` or ``"skipped"``.
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
        return float(self.record[_metric(self.record)])


def verify(records: pd.DataFrame, sample: int, seed: int, console: Console, how: Execution) -> list[Check]:
    """Train a random sample of records again.

    Args:
        records: all records of a profile; the spread between their seeds is the measure of the tolerance.
        sample: how many; all, if there are no more.
        seed: chooses them.
        console: where the progress goes.
        how: by how many workers, and where.

    Returns:
        A check per record, in the order of the records.

    Raises:
        CheckFailedError: a run failed, which is no divergence.
    """
    chosen = records.sample(min(sample, len(records)), random_state=seed).sort_index()
    originals: dict[Any, Record] = dict(zip(chosen.index, chosen.to_dict("records"), strict=True))
    checks, runs = {}, {}
    for place, record in originals.items():
        try:
            runs[place] = _trainable(record)
        except InputError as error:
            verdict = "skipped" if isinstance(error, MissingDataError) else "differs"
            checks[place] = Check(record, math.nan, math.nan, verdict, str(error))
    if all(_setting(record, "device") == "cpu" for record in originals.values()):
        how = how._replace(device="cpu")  # a GPU rounds otherwise
    stacked = [_setting(originals[place], "recurrence") == "relu_scan" for place in runs]
    again = _train(list(runs.values()), stacked, console, how).set_axis(list(runs))
    spreads = {name: _spreads(records, again, name) for name in ("validation", "test")}
    for place, new in zip(runs, again.to_dict("records"), strict=True):
        record = originals[place]
        checks[place] = compare(record, new, {name: each.get(_arm(record), math.nan) for name, each in spreads.items()})
    return [checks[place] for place in originals]


def compare(record: Record, again: Record, spreads: Mapping[str, float]) -> Check:
    """Compare a record with what its run did when it was trained again.

    Args:
        record: the record.
        again: that of the same run.
        spreads: standard deviations of ``validation`` and ``test`` between seeds of its arm; NaN where not known.

    Returns:
        The check.
    """
    value = float(again[_metric(record)])
    names = [*_FIXED, *_ROUNDED, *(["opening"] if _has_opening(record) else [])]
    different = [name for name in names if not _same(record.get(name), again[name])]
    if not different:
        return Check(record, value, 0.0, "same bits")
    if not (unlike := _unlike(record, again)):
        return Check(record, value, 0.0, "differs", _changes(different, record, again))
    tolerances = {name: _tolerance(spread, again[name]) for name, spread in spreads.items()}
    tolerance = tolerances[_metric(record)]
    if beyond := [name for name in different if _beyond(name, record, again, tolerances)]:
        return Check(record, value, tolerance, "differs", _changes(beyond, record, again))
    if math.isnan(tolerance) and math.isfinite(value):
        return Check(record, value, tolerance, "not judged", f"{unlike}; no two seeds at one rate tell the tolerance")
    return Check(record, value, tolerance, "within tolerance", unlike)


def _trainable(record: Record) -> Run:
    """Rebuild a run, and see that it can be trained here."""
    from bench.train import build, task_of

    run = from_record(record)
    build(run, task_of(run.task))
    return run


def _train(runs: Sequence[Run], stacked: Sequence[bool], console: Console, how: Execution) -> pd.DataFrame:
    """Train runs with the recurrence that they had, and return their records in this order."""
    if not runs:
        return pd.DataFrame(columns=["validation", "test"])
    with tempfile.TemporaryDirectory() as folder, Display(console) as display:
        store = Store(Path(folder) / "again")
        store.prepare()
        with Workers(store, how, display) as pool:
            for own in (True, False):
                part = [run for run, each in zip(runs, stacked, strict=True) if each is own]
                pool.finish(part, "training again", len(runs), stacked=own)
        if pool.failed:
            raise CheckFailedError(next(iter(pool.failed.values())))
        return store.of(runs)


def _arm(record: Record) -> tuple[str, str, str, str]:
    return record["name"], record["rule_name"], record["space"], record["role"]


def _metric(record: Record) -> str:
    """Name the metric that counts: that of the test data for test runs, of the validation data for tuning runs."""
    return "test" if record["role"] == "test" else "validation"


def _spreads(records: pd.DataFrame, again: pd.DataFrame, name: str) -> dict[tuple[str, str, str, str], float]:
    """Compute the spread of a metric between seeds, pooled over the rates of an arm; NaN where each has one seed."""
    # What was trained again stands in for its record: one that was changed would make room for itself.
    values = again[name].astype(float).combine_first(records[name])
    columns = [records[column] for column in ("name", "rule_name", "space", "role", "lr")]
    variances: Any = values.groupby(columns).var().groupby(level=[0, 1, 2, 3]).mean()
    return dict(np.sqrt(variances))


def _tolerance(spread: float, value: float) -> float:
    return max(SPREADS * spread, LEAST_TOLERANCE * abs(value)) if math.isfinite(spread) else math.nan


def _unlike(record: Record, again: Record) -> str:
    """Name what the environments differ in; nothing where they are alike in all that the record tells."""
    before, after = (json.loads(each["environment"]) for each in (record, again))
    names = [name for name in _ALIKE if name in before and before[name] != after[name]]
    if before.get("device") != "cpu" and record.get("stack") != again["stack"]:  # a CPU rounds alike in any stack
        names.append("stack")
    return ", ".join(names)


def _beyond(name: str, record: Record, again: Record, tolerances: Mapping[str, float]) -> bool:
    """Tell whether a difference is more than other rounding explains; a metric without tolerance is not judged."""
    before, after = record.get(name, math.nan), again[name]
    if name == "opening":
        alike = np.shape(before) == np.shape(after)
        return not (alike and np.allclose(after, np.asarray(before, dtype=float), rtol=OPENING_TOLERANCE, atol=0))
    if name in tolerances:
        unknown = math.isnan(tolerances[name]) and math.isfinite(before) and math.isfinite(after)
        return not (unknown or abs(after - before) <= tolerances[name])  # which nothing that is not a number is
    return name in _FIXED or (name == "curve_update" and again["status"] == "finished")


def _setting(record: Record, name: str) -> Any:
    """Read what a record says of how it was made; None where it is older than that."""
    return json.loads(record["environment"]).get(name)


def _has_opening(record: Record) -> bool:
    """Tell whether a record must have its first losses; older ones do not."""
    return _setting(record, "rounding") is not None or np.ndim(record.get("opening", 0)) > 0


def _same(before: Any, after: Any) -> bool:
    """Tell whether two values are the same, numbers bit for bit, where NaN is itself."""
    if isinstance(after, str) or np.shape(before) != np.shape(after):
        return bool(np.shape(before) == np.shape(after) and before == after)
    try:
        return np.array_equal(np.asarray(before, dtype=float), np.asarray(after, dtype=float), equal_nan=True)
    except (TypeError, ValueError):
        return False


def _changes(names: Sequence[str], record: Record, again: Record) -> str:
    return "; ".join(_change(name, record.get(name, "nothing"), again[name]) for name in names)


def _change(name: str, before: Any, after: Any) -> str:
    """Write a change, of a curve at the value that changed most."""
    if np.ndim(before) != np.ndim(after) or not np.ndim(after):
        return f"{name} {before} before, {after} now"
    if len(before) != len(after):
        return f"{name} of {len(before)} values before, {len(after)} now"
    with np.errstate(divide="ignore", invalid="ignore"):
        changes = np.abs(np.divide(after, before) - 1)
    same = [_same(*both) for both in zip(before, after, strict=True)]
    at = int(np.argmax(np.where(same, -1.0, np.nan_to_num(changes, nan=math.inf))))
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
