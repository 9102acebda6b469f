"""Declarative files: TOML with inheritance, validated into frozen objects; an error names file, key and rule."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic import model_validator as validator

from bench.errors import InputError

Schema = TypeVar("Schema", bound=BaseModel)
MOST_FILES = 10
"""Files that a chain of extends may have."""

MOST_DEPTH = 20
"""Tables and arrays inside one another that a file may have."""

Keys = tuple[str, ...]
"""Keys that lead to a value."""


class Strict(BaseModel):
    """A frozen model that converts no types and names a key it does not know."""

    model_config = ConfigDict(frozen=True, strict=True)

    @validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}; allowed are {', '.join(cls.model_fields)}")
        return data


def known(kind: str, table: Mapping[str, str]) -> AfterValidator:
    """Refuse names that are not in a table, as it is when a file is read."""

    def check(name: str) -> str:
        if name not in table:
            raise ValueError(f"unknown {kind} {name!r}; known are {', '.join(sorted(table))}")
        return name

    return AfterValidator(check)


def read(path: Path, schema: type[Schema]) -> Schema:
    """Read a TOML file, and the files that it extends, and validate the whole.

    ``extends = "base.toml"`` takes everything from another file, named from the folder of this one: tables are merged
    key by key, all else is replaced.

    Args:
        path: the file.
        schema: the model it must fit.

    Returns:
        The model.

    Raises:
        InputError: a file cannot be read, is no TOML, extends itself, or breaks the schema; the message names the file
            that has the fault, the key and the rule.
    """
    data, origins = _inherit(path, [])
    try:
        return schema(**data)
    except ValidationError as error:
        first = min(error.errors(), key=lambda each: each["type"] == "missing")  # what is there before what is not
        place = tuple(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        inner = place or tuple(message.partition(":")[0].split("."))  # which a check of a whole suite begins with
        if message.startswith("unknown key"):
            inner = (*place, message.split("'")[1])
        file = next((origins[inner[:end]] for end in range(len(inner), 0, -1) if inner[:end] in origins), path)
        got = "" if first["type"] in {"value_error", "missing"} else f", got {_as_written(first['input'])}"
        raise InputError(f"{file}: {'.'.join(place) + ': ' if place else ''}{message}{got}") from None


def merged(path: Path) -> dict[str, Any]:
    """Read a TOML file and the files that it extends, without validation."""
    return _inherit(path, [])[0]


def _parse(path: Path) -> dict[str, Any]:
    """Read one TOML file as it stands; arrays become tuples."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        deep = _depth(data) > MOST_DEPTH
    except RecursionError:
        deep = True
    except OSError as error:
        raise InputError(f"{path}: the suite cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: the suite must be TOML in UTF-8: {error}") from None
    if deep:
        raise InputError(f"{path}: the suite must have at most {MOST_DEPTH} tables and arrays inside one another")
    result: dict[str, Any] = frozen(data)
    return result


def _inherit(path: Path, before: list[Path]) -> tuple[dict[str, Any], dict[Keys, Path]]:
    """Merge a file into the files that it extends; tell which file each value comes from."""
    if path.resolve() in [other.resolve() for other in before]:
        chain = " -> ".join(other.name for other in [*before, path])
        raise InputError(f"{before[-1]}: extends: a file must not extend itself, got {chain}")
    own = _parse(path)
    base = own.pop("extends", None)
    if base is None:
        return own, dict.fromkeys(_places(own, ()), path)
    if not isinstance(base, str) or not base.isprintable() or not os.path.isfile(path.parent / base):
        raise InputError(f"{path}: extends: must be the name of a TOML file beside this one, got {base!r}")
    if len(before) >= MOST_FILES:
        raise InputError(f"{path}: extends: must be the {MOST_FILES}th file of a chain at most")
    data, origins = _inherit(path.parent / base, [*before, path])
    return _merged(data, own), origins | dict.fromkeys(_places(own, ()), path)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(base[key], own[key]) for key in base if _are_tables(base[key], own.get(key))}
    return base | own | both


def _are_tables(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


def _places(value: Any, place: Keys) -> Iterator[Keys]:
    if place:
        yield place
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*place, key))


def frozen(value: Any) -> Any:
    """Turn lists, at any depth, into tuples, which is what frozen models hold."""
    if isinstance(value, dict):
        return {key: frozen(inner) for key, inner in value.items()}
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _as_written(value: Any) -> str:
    return repr(list(value)) if isinstance(value, tuple) else repr(value)
