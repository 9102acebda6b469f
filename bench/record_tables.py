"""Records as tables: of many files, of the current version and method, of some runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowException, Table, array, concat_tables
from pyarrow.compute import is_in

from bench.errors import InputError, in_a_line
from bench.files import read_record
from bench.migration import STEPS, TOLD, is_of_now, migrated
from bench.records import is_record_of_now
from bench.table_files import read_table


def joined(tables: Sequence[Table]) -> pd.DataFrame:
    """Join tables; InputError where a column has two types, in tables with rows."""
    filled = [table for table in tables if len(table)] or tables[:1]
    try:
        frame: pd.DataFrame = concat_tables(filled, promote_options="permissive").to_pandas()
    except ArrowException as error:
        raise InputError(f"records must have columns of the same types: {str(error).splitlines()[0]}") from None
    return frame


def migrated_table(table: Table) -> list[Table]:
    """Bring a table to the current version.

    Args:
        table: records, of any versions.

    Returns:
        Tables of its rows: of those that were brought, of all others, or of both.
    """
    versions = table["version"].to_pylist() if "version" in table.column_names else []
    older = [version in tuple(STEPS) for version in versions]
    if not any(older):
        return [table]
    old, others = table.filter(array(older)), table.filter(array([not each for each in older]))
    rows = [migrated(row) for row in old.select([name for name in TOLD if name in old.column_names]).to_pylist()]
    for name in ("version", "method", "data"):
        column, place = array([row[name] for row in rows]), old.schema.get_field_index(name)
        old = old.append_column(name, column) if place < 0 else old.set_column(place, name, column)
    return [old, others] if len(others) else [old]


def of_version(table: Table) -> Table:
    """Keep the rows of the current version and method."""
    versions, methods = (
        table[name].to_pylist() if name in table.column_names else [None] * len(table) for name in ("version", "method")
    )
    wanted = [is_of_now(*both) for both in zip(versions, methods, strict=True)]
    return table if all(wanted) else table.filter(array(wanted))


def read_all(files: Sequence[Path]) -> list[Table]:
    """Read files of records, older ones brought to the current version; other files than Parquet share tables."""
    singles: dict[Any, list[dict[str, Any]]] = {}  # by version: others may lack columns
    for path in files:
        if path.suffix == ".json":
            record = migrated(read_record(path))
            singles.setdefault(record.get("version"), []).append(record)
    tables = [each for path in files if path.suffix != ".json" for each in migrated_table(read_table(path))]
    try:
        own = [Table.from_pandas(pd.DataFrame(each), preserve_index=False) for each in singles.values()]
    except ArrowException as error:
        raise InputError(f"records must have columns of the same types: {in_a_line(error)}") from None
    return [*own, *tables]


def is_current(path: Path) -> bool:
    """Tell whether a file holds nothing but records of this version and method, or older ones that can be brought."""
    if path.suffix == ".json":
        return is_record_of_now(path)
    return all(len(of_version(table)) == len(table) for table in read_all([path]))


def only(table: Table, keys: Sequence[str]) -> Table:
    """Keep the records of some runs."""
    return table.filter(is_in(table["key"], array(keys)))


def keys_of(path: Path) -> list[str]:
    """List the runs that a table has records of, of the current version and method."""
    table = read_table(path)
    told = table.select([name for name in ("key", "version", "method") if name in table.column_names])
    tables = [of_version(each) for each in migrated_table(told)]  # of some columns, which is faster than of all
    return [key for each in tables if "key" in each.column_names for key in each["key"].to_pylist()]


def rows_of(path: Path, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the records of some runs, which a file has."""
    if path.suffix == ".json":
        yield migrated(read_record(path))  # as it is: tables hold no NaN
        return
    for table in migrated_table(read_table(path)):
        yield from only(of_version(table), keys).to_pylist()
