"""A training run, fully resolved, and its address."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, NamedTuple

from bench.entries import Rule, SpaceEntry, TaskEntry
from bench.schema import Strict, frozen

RECORD_VERSION = 4
"""Format and numerics of a record, and the defaults below. Part of every run's address: raise it when one changes."""


Place = tuple[str, str, str]
"""Names of task, space and rule: an arm on a task."""


class Choice(NamedTuple):
    """A learning rate chosen by tuning.

    Attributes:
        rate: the rate.
        edge: whether it is the smallest or the largest that was tried.
        grown: how many rates were tried beyond the suite's grid.
    """

    rate: float
    edge: bool
    grown: int


class Run(Strict):
    """One training run, fully resolved; its address is a hash of everything that can change its outcome.

    The names that suites give to things do not: a run that two suites ask for has one address.
    """

    suite: str
    profile: str
    name: str
    space_name: str
    rule_name: str
    tuned_on: tuple[str, str]
    edge: bool = False
    grown: int = 0
    study: str
    task: TaskEntry
    space: SpaceEntry
    rule: Rule
    lr: float
    max_norm: float | None
    test_at: Literal["end", "best"]
    role: Literal["tuning", "test"]
    index: int
    updates: int
    evaluations: int

    @classmethod
    def parse(cls, specification: str) -> Run:
        """Read a run from the specification in its record."""
        return cls(**frozen(json.loads(specification)))

    @property
    def place(self) -> Place:
        """Names of task, space and rule."""
        return self.name, self.space_name, self.rule_name

    @property
    def tuned_at(self) -> Place:
        """Names of task, space and rule whose tuning runs choose the rate."""
        return *self.tuned_on, self.rule_name

    @property
    def key(self) -> str:
        """Content address, 16 hexadecimal digits; settings that have their default are left out of it."""
        labels = {"suite", "profile", "name", "space_name", "rule_name", "tuned_on", "edge", "grown"}
        outcome = self.model_dump(exclude=dict.fromkeys(labels, True) | _ASIDE, exclude_defaults=True)
        text = json.dumps({"version": RECORD_VERSION, **outcome}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


_ASIDE: dict[str, Any] = {"task": {"tuned_on", "published"}, "space": {"tuned_on", "rules", "clip"}, "rule": {"rates"}}


def labels(run: Run) -> dict[str, Any]:
    """Describe a run: the part of its record that is known before it."""
    names = {"suite", "profile", "name", "rule_name", "edge", "grown", "study", "lr", "role", "index", "updates"}
    return {
        "version": RECORD_VERSION,
        "key": run.key,
        **run.model_dump(include=names),
        "space": run.space_name,
        "tuned_task": run.tuned_on[0],
        "tuned_space": run.tuned_on[1],
        "model": run.space.model,
        "batch": run.task.batch,
        "specification": run.model_dump_json(),
    }
