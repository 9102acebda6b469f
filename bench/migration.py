"""Records of older formats: each step leads from one version to the next, and changes no outcome and no address."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bench import registry
from bench.data import IMPLIED
from bench.runs import METHOD_VERSION, RECORD_VERSION

TOLD = ("version", "method", "data", "specification")
"""Columns that steps read or write."""


def _from_4(record: Mapping[str, Any]) -> dict[str, Any]:
    """Tell method and data, which version 4 left to the code: its method was 4, its files those of ``IMPLIED``."""
    return {"version": 5, "method": 4, "data": json.dumps(_data_of_4(record.get("specification")), sort_keys=True)}


def _data_of_4(specification: Any) -> dict[str, str]:
    """Name data files that version 4 has checked: of those of plug-ins it knew nothing."""
    try:
        task = json.loads(specification)["task"]
        options = task.get("options", {})
        read = registry.digests(task["task"], options)
        own = str(options.get("sha256", "")).lower()
    except (ValueError, KeyError, TypeError, AttributeError):  # which the check of the columns names
        return {}
    return {name: IMPLIED.get(name, own) for name in read if name in IMPLIED or read[name] == own}


STEPS: dict[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {4: _from_4}
"""What to change in a record of a version to have one of the next."""


def migrated(record: dict[str, Any]) -> dict[str, Any]:
    """Bring a record to the current version; one of a version that no step begins at stays as it is.

    Args:
        record: values by columns.

    Returns:
        The record.
    """
    while step := next((step for version, step in STEPS.items() if record.get("version") == version), None):
        record = record | step(record)
    return record


def is_of_now(version: Any, method: Any) -> bool:
    """Tell whether a record is of the current version and method; one without method is, to be found at fault."""
    return bool(version == RECORD_VERSION and (method == METHOD_VERSION or type(method) is not int))
