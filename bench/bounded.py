"""Files that others made, read up to a size: one that is larger, or no file at all, costs neither memory nor time."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import zlib
from pathlib import Path
from typing import Any

GZIP = b"\x1f\x8b"
"""How gzip begins."""
MOST_MEMBERS = 10_000
"""Gzip members, one behind another, that a file may have."""

MOST_COLUMNS = 1_000
"""Columns that a record may have."""

_STEP = 2**16
_ZEROS = re.compile(rb"\0*")


class TooLargeError(ValueError):
    """A file that holds more than it may."""


def contents(path: Path, most: int) -> bytes:
    """Read a regular file whole.

    Args:
        path: the file.
        most: bytes that it may have.

    Returns:
        Its bytes.

    Raises:
        OSError: it cannot be read, or is a device or a pipe.
        TooLargeError: it is larger.
    """
    with open(path, "rb", opener=_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is a device or a pipe")
        content = b"" if status.st_size > most else file.read(status.st_size + 1)
    if max(status.st_size, len(content)) > most:
        raise TooLargeError(f"more than {most:,} bytes")
    return content


def parsed(path: Path, most: int) -> Any:
    """Read JSON.

    Args:
        path: the file.
        most: bytes that it may have.

    Returns:
        What it says.

    Raises:
        OSError: as :func:`contents`.
        ValueError: it is too large, or no JSON, or of a depth that nobody has written.
    """
    try:
        return json.loads(contents(path, most))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _at_once(path: str, flags: int) -> int:
    """Open even a pipe that nobody writes to, which would else wait for somebody."""
    return os.open(path, flags | os.O_NONBLOCK)


def inflated(content: bytes, most: int) -> bytes:
    """Decompress gzip, of one member or several.

    Args:
        content: what was compressed.
        most: bytes that it may hold.

    Returns:
        What it holds.

    Raises:
        EOFError: the end is missing.
        zlib.error: it is broken.
        TooLargeError: it holds more, or has too many members.
    """
    view, parts, place, left = memoryview(content), list[bytes](), 0, most
    for _ in range(MOST_MEMBERS):
        member = zlib.decompressobj(wbits=31)  # gzip alone, headers and checksums included
        while not member.eof:
            if not (chunk := view[place : place + _STEP]):
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            parts.append(member.decompress(chunk, left + 1))
            left -= len(parts[-1])
            if left < 0:
                raise TooLargeError(f"gzip of more than {most:,} bytes")
            place += len(chunk) - len(member.unused_data)
        if (place := _after_zeros(content, place)) == len(content):
            return b"".join(parts)
    raise TooLargeError(f"gzip of more than {MOST_MEMBERS:,} members")


def _after_zeros(content: bytes, place: int) -> int:
    """Skip the padding that may stand behind a member."""
    found = _ZEROS.match(content, place)
    return found.end() if found else place
