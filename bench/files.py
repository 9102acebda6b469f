"""Files of results: written whole or not at all, and told from damaged ones when they are read."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.bounded import MOST_COLUMNS, contents
from bench.errors import InputError


class BrokenFileError(InputError):
    """A file that cannot be read, or was changed since it was written."""


_DIGEST = b', "digest": "'
_MOST_RECORD = 10_000_000
"""Bytes that a file of one record may have."""
_STALE = 600
"""Seconds after which a file that nobody has completed is one of a process that died."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make a folder of results, and write into it.

    Args:
        folder: the folder.

    Yields:
        Once, to write.

    Raises:
        InputError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = f"results folder {folder} must be writable: {error.strerror}"
        raise InputError(f"{reason}; choose another with --results") from None


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, wherever the machine stops.

    Args:
        path: the file, in a folder that exists.
        content: its bytes.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(8)}")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Delete what processes that died have begun to write."""
    for path in folder.glob(".*.partial-*"):
        try:
            if time.time() - path.stat().st_mtime > _STALE:
                path.unlink()
        except FileNotFoundError:  # another process was faster
            continue


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record as a line of JSON that ends with its own hash.

    Args:
        path: the file, named by the record's ``key``.
        record: numbers, texts, truth values, and lists of these, by columns.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(record)
    write(path, text[:-1].encode() + _DIGEST + f'{hashed(text.encode())}"}}\n'.encode())


def read_record(path: Path) -> dict[str, Any]:
    """Read what :func:`write_record` wrote.

    Args:
        path: the file.

    Returns:
        The record.

    Raises:
        BrokenFileError: it is broken.
    """
    with reading(path):
        content, _, digest = contents(path, _MOST_RECORD).rpartition(_DIGEST)
        text = content + b"}"
        require_whole(digest == f'{hashed(text)}"}}\n'.encode())
        record: dict[str, Any] = json.loads(text)
        require_whole(isinstance(record, dict) and record.get("key") == path.stem and _is_row(record))
    return record


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell a file that is broken from a machine that cannot read it.

    Args:
        path: the file.

    Yields:
        Once, to read it.

    Raises:
        InputError: the machine cannot read it.
        BrokenFileError: it is broken.
    """
    try:
        yield
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the machine, not of the file
            raise InputError(f"{path}: the record cannot be read: {error.strerror}") from None
        reason = str(error).splitlines()[0]
        again = "run the suite again, which sets it aside"
        raise BrokenFileError(f"{path}: the record cannot be read: {reason}; {again}") from None


def require_whole(whole: bool) -> None:
    """Refuse what is not as it was written; ValueError, which :func:`reading` tells."""
    if not whole:
        raise ValueError("it is not what was written")


def _is_row(record: dict[str, Any]) -> bool:
    """Tell whether a table can have this as a row: columns of texts, of numbers, of lists of numbers."""
    if len(record) > MOST_COLUMNS or isinstance(record.get("version"), list):
        return False
    values = record.values()
    texts = "".join([*record, *(value for value in values if isinstance(value, str))])
    numbers = [value for value in values if not isinstance(value, (str, list)) and value is not None]
    numbers += itertools.chain(*(value for value in values if isinstance(value, list)))
    whole = [number for number in numbers if isinstance(number, int)]
    return (
        set(map(type, numbers)) <= {int, float, bool}
        and max(map(abs, whole), default=0) < 2**63
        and (texts.isascii() or not any("\ud800" <= each <= "\udfff" for each in texts))
    )


def hashed(content: bytes) -> str:
    """Hash bytes."""
    return hashlib.sha256(content).hexdigest()[:16]
