"""What a suite file says, and the runs that it asks for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic import model_validator as validator

from bench.entries import MOST_TASKS, Override, Profile, Rule, SpaceEntry, TaskEntry
from bench.errors import InputError
from bench.grids import expanded, repeated
from bench.runs import Choice, Place, Run, outcome
from bench.schema import Strict, fault, listed, named, read

Arm = tuple[str, str]
"""Names of space and rule."""
Name = Annotated[str, AfterValidator(named)]

MOST_ARMS, MOST_RUNS = 1_000, 100_000
"""Spaces times rules, and runs of a profile, that a suite may have."""


class Suite(Strict):
    """A suite: the factorial of spaces and rules, on tasks, in profiles.

    Attributes:
        title: the question that it asks.
        study: seeds and addresses depend on this name; suites of one study share runs. The suite's own by default.
        max_norm: clip, in every arm, what the rule sees as its gradient to this norm.
        growth: how often a grid of rates grows where the best lies at its edge.
        test_at: use the test data with the weights at the end of a run, or at its best validation point.
        spaces: an array of names of the registry, or a table.
        rules: optimizers with their rates, as many for each.
        arms: overrides by space and rule.
        tasks: tasks with their networks.
        profiles: how much to run.
    """

    title: str
    study: str = ""
    max_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    growth: Annotated[int, Field(ge=0, le=2)] = 2
    test_at: Literal["end", "best"] = "end"
    spaces: Annotated[dict[Name, SpaceEntry], Field(min_length=1, max_length=MOST_ARMS)]
    rules: Annotated[dict[Name, Rule], Field(min_length=1, max_length=MOST_ARMS)]
    arms: dict[str, dict[str, Override]] = Field(default={})
    tasks: Annotated[dict[Name, TaskEntry], Field(min_length=1, max_length=MOST_TASKS)]
    profiles: Annotated[dict[Name, Profile], Field(min_length=1, max_length=20)]
    _name: str = ""

    @property
    def name(self) -> str:
        """Name of the suite: that of its file."""
        return self._name

    @validator(mode="before")
    @classmethod
    def _complete(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Name spaces, and write out ``like`` and ``grid``."""
        spaces = data.get("spaces")
        if isinstance(spaces, tuple):
            if again := repeated(map(str, spaces)):
                raise ValueError(f"spaces: duplicate arm {again!r}; name each space once")
            spaces = {str(name): {} for name in spaces}
        if isinstance(spaces, dict):
            spaces = {n: {"space": n} | each if isinstance(each, dict) else each for n, each in spaces.items()}
        return data | expanded(data) | ({"spaces": spaces} if "spaces" in data else {})

    @validator(mode="after")
    def _refuse_unknown_names(self) -> Suite:
        _require_tuned("spaces", {name: entry.tuned_on for name, entry in self.spaces.items()})
        _require_tuned("tasks", {name: entry.tuned_on for name, entry in self.tasks.items()})
        for name, entry in self.spaces.items():
            require(f"spaces.{name}.rules", "rule", entry.rules or (), self.rules)
        require("arms", "space", self.arms, self.spaces)
        for name, overrides in self.arms.items():
            require(f"arms.{name}", "rule", overrides, self.rules)
        for name, profile in self.profiles.items():
            require(f"profiles.{name}.updates", "task", profile.updates, self.tasks)
            require(f"profiles.{name}.rules", "rule", profile.rules or (), self.rules)
            sources = [source for task in profile.updates if (source := self.tasks[task].tuned_on)]
            require(f"profiles.{name}.updates", "task to tune on", sources, profile.updates)
        return self

    @validator(mode="after")
    def _refuse_unequal_arms(self) -> Suite:
        """Every arm has as many rates as every other, and no arm or task stands there twice."""
        if (count := len(self.spaces) * len(self.rules)) > MOST_ARMS:
            raise ValueError(f"rules: there must be {MOST_ARMS} arms at most, spaces times rules, got {count}")
        arms = self.arm_settings()
        counts = {len(rule.rates): f"{space} with {name}" for (space, name), (_, rule) in arms.items()}
        if len(counts) > 1:
            text = "; ".join(f"{arm}: {count}" for count, arm in counts.items())
            raise ValueError(f"rules: every arm must try the same number of rates, got {text}")
        _refuse_repetition("arms", {arm: self._outcome(*settings) for arm, settings in arms.items()})
        _refuse_repetition("tasks", {name: outcome(entry) for name, entry in self.tasks.items()})
        for name in self.profiles:
            self._refuse_extent(name)
        for (space, name), (entry, _) in arms.items():
            sources = [other for other, rule in arms if rule == name]
            require(f"spaces.{space}.tuned_on", f"space with the rule {name!r}", [entry.tuned_on or space], sources)
        return self

    def _refuse_extent(self, name: str) -> None:
        """A profile has at least one arm, and not more runs than anybody can wait for."""
        profile, arms = self.profiles[name], self.arm_settings(name)
        if not arms:
            raise ValueError(f"profiles.{name}.rules: at least one space must have one of these rules")
        tuned = {self.tasks[task].tuned_on or task for task in profile.updates}
        rates = sum(len(rule.rates) for entry, rule in arms.values() if entry.tuned_on is None)
        count = len(tuned) * rates * profile.tuning_seeds + len(profile.updates) * len(arms) * profile.test_seeds
        if count > MOST_RUNS:
            raise ValueError(f"profiles.{name}: there must be {MOST_RUNS:,} runs at most, got {count:,}")

    def _outcome(self, space: SpaceEntry, rule: Rule) -> str:
        return f"{outcome(space)} {outcome(rule)} {self._max_norm(space)}"

    def _max_norm(self, space: SpaceEntry) -> float | None:
        return self.max_norm if space.clip else None

    def arm_settings(self, profile: str | None = None) -> dict[Arm, tuple[SpaceEntry, Rule]]:
        """Cross spaces with rules, overrides applied; by the names of space and rule.

        Args:
            profile: name of the profile whose rules to take; all rules of the suite without.

        Returns:
            The settings of every arm.
        """
        arms = {}
        taken = (self.profiles[profile].rules if profile else None) or self.rules
        for rule_name, rule in self.rules.items():
            for space_name, entry in self.spaces.items():
                if rule_name in taken and rule_name in (entry.rules or taken):
                    own = self.arms.get(space_name, {}).get(rule_name, Override())
                    both = {"options": rule.options | own.options, "rates": own.rates or rule.rates}
                    arms[space_name, rule_name] = entry, rule.model_copy(update=both)
        return arms

    def tuning_runs(self, profile: str, tasks: Iterable[str]) -> list[Run]:
        """List the runs that choose learning rates: every arm that is tuned, at every rate of its grid.

        Args:
            profile: name of the profile.
            tasks: names of the tasks that will be tested.

        Returns:
            Runs, seed by seed, so that a study that is stopped has whole seeds.
        """
        sources = dict.fromkeys(self.tasks[task].tuned_on or task for task in tasks)
        arms = self.arm_settings(profile)
        return [
            self._run(profile, task, arm, arms[arm], role="tuning", index=index, lr=lr)
            for task in sources
            for index in range(self.profiles[profile].tuning_seeds)
            for arm, (entry, rule) in arms.items()
            for lr in (rule.rates if entry.tuned_on is None else ())
        ]

    def test_runs(self, profile: str, tasks: Iterable[str], choices: Mapping[Place, Choice]) -> list[Run]:
        """List the runs that use test data: every arm at the rate that tuning chose for it.

        Args:
            profile: name of the profile.
            tasks: names of the tasks.
            choices: what tuning chose, by task, space and rule.

        Returns:
            Runs, seed by seed; none of arms for which nothing was chosen.
        """
        runs = []
        arms = self.arm_settings(profile)
        for task, index in itertools.product(tasks, range(self.profiles[profile].test_seeds)):
            for arm, settings in arms.items():
                run = self._run(profile, task, arm, settings, role="test", index=index, lr=math.nan)
                if (choice := choices.get(run.tuned_at)) is None:
                    continue
                update = {"lr": choice.rate, "edge": choice.edge, "grown": choice.grown}
                runs.append(run.model_copy(update=update))
        return runs

    def outlines(self, profile: str, task: str) -> list[Run]:
        """Describe every arm on a task by a run at the first rate of its grid."""
        arms = self.arm_settings(profile).items()
        return [self._run(profile, task, arm, both, role="test", index=0, lr=both[1].rates[0]) for arm, both in arms]

    def _run(self, profile: str, task: str, arm: Arm, settings: tuple[SpaceEntry, Rule], **rest: Any) -> Run:
        space, rule = settings
        chosen, entry = self.profiles[profile], self.tasks[task]
        return Run(
            suite=self.name,
            profile=profile,
            name=task,
            space_name=arm[0],
            rule_name=arm[1],
            tuned_on=(entry.tuned_on or task, space.tuned_on or arm[0]),
            study=self.study or self.name,
            task=entry,
            space=space,
            rule=rule,
            max_norm=self._max_norm(space),
            test_at=self.test_at,
            updates=chosen.updates[task],
            evaluations=chosen.evaluations,
            **rest,
        )


