"""A training run, fully resolved, and its address."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

from pydantic import ValidationError

from bench import registry
from bench.data import IMPLIED
from bench.entries import Rule, SpaceEntry, TaskEntry
from bench.errors import InputError, MissingDataError, in_a_line
from bench.schema import Strict, frozen

METHOD_VERSION = 4
"""Numerics of training, and defaults of settings. Part of every address: raise it when runs come out otherwise."""
RECORD_VERSION = 5
"""Format of a record: its columns. No part of an address: raise it with a step in :mod:`bench.migration`."""

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
    def data(self) -> dict[str, str]:
        """Digests of the data files that its task reads, by their names."""
        return registry.digests(self.task.task, self.task.options)

    def model_copy(self, **changes: Any) -> Self:
        """Copy, with changes; the copy has an address of its own."""
        copy = super().model_copy(**changes)
        copy.__dict__.pop("key", None)
        return copy

    @cached_property
    def key(self) -> str:
        """Content address, 16 hexadecimal digits; settings that have their default are left out of it.

        So are digests of data that :data:`bench.data.IMPLIED` has, or the options, which are settings themselves.
        """
        outcome, said = self.model_dump(exclude=_ASIDE, exclude_defaults=True), self.task.options.get("sha256", "")
        if more := {name: own for name, own in self.data.items() if own not in {IMPLIED.get(name), str(said).lower()}}:
            outcome["data"] = more
        text = json.dumps({"version": METHOD_VERSION, **outcome}, sort_keys=True)
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


LABEL_COLUMNS = ("suite", "profile", "name", "rule_name", "edge", "grown", "space", "tuned_task", "tuned_space")
"""Columns of a record that hold :func:`labels`."""


def labels(run: Run) -> dict[str, Any]:
    """Return what suites call a run and say of it, by the columns of its record; no part of its address."""
    own = run.suite, run.profile, run.name, run.rule_name, run.edge, run.grown, run.space_name, *run.tuned_on
    return dict(zip(LABEL_COLUMNS, own, strict=True))


def named(run: Run) -> dict[str, Any]:
    """Return what tells a run from others, and what suites call it: for notes of it."""
    return {"key": run.key, "lr": run.lr, "index": run.index, "role": run.role, **labels(run)}


def counted(count: int) -> str:
    """Say how many runs."""
    return f"{count} run{'s' * (count != 1)}"


def described(names: Mapping[str, Any]) -> str:
    """Say which run :func:`named` is of."""
    place = f"{names['rule_name']} in {names['space']} space on {names['name']}"
    return f"{place}, seed {names['index']}, rate {names['lr']:g}"


def from_record(record: Mapping[str, Any]) -> Run:
    """Rebuild the run that a record is of.

    Args:
        record: a row of the records.

    Returns:
        The run; its address is that of the record.

    Raises:
        MissingDataError: a plug-in that is not imported defines what it needs.
        InputError: the record does not specify a run, or another one than its address or its columns say.
    """
    names = {name: record[name] for name in ("suite", "profile", "name", "rule_name")}
    names |= {"space_name": record["space"], "tuned_on": (record["tuned_task"], record["tuned_space"])}
    try:
        written = frozen(json.loads(record["specification"]))
        _require_registered(written, json.loads(record["environment"]).get("plugins", ""))
        rule = {**written["rule"], "rates": (written["lr"],)}
        run = Run(**{**written, **names, "rule": rule, "edge": bool(record["edge"]), "grown": int(record["grown"])})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"its specification is not that of a run: {place}: {first['msg']}") from None
    except (KeyError, TypeError) as error:
        raise InputError(f"its specification is not that of a run: {in_a_line(error)}") from None
    for name, value in {**columns(run), "key": run.key}.items():
        if record[name] != value:
            raise InputError(f"its {name} is {record[name]}, that of its specification {value}")
    return run


def columns(run: Run) -> dict[str, Any]:
    """Return what a record repeats of the specification, or tells of what its address covers beside it, by columns."""
    repeated = run.model_dump(include={"study", "lr", "role", "index", "updates"})
    beside = {"method": METHOD_VERSION, "data": json.dumps(run.data, sort_keys=True)}
    return {**beside, **repeated, "model": run.space.model, "batch": run.task.batch}


def _require_registered(written: Mapping[str, Any], plugins: str) -> None:
    """Refuse a specification that takes from the registry what is not there."""
    task, space = written["task"], written["space"]
    taken = {
        "task": task["task"],
        "init": task["init"],
        "space": space["space"],
        "model": space["model"],
        "optimizer": written["rule"]["optimizer"],
    }
    for kind, name in taken.items():
        if name not in registry.TABLES[kind]:
            if not plugins:
                raise InputError(f"its {kind} {name!r} is not registered, and it was made without plug-ins")
            raise MissingDataError(f"{kind} {name!r} is not registered; use --plugin: it was made with {plugins}")
