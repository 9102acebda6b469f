"""A training run, fully resolved, and its address."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, NamedTuple

from bench.entries import Rule, SpaceEntry, TaskEntry
from bench.schema import Strict

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

    @property
    def place(self) -> Place:
        """Names of task, space and rule."""
        return self.name, self.space_name, self.rule_name

    @property
    def tuned_at(self) -> Place:
        """Names of task, space and rule whose tuning runs choose the rate."""
        return *self.tuned_on, self.rule_name

    @property
    def specification(self) -> str:
        """Everything that can change the outcome, as JSON."""
        return self.model_dump_json(exclude=_ASIDE)

    @property
    def key(self) -> str:
        """Content address, 16 hexadecimal digits; settings that have their default are left out of it."""
        outcome = self.model_dump(exclude=_ASIDE, exclude_defaults=True)
        text = json.dumps({"version": RECORD_VERSION, **outcome}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


_LABELS = ("suite", "profile", "name", "space_name", "rule_name", "tuned_on", "edge", "grown")
_ENTRIES = {
    "task": {"tuned_on", "published", "like", "grid"},
    "space": {"tuned_on", "rules", "clip"},
    "rule": {"rates"},
}
_ASIDE: dict[str, Any] = {**dict.fromkeys(_LABELS, True), **_ENTRIES}
"""What a run has that cannot change its outcome."""


def outcome(entry: TaskEntry | SpaceEntry | Rule) -> str:
    """Write down what an entry has that can change an outcome, the same for equal entries."""
    kind = {TaskEntry: "task", SpaceEntry: "space", Rule: "rule"}[type(entry)]
    return json.dumps(entry.model_dump(exclude=_ENTRIES[kind], exclude_defaults=True), sort_keys=True)


def labels(run: Run) -> dict[str, Any]:
    """Return what suites call a run and say of it, by the columns of its record; no part of its address."""
    names = run.model_dump(include={"suite", "profile", "name", "rule_name", "edge", "grown"})
    task, space = run.tuned_on
    return {**names, "space": run.space_name, "tuned_task": task, "tuned_space": space}
