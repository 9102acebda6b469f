"""Tables of records in Parquet files, which tell by their names what they hash to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from pyarrow import ArrowException, Table, null, types

from bench.bounded import contents
from bench.files import hashed, reading, require_whole, write
from bench.parquet import opened

COMPACT = "compact-"
"""How the names of tables begin that say in the rest of it what their bytes hash to."""
_MOST_TABLE = 250_000_000
"""Bytes that a table of many records may have."""


def write_compact(folder: Path, table: pd.DataFrame) -> Path:
    """Write a table of records into a file whose name tells its hash.

    Args:
        folder: where, a folder that exists.
        table: the records.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written.
    """
    content = table.to_parquet(index=False)
    path = folder / f"{COMPACT}{hashed(content)}.parquet"
    write(path, content)
    return path


def read_table(path: Path) -> Table:
    """Read a Parquet file; check its bytes, if its name tells their hash.

    Args:
        path: the file.

    Returns:
        The table.

    Raises:
        BrokenFileError: it is broken.
    """
    with reading(path), _arrow():
        content = contents(path, _MOST_TABLE)
        require_whole(not path.stem.startswith(COMPACT) or path.stem == f"{COMPACT}{hashed(content)}")
        with opened(content) as file:
            threads = file.metadata.num_rows > 1_000  # below, they cost more than they save
            return _require_keys(file.read(use_threads=threads))


@contextmanager
def _arrow() -> Iterator[None]:
    try:
        yield
    except ArrowException as error:
        raise ValueError(str(error)) from None


def _require_keys(table: Table) -> Table:
    """Refuse tables in which runs have no texts as addresses."""
    names = table.column_names
    require_whole(len(set(names)) == len(names))
    kind = table.schema.field("key").type if "key" in names else null()
    require_whole(types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind))
    return table