def _require_tuned(kind: str, tuned_on: Mapping[str, str | None]) -> None:
    """What an entry is tuned on must be an entry that is tuned itself."""
    for name, source in tuned_on.items():
        if source is not None:
            tuned = [other for other in tuned_on if tuned_on[other] is None]
            require(f"{kind}.{name}.tuned_on", "entry that is tuned itself", [source], tuned)


def _refuse_repetition(place: str, settings: Mapping[Any, Any]) -> None:
    first: dict[Any, Any] = {}
    for name, setting in settings.items():
        if (other := first.setdefault(setting, name)) is not name:
            raise ValueError(f"{place}: {_text(name)} is a duplicate of {_text(other)}; leave one of them out")


def _text(name: Any) -> str:
    return " with ".join(name) if isinstance(name, tuple) else str(name)


def load(path: Path) -> Suite:
    """Read and validate a suite file; its name is that of the file."""
    try:
        named(path.stem)
    except ValueError as error:
        raise InputError(fault(path, f"the file of a suite must have another name: {error}")) from None
    suite = read(path, Suite)
    suite._name = path.stem
    return suite


def require(place: str, kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names that a suite does not have.

    Args:
        place: keys that lead to the names in the suite, for the message; empty where they do not stand there.
        kind: what they name, for the message.
        names: the names.
        known: what the suite has.

    Raises:
        InputError: for the first name that is unknown.
    """
    known = dict.fromkeys(known)
    for name in names:
        if name not in known:
            start = f"{place}: " if place else ""
            raise InputError(f"{start}unknown {kind} {name!r}; the suite has {listed(known) or 'none'}")
