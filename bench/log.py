"""What a training run has come to so far, and the record of it at the end."""

from __future__ import annotations

import json
import math
import time
from typing import Any, NamedTuple

from bench.environment import environment, name
from bench.runs import RECORD_VERSION, Run, columns, labels
from bench.tasks import Task

OPENING = 3
"""Training losses that a record keeps from the start of its run, before other rounding has grown."""

_STATE = ("curves", "reason", "test", "best", "opening")


class Progress(NamedTuple):
    """Where a run is at one of its evaluations.

    Attributes:
        update: updates so far.
        losses: training losses of the updates since the evaluation before.
        seconds: time spent on training so far, evaluations apart.
    """

    update: int
    losses: list[float]
    seconds: float


class Log:
    """Outcome and curves of a run.

    Args:
        run: the specification.
        task: its task.

    Attributes:
        diverged: whether it has.
        test: metric of the test data; NaN before they were used.
    """

    def __init__(self, run: Run, task: Task) -> None:
        self.run, self.task = run, task
        self.curves: dict[str, list[float]] = {"update": [], "train_loss": [], "validation": [], "seconds": []}
        self.start, self.reason, self.test = time.perf_counter(), "", math.nan
        self.best, self.opening = math.nan, list[float]()

    @property
    def diverged(self) -> bool:
        """Whether the run has diverged."""
        return bool(self.reason)

    def note(self, at: Progress, validation: float) -> bool:
        """Note an evaluation.

        Args:
            at: where the run is.
            validation: the metric.

        Returns:
            Whether the weights of now are those to use the test data with, so far.
        """
        mean = sum(at.losses) / len(at.losses)
        for curve, value in zip(self.curves.values(), (at.update, mean, validation, at.seconds), strict=True):
            curve.append(value)
        self.opening = self.opening or at.losses[:OPENING]
        better = validation > self.best if self.task.higher_is_better else validation < self.best
        if self.run.test_at == "end" or math.isnan(self.best) or better:
            self.best = validation
            return True
        return False

    def state(self) -> dict[str, Any]:
        """Return what :meth:`go_on` needs."""
        own = {each: getattr(self, each) for each in _STATE}
        return {**own, "elapsed": time.perf_counter() - self.start}

    def go_on(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for each in _STATE:
            setattr(self, each, state[each])
        self.start = time.perf_counter() - state["elapsed"]

    def diverge(self, reason: str) -> None:
        """Note that the run has diverged, which leaves it without metric."""
        self.reason, self.best, self.test = reason, math.nan, math.nan

    def record(self, recurrence: str, stack: int) -> dict[str, Any]:
        """Make the record.

        Args:
            recurrence: what computed the recurrence, ``"torch"`` or ``"relu_scan"``.
            stack: replicas that were trained together; the record has its share of the time.

        Returns:
            Values by the columns of a record.
        """
        run, task = self.run, self.task
        made = environment() | {"device": name(task.device), "recurrence": recurrence}
        return {
            "version": RECORD_VERSION,
            "key": run.key,
            **labels(run),
            **columns(run),
            "specification": run.specification,
            "status": "diverged" if self.diverged else "finished",
            "reason": self.reason,
            "metric": task.metric_name,
            "higher_is_better": task.higher_is_better,
            "target": task.target,
            "validation": self.best,
            "test": self.test,
            **{f"curve_{name}": values for name, values in self.curves.items()},
            "opening": self.opening,
            "stack": stack,
            "seconds": (time.perf_counter() - self.start) / stack,
            "environment": json.dumps(made, sort_keys=True),
        }
