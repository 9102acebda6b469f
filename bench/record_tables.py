"""Records as tables: of many files, of one version, of some runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowException, Table, array, concat_tables
from pyarrow.compute import is_in

from bench.errors import InputError
from bench.files import read_record, read_table
from bench.runs import RECORD_VERSION


def joined(tables: Sequence[Table]) -> pd.DataFrame:
    """Join tables; InputError where a column has two types."""
    try:
        frame: pd.DataFrame = concat_tables(tables, promote_options="permissive").to_pandas()
    except ArrowException as error:
        raise InputError(f"records must have columns of the same types: {str(error).splitlines()[0]}") from None
    return frame


def of_version(table: Table) -> Table:
    """Keep the rows of the current version."""
    if "version" not in table.column_names:
        return table.slice(0, 0)
    wanted = [version == RECORD_VERSION for version in table["version"].to_pylist()]
    return table if all(wanted) else table.filter(array(wanted))


def read_all(files: Sequence[Path]) -> list[Table]:
    """Read files of records; a table per Parquet file, and one per version of all others."""
    singles: dict[Any, list[dict[str, Any]]] = {}  # by version: others may lack columns
    for path in files:
        if path.suffix == ".json":
            record = read_record(path)
            singles.setdefault(record.get("version"), []).append(record)
    tables = [read_table(path) for path in files if path.suffix != ".json"]
    return [*(Table.from_pandas(pd.DataFrame(own), preserve_index=False) for own in singles.values()), *tables]


def is_current(path: Path) -> bool:
    """Tell whether a file holds nothing but records of this version."""
    if path.suffix == ".json":
        return bool(read_record(path).get("version") == RECORD_VERSION)
    table = read_table(path)
    return len(of_version(table)) == len(table)


def only(table: Table, keys: Sequence[str]) -> Table:
    """Keep the records of some runs."""
    return table.filter(is_in(table["key"], array(keys)))


def keys_of(path: Path) -> list[str]:
    """List the runs that a table has records of."""
    table = read_table(path)
    return table["key"].to_pylist() if "key" in table.column_names else []
