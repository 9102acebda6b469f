"""Quality as a number to track, so that a result that gets worse shows like a slow-down."""

from __future__ import annotations

from pathlib import Path

import torch

import bench
from bench import suite as suites
from bench.schema import read
from bench.theory import TheorySuite, check
from bench.train import train

_SUITES = Path(bench.__file__).parents[1] / "suites"
_UPDATES = 200


class FinalLoss:
    """Training loss of the digits after 200 updates, at the smallest rate of each rule."""

    params = (("weight", "path", "gauge"), ("momentum", "adam", "muon"))
    param_names = ("space", "rule")

    def track_loss(self, space: str, rule: str) -> float:
        """Train once, with a seed that is always the same."""
        torch.set_num_threads(1)
        outlines = suites.load(_SUITES / "accuracy.toml").outlines("embedded", "digits_rows")
        run = next(each for each in outlines if (each.space_name, each.rule_name) == (space, rule))
        record = train(run.model_copy(update={"updates": _UPDATES, "evaluations": 4}))
        return float(record["curve_train_loss"][-1])

    track_loss.unit = "nats"  # type: ignore[attr-defined]


def track_theorems_that_hold() -> float:
    """Try every theorem and law on random networks."""
    laws = read(_SUITES / "theory.toml", TheorySuite).laws
    return sum(check(name, law).holds for name, law in laws.items()) / len(laws)


track_theorems_that_hold.unit = "share"  # type: ignore[attr-defined]
