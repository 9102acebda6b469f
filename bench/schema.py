"""Declarative files: TOML with inheritance, validated into frozen objects; an error names file, key and rule."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic import model_validator as validator

from bench.bounded import TooLargeError, contents
from bench.errors import InputError

Schema = TypeVar("Schema", bound=BaseModel)
MOST_FILES = 10
"""Files that a chain of extends may have."""

MOST_BYTES = 100_000
"""Bytes that a file may have."""
MOST_DEPTH = 20
"""Tables and arrays inside one another that a file may have."""
MOST_NAME = 100
"""Characters that a name may have."""
_MOST_SHOWN = 1_000
"""Characters of a message, beyond which its middle is left out."""

_QUOTED = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""(?!")|\Z)|\'{3}.*?(?:\'{3}(?!\')|\Z)|"(?:\\.|[^"\\\n])*+"?|\'[^\'\n]*\'?|#[^\n]*',
    re.DOTALL,
)
"""Texts, keys in quotes and comments, of any length in one go; what TOML does not allow may match, too."""
_DEEP_KEY = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*\.[ \t]*){{{MOST_DEPTH}}}")

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


def named(name: str) -> str:
    """Refuse names that no folder can have or that lead out of one, that rich reads as markup, or that fill a page.

    Args:
        name: the name.

    Returns:
        The name.

    Raises:
        ValueError: it is one of them.
    """
    if not name.isprintable() or not 0 < len(name) <= MOST_NAME or name[0] == "." or set(name) & set("/\\[]"):
        rule = f"1 to {MOST_NAME} printable characters, without / \\ [ ] and a dot at its start"
        raise ValueError(f"a name must have {rule}, got {name!r}")
    return name


def listed(names: Iterable[str]) -> str:
    """List names for a message, however many there are."""
    return _shortened(", ".join(names))


def fault(path: Path, message: str) -> str:
    """Say what is wrong with a file, in a line that a terminal can show, of a thousand characters at most."""
    shown = str(path) if str(path).isprintable() else repr(str(path))
    return f"{shown}: {_shortened(message)}"


def _shortened(text: str) -> str:
    half = _MOST_SHOWN // 2
    return text if len(text) <= _MOST_SHOWN else f"{text[:half]} ... {text[-half:]}"


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
        raise InputError(
            fault(file, f"{_start(tuple(part for part in place if part != '[key]'))}{message}{got}")
        ) from None


def merged(path: Path) -> dict[str, Any]:
    """Read a TOML file and the files that it extends, without validation."""
    return _inherit(path, [])[0]


def _parse(path: Path) -> dict[str, Any]:
    """Read one TOML file as it stands; arrays become tuples."""
    try:
        text = contents(path, MOST_BYTES).decode()
        deep = _DEEP_KEY.search(_QUOTED.sub("_", text)) is not None  # which the parser is slow at
        data = {} if deep else tomllib.loads(text)
        deep = deep or _depth(data) > MOST_DEPTH
    except RecursionError:
        deep = True
    except OSError as error:
        raise InputError(fault(path, f"the suite cannot be read: {error.strerror}")) from None
    except TooLargeError:
        advice = "put a part of it into a file that it extends"
        raise InputError(fault(path, f"the suite must have {MOST_BYTES:,} bytes at most; {advice}")) from None
    except ValueError as error:
        raise InputError(fault(path, f"the suite must be TOML in UTF-8: {error}")) from None
    if deep:
        raise InputError(fault(path, f"the suite must have at most {MOST_DEPTH} tables and arrays inside one another"))
    result: dict[str, Any] = frozen(data)
    return result


def _inherit(path: Path, before: list[Path]) -> tuple[dict[str, Any], dict[Keys, Path]]:
    """Merge a file into the files that it extends; tell which file each value comes from."""
    if path.resolve() in [other.resolve() for other in before]:
        chain = " -> ".join(other.name for other in [*before, path])
        raise InputError(fault(before[-1], f"extends: a file must not extend itself, got {chain}"))
    own = _parse(path)
    base = own.pop("extends", None)
    _refuse_unreadable(path, own, ())
    if base is None:
        return own, dict.fromkeys(_places(own, ()), path)
    if not _is_beside(path, base):
        raise InputError(fault(path, f"extends: must be the name of a TOML file beside this one, got {base!r}"))
    if len(before) >= MOST_FILES:
        raise InputError(fault(path, f"extends: must be the {MOST_FILES}th file of a chain at most"))
    data, origins = _inherit(path.parent / base, [*before, path])
    return _merged(data, own), origins | dict.fromkeys(_places(own, ()), path)


def _is_beside(path: Path, name: Any) -> bool:
    if not isinstance(name, str) or len(name) > MOST_NAME or not name.isprintable() or PurePath(name).name != name:
        return False
    return (path.parent / name).is_file()


def _refuse_unreadable(path: Path, value: Any, place: Keys) -> None:
    """Refuse what a terminal may take for a command, and numbers that no machine computes with."""
    if isinstance(value, (dict, tuple)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            _refuse_unreadable(path, key, place)
            _refuse_unreadable(path, inner, (*place, str(key)))
    elif isinstance(value, str) and not value.isprintable():
        raise InputError(fault(path, f"{_start(place)}must be one line of printable characters, got {value!r}"))
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise InputError(fault(path, f"{_start(place)}a whole number must be below 2**63"))


def _start(place: Keys) -> str:
    return f"{'.'.join(place)}: " if place else ""


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
