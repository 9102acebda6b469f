"""The declarative schema: a TOML file, validated into frozen objects, expanded into runs."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)
from pydantic import model_validator as validator

from bench import registry
from bench.errors import InputError

RECORD_VERSION = 3
"""Format and numerics of a record. Part of every run's address: raise it when old records must not be reused."""


Schema = TypeVar("Schema", bound=BaseModel)


def known(kind: str, table: Mapping[str, str]) -> AfterValidator:
    """Refuse names that are not in a table."""

    def check(name: str) -> str:
        if name not in table:
            raise ValueError(f"unknown {kind} {name!r}; known are {', '.join(sorted(table))}")
        return name

    return AfterValidator(check)


def _rates(rates: tuple[float, ...]) -> tuple[float, ...]:
    if sorted(set(rates)) != list(rates):
        raise ValueError(f"rates must ascend without repetition, got {list(rates)}")
    return rates


class Strict(BaseModel):
    """A frozen model that names a key it does not know."""

    model_config = ConfigDict(frozen=True)

    @validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}; allowed are {', '.join(cls.model_fields)}")
        return data


class Rule(Strict):
    """A torch optimizer with its settings, and the learning rates to try."""

    optimizer: Annotated[str, known("optimizer", registry.OPTIMIZERS)]
    options: dict[str, float | bool] = {}
    rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1), AfterValidator(_rates)]


class TaskEntry(Strict):
    """A task with the network that learns it.

    Entries of one kind of task share seeds, and so initial weights and batches. ``rescale`` is a standard deviation
    sigma: the start is rescaled by ``exp(sigma N(0, 1))`` per hidden unit, which leaves its function as it is.
    """

    task: Annotated[str, known("task", registry.TASKS)]
    options: dict[str, int] = {}
    hidden: PositiveInt = 64
    layers: PositiveInt = 1
    bias: bool = True
    init: Annotated[str, known("init", registry.INITS)] = "default"
    rescale: NonNegativeFloat = 0.0
    batch: PositiveInt = 32


class Profile(Strict):
    """How much of the suite to run: seeds, and parameter updates per task; a task that is not listed is not run."""

    tuning_seeds: PositiveInt
    test_seeds: PositiveInt
    evaluations: PositiveInt = 20
    updates: Annotated[dict[str, PositiveInt], Field(min_length=1)]


class Run(Strict):
    """One training run, fully resolved; its address is a hash of everything that can change its outcome."""

    suite: str
    profile: str
    name: str
    task: TaskEntry
    space: str
    rule_name: str
    rule: Rule
    lr: float
    max_norm: float | None
    role: Literal["tuning", "test"]
    index: int
    updates: int
    evaluations: int

    @property
    def key(self) -> str:
        """Content address, 16 hexadecimal digits."""
        outcome = self.model_dump(exclude={"profile": True, "rule_name": True, "rule": {"rates"}})
        text = json.dumps({"version": RECORD_VERSION, **outcome}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Suite(Strict):
    """A suite: the factorial of spaces and rules, on tasks, in profiles."""

    title: str
    max_norm: PositiveFloat | None = None
    spaces: Annotated[tuple[Annotated[str, known("space", registry.SPACES)], ...], Field(min_length=1)]
    rules: Annotated[dict[str, Rule], Field(min_length=1)]
    tasks: Annotated[dict[str, TaskEntry], Field(min_length=1)]
    profiles: Annotated[dict[str, Profile], Field(min_length=1)]
    _name: str = ""

    @property
    def name(self) -> str:
        """Name of the suite: that of its file."""
        return self._name

    @validator(mode="after")
    def _refuse_profiles_of_unknown_tasks(self) -> Suite:
        for profile in self.profiles.values():
            for task in profile.updates:
                if task not in self.tasks:
                    raise ValueError(f"unknown task {task!r} in updates; the suite has {', '.join(self.tasks)}")
        return self

    def runs(
        self, profile: str, role: Literal["tuning", "test"], tasks: Sequence[str], best: Mapping[Arm, float]
    ) -> list[Run]:
        """Expand into runs: every rate for tuning, the best rate of each arm for testing.

        Args:
            profile: name of the profile.
            role: whether the runs tune or test.
            tasks: names of the tasks to run.
            best: best rate per (task, space, rule), for testing.

        Returns:
            Runs, seed by seed, so that a study that is stopped has whole seeds.
        """
        chosen = self.profiles[profile]
        seeds = chosen.tuning_seeds if role == "tuning" else chosen.test_seeds
        return [
            Run(
                suite=self.name,
                profile=profile,
                name=task,
                task=self.tasks[task],
                space=space,
                rule_name=rule_name,
                rule=rule,
                lr=lr,
                max_norm=self.max_norm,
                role=role,
                index=index,
                updates=chosen.updates[task],
                evaluations=chosen.evaluations,
            )
            for task in tasks
            for index in range(seeds)
            for rule_name, rule in self.rules.items()
            for space in self.spaces
            for lr in (rule.rates if role == "tuning" else [best[task, space, rule_name]])
        ]


Arm = tuple[str, str, str]
"""Task, space and rule."""


def load(path: Path) -> Suite:
    """Read and validate a suite file; its name is that of the file."""
    suite = read(path, Suite)
    suite._name = path.stem
    return suite


def read(path: Path, schema: type[Schema]) -> Schema:
    """Read a TOML file and validate it.

    Args:
        path: the file.
        schema: the model it must fit.

    Returns:
        The model.

    Raises:
        InputError: the file cannot be read, is no TOML, or breaks the schema; the message names file, key and rule.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: the suite cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: the suite must be TOML in UTF-8: {error}") from None
    try:
        return schema(**data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
        raise InputError(f"{path}: {place + ': ' if place else ''}{message}{got}") from None


def require(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names that a suite does not have.

    Args:
        kind: what they name, for the message.
        names: the names.
        known: what the suite has.

    Raises:
        InputError: for the first name that is unknown.
    """
    for name in names:
        if name not in known:
            raise InputError(f"unknown {kind} {name!r}; the suite has {', '.join(known)}")
