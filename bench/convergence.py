"""How soon an arm reaches the target of its task, by validation data."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Reach(NamedTuple):
    """The first evaluation of a run that meets its target; infinite where none does.

    Attributes:
        updates: updates until then.
        samples: sequences until then.
        seconds: time spent on training until then; not a number where it was not measured.
    """

    updates: float
    samples: float
    seconds: float


def reach(record: Any) -> Reach:
    """Find when a run reached its target.

    Args:
        record: a row of the records.

    Returns:
        When that was.
    """
    values = np.asarray(record["curve_validation"], dtype=float)
    met = values >= record["target"] if record["higher_is_better"] else values <= record["target"]
    if not met.any() or record["status"] != "finished":
        return Reach(math.inf, math.inf, math.inf)
    first = int(met.argmax())
    updates, seconds = float(record["curve_update"][first]), list(record["curve_seconds"])
    return Reach(updates, updates * record["batch"], float(seconds[first]) if seconds else math.nan)


def to_target(arm: pd.DataFrame) -> str:
    """Describe the seeds of an arm: how many reach the target, and the median with misses kept as infinite.

    Args:
        arm: its test records.

    Returns:
        For example ``"5 of 5: 240 updates, 7,680 sequences, 1.3 s"``.
    """
    reached = [reach(record) for record in arm.to_dict("records")]
    count = sum(math.isfinite(each.updates) for each in reached)
    updates, samples, seconds = np.median(np.array(reached), axis=0)
    share = f"{count} of {len(reached)}"
    if not math.isfinite(updates):
        return share
    time = f", {seconds:.2g} s" if math.isfinite(seconds) else ""
    return f"{share}: {updates:,.0f} updates, {samples:,.0f} sequences{time}"
