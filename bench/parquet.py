"""Parquet files that others made: what they would take in memory is known before they are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyarrow import BufferReader
from pyarrow import compute as arrow
from pyarrow.parquet import ColumnChunkMetaData, FileMetaData, ParquetFile
from pyarrow.types import is_dictionary

from bench.bounded import MOST_COLUMNS, TooLargeError

MOST_ROWS, MOST_BYTES = 1_000_000, 500_000_000
"""Rows that a table may have, and bytes that it may take in memory."""

_MOST_FOOTER = 4_000_000
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_TEXT = 8
"""Bytes that a text takes beside its characters."""
_ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}
"""Encodings of which the size in memory can be told; the others may repeat a part of a text in the next."""
_BATCH, _FEW = 10_000, 10_000_000


@contextmanager
def opened(content: bytes) -> Iterator[ParquetFile]:
    """Open a Parquet file that is no larger in memory than a table may be.

    Args:
        content: the bytes of the file.

    Yields:
        The file, of which nothing but the texts has been looked at.

    Raises:
        TooLargeError: it has too many rows or columns, or would take too much memory.
        ValueError: it is no Parquet file, or one of a kind that records are not written in.
    """
    if int.from_bytes(content[-8:-4], "little") > _MOST_FOOTER:
        raise TooLargeError(f"its footer has more than {_MOST_FOOTER:,} bytes")
    with ParquetFile(BufferReader(content)) as file:
        _require_small(file.metadata, content)
        yield file


def _require_small(metadata: FileMetaData, content: bytes) -> None:
    if metadata.num_rows > MOST_ROWS or metadata.num_columns > MOST_COLUMNS:
        shape = f"{metadata.num_rows:,} rows of {metadata.num_columns:,} columns"
        raise TooLargeError(f"it must have {MOST_ROWS:,} rows of {MOST_COLUMNS:,} columns at most, got {shape}")
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    left = MOST_BYTES
    for place in range(metadata.num_columns):
        chunks = [group.column(place) for group in groups]
        column = metadata.schema.column(place)
        values = sum(chunk.num_values for chunk in chunks)
        width = _WIDTHS.get(column.physical_type, column.length if column.length > 0 else _TEXT)
        levels = 4 if column.max_repetition_level else 0
        left -= max(values * (width + levels), sum(chunk.total_uncompressed_size for chunk in chunks))
        _require(left >= 0)
        if column.physical_type == "BYTE_ARRAY":
            left -= _characters(column.path, chunks, content, left)


def _characters(name: str, chunks: list[ColumnChunkMetaData], content: bytes, most: int) -> int:
    """Count the bytes of a column of texts, of which equal ones stand in the file once."""
    if any(not set(chunk.encodings) <= _ENCODINGS for chunk in chunks):
        raise ValueError(f"column {name} must have one of the encodings {', '.join(sorted(_ENCODINGS))}")
    bound: int = sum(chunk.num_values * chunk.total_uncompressed_size for chunk in chunks)
    if bound <= _FEW:  # even if each were as long as the whole column
        return bound
    total = 0
    with ParquetFile(BufferReader(content), read_dictionary=[name]) as file:
        for batch in file.iter_batches(_BATCH, columns=[name], use_threads=False):
            texts = batch.column(0)
            if not is_dictionary(texts.type):
                raise ValueError(f"column {name} must hold texts, got {texts.type}")
            lengths = arrow.take(arrow.binary_length(texts.dictionary), texts.indices)
            total += arrow.sum(lengths).as_py() or 0
            _require(total <= most)
    return total


def _require(small: bool) -> None:
    if not small:
        raise TooLargeError(f"it would take more than {MOST_BYTES:,} bytes of memory")
