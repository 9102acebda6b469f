"""Tasks of a suite that stand there in short: by what they are like, by grids."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from bench.entries import MOST_TASKS


def expanded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Write out ``like`` and ``grid`` of tasks, and the profiles that name them; leave alone what has not their form.

    Args:
        data: a suite as it was read.

    Returns:
        Its tables ``tasks`` and ``profiles``, where it has them.

    Raises:
        ValueError: a task stands there twice, or there are too many.
    """
    tasks, count = data.get("tasks"), 0
    if not isinstance(tasks, dict) or not all(isinstance(entry, dict) for entry in tasks.values()):
        return {}
    members: dict[str, dict[str, Any]] = {}
    for name, entry in tasks.items():
        members[name] = _members(name, _alike(entry, tasks))
        if (count := count + len(members[name])) > MOST_TASKS:
            raise ValueError(f"tasks: a suite must have {MOST_TASKS} at most, those of grids among them")
    if again := repeated(name for each in members.values() for name in each):
        raise ValueError(f"tasks: {again} stands there twice, one of them by a grid; rename one")
    result: dict[str, Any] = {"tasks": {name: entry for each in members.values() for name, entry in each.items()}}
    if isinstance(data.get("profiles"), dict):
        result["profiles"] = {name: _updates_of(profile, members) for name, profile in data["profiles"].items()}
    return result


def _alike(entry: dict[str, Any], tasks: dict[str, Any]) -> dict[str, Any]:
    base = tasks.get(str(entry.get("like")))
    if base is None or base is entry or {"like", "grid"} & set(base):
        return entry
    return {**base, **{key: value for key, value in entry.items() if key != "like"}}


def _members(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    grid = entry.get("grid")
    if not isinstance(grid, dict) or not grid or not all(map(_is_grid, grid.values())):
        return {name: entry}
    if math.prod(map(len, grid.values())) > MOST_TASKS:
        return {name: entry}
    rest = {key: value for key, value in entry.items() if key != "grid"}
    combinations = itertools.product(*grid.values())
    return {"_".join(map(str, (name, *each))): rest | dict(zip(grid, each, strict=True)) for each in combinations}


def _is_grid(values: Any) -> bool:
    return isinstance(values, tuple) and len(values) == len(set(map(str, values))) > 0


def _updates_of(profile: Any, members: dict[str, dict[str, Any]]) -> Any:
    updates = profile.get("updates") if isinstance(profile, dict) else None
    if not isinstance(updates, dict):
        return profile
    return profile | {"updates": {each: count for name, count in updates.items() for each in members.get(name, [name])}}


def repeated(names: Iterable[str]) -> str:
    """Return the first name that stands there twice, or an empty one."""
    return next((name for name, count in Counter(names).items() if count > 1), "")
