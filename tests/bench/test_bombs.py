"""Data and records made to do harm: refused by the real command line with one line, in little time and memory."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bench import registry
from bench.bounded import contents, inflated
from bench.errors import InputError
from bench.files import read_record
from bench.table_files import read_table
from tests.bench.conftest import TINY, Outcome, Refuse, measured
from tests.bench.planted import record

IMAGES = "mnist/train-images-idx3-ubyte"
KEY = "digits-momentum-weight-test-0-0.1"


@pytest.fixture(scope="session")
def bomb() -> bytes:
    """12 GB of zeros in 12 MB: members of 100 MB, one behind another."""
    return gzip.compress(bytes(100_000_000)) * 120


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_inflated_knows_what_gzip_knows() -> None:
    for content in (b"", b"a", bytes(range(256)) * 1_000):
        packed = gzip.compress(content)
        assert inflated(packed, len(content)) == content
        assert inflated(packed * 3 + bytes(10), 3 * len(content)) == content * 3
    for broken, error in ((packed[:-1], EOFError), (packed[:5], EOFError), (packed + b"a", EOFError)):
        with pytest.raises(error):
            inflated(broken, 10**6)


def test_contents_are_read_up_to_a_size(tmp_path: Path) -> None:
    path = put(tmp_path / "a", b"abc")
    assert contents(path, 3) == b"abc"
    with pytest.raises(ValueError, match="more than 2 bytes"):
        contents(path, 2)


ARCHIVES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "images": (f"{IMAGES}.gz", lambda bomb: bomb, "got gzip of more than 48,088,592 bytes"),
    "music": ("polyphonic/JSB_Chorales.mat.gz", lambda bomb: bomb[:97_000], "got gzip of more than 1,144,671 bytes"),
    "members": (f"{IMAGES}.gz", lambda _: gzip.compress(b"") * 2_000_000, "got gzip of more than 10,000 members"),
    "a header": (f"{IMAGES}.gz", lambda _: b"\x1f\x8b\x08\x10" + bytes(6) + b"a" * 47_000_000, "of broken gzip ("),
    "padding": (f"{IMAGES}.gz", lambda _: gzip.compress(b"a") + bytes(47_000_000), "got 1 bytes with SHA-256 ca97"),
    "a large file": (IMAGES, lambda _: bytes(49_000_000), "got more than 48,088,592 bytes"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives(tmp_path: Path, refuse: Refuse, bomb: bytes, kind: str) -> None:
    name, make, expected = ARCHIVES[kind]
    path = put(tmp_path / "data" / name, make(bomb))
    result = refuse("-m", "bench", "data", "check", name.removesuffix(".gz"), PATHRNN_DATA=str(tmp_path / "data"))
    assert result.out.startswith(f"{name.removesuffix('.gz')}: {path}: must hold ")
    assert expected in result.out


def test_data_that_are_no_files(tmp_path: Path, refuse: Refuse) -> None:
    path = tmp_path / "data" / IMAGES
    path.parent.mkdir(parents=True)
    for make in (
        os.mkfifo,
        lambda link: link.symlink_to("/dev/zero"),
        lambda large: put(large, b"") and os.truncate(large, 10**13),
    ):
        make(path)
        result = refuse("-m", "bench", "data", "check", IMAGES, PATHRNN_DATA=str(tmp_path / "data"))
        assert "but cannot be read: it is a device or a pipe" in result.out or "got more than 48,088,592" in result.out
        path.unlink()


def test_a_text_of_the_user(tmp_path: Path, refuse: Refuse, bomb: bytes, torch_alone: Outcome) -> None:
    path = put(tmp_path / "data" / "my.txt.gz", bomb)
    suite = tmp_path / "a.toml"
    options = f'options = {{ file = "my.txt", sha256 = "{"0" * 64}" }}'
    suite.write_text(TINY.replace('"digits"\noptions = { steps = 8 }', f'"characters"\n{options}'))
    run = ("-m", "bench", "run", suite, "--task", "digits_rows", "--workers", "1", "--results", tmp_path)
    result = refuse(*run, torch=torch_alone, PATHRNN_DATA=str(tmp_path / "data"))
    assert result.err.startswith(f"Error: suite a, tasks.digits_rows: {path}: must hold bytes with SHA-256 000")
    assert "got gzip of more than 100,000,000 bytes; if whole, cut it, or keep it without gzip" in result.err


def test_tasks_without_end() -> None:
    with pytest.raises(InputError, match="adding must have 1,000,000,000 steps of all sequences at most, got 24,000,0"):
        registry.configured("task", "adding", {"length": 1_000_000_000})()
    with pytest.raises(InputError, match="reber must have 1,000,000 sequences at most, got 1,000,002,000"):
        registry.configured("task", "reber", {"train": 1_000_000_000})()
    with pytest.raises(InputError, match="copies of digits must be 100 at most, got 1000000000"):
        registry.configured("task", "digits", {"copies": 1_000_000_000})()


@pytest.fixture
def address(bomb: bytes) -> Iterator[str]:
    """A server that sends a bomb, a bomb that is to be unpacked on the way, and what never ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if self.path == "/unpacked":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            try:
                self.wfile.write(bomb)
                while self.path == "/endless":
                    self.wfile.write(bytes(1_000_000))
            except OSError:  # nobody listens any more
                pass

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["packed.gz", "unpacked", "endless"])
def test_downloads(tmp_path: Path, refuse: Refuse, address: str, kind: str) -> None:
    file = f"DataFile({47_040_016 if kind == 'packed.gz' else 10_000}, {'0' * 64!r}, '{address}/{kind}', 'us; MIT')"
    code = f"from bench.cli import main; from bench.data import *; FILES['a'] = {file}; main(['data', 'fetch', 'a'])"
    result = refuse("-c", code, PATHRNN_OFFLINE="", NO_PROXY="127.0.0.1")
    assert "got gzip of more than 48,088,592 bytes" in result.out or "got more than 1,058,576 bytes" in result.out
    assert f"{address}/{kind} sent it and it was deleted" in result.out
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def signed(text: str) -> bytes:
    """End a record as the project ends it: whoever makes up a record can do so, too."""
    return f'{text[:-1]}, "digest": "{hashlib.sha256(text.encode()).hexdigest()[:16]}"}}\n'.encode()


def changed(**changes: Any) -> bytes:
    return signed(json.dumps(record("digits", "momentum", "weight", "test", 0, 0.1, 50.0) | changes))


def nested(opening: str, closing: str, depth: int) -> bytes:
    return signed(f'{{"key": "{KEY}", "a": {opening * depth}1{closing * depth}}}')


RECORDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "spaces": (lambda: b" " * 50_000_000, "more than 10,000,000 bytes"),
    "nested lists": (lambda: nested("[", "]", 1_000_000), "maximum recursion depth"),
    "nested objects": (lambda: nested('{"a":', "}", 1_000_000), "maximum recursion depth"),
    "columns": (lambda: changed(**{f"c{number}": 1 for number in range(300_000)}), "it is not what was written"),
}


def folder_of(tmp_path: Path) -> Path:
    (tmp_path / "a" / "records").mkdir(parents=True)
    return tmp_path / "a"


@pytest.mark.parametrize("kind", RECORDS)
def test_records(tmp_path: Path, refuse: Refuse, kind: str) -> None:
    make, expected = RECORDS[kind]
    folder = folder_of(tmp_path)
    path = put(folder / "records" / f"{KEY}.json", make())
    result = refuse("-m", "bench", "compact", folder)
    assert result.err.startswith(f"Error: {path}: the record cannot be read: {expected}")


@pytest.mark.parametrize(
    "make",
    [
        lambda: signed("[1]"),
        lambda: changed(version=[4]),
        lambda: changed(index=10**30),
        lambda: changed(curve_update=[1, "a"]),
        lambda: changed(curve_update={"a": 1}),
        lambda: changed(name="\ud800"),
    ],
)
def test_records_that_are_no_rows(tmp_path: Path, make: Callable[[], bytes]) -> None:
    path = put(tmp_path / f"{KEY}.json", changed())
    assert read_record(path)["key"] == KEY
    path.write_bytes(make())
    with pytest.raises(
        InputError, match=r"\.json: the record cannot be read: it is not what was written; run the suite"
    ):
        read_record(path)


def test_what_records_say_is_no_command_to_a_terminal(tmp_path: Path, refuse: Refuse) -> None:
    folder = folder_of(tmp_path)
    put(folder / "records" / f"{KEY}.json", changed(name="\x1b]0;a\x07"))
    assert "column name must hold printable text in every row" in refuse("-m", "bench", "compact", folder).err


def repeated(text: str, rows: int) -> pa.Table:
    """The same text in every row: in the file it stands once."""
    indices = pa.array(np.zeros(rows, dtype=np.int32))
    return pa.table({"key": pa.DictionaryArray.from_arrays(indices, pa.array([text]))})


def plain(path: Path) -> None:
    schema = pa.schema({"key": pa.string()})
    with parquet.ParquetWriter(path, schema, use_dictionary=False, compression="zstd") as file:
        for _ in range(6):
            file.write_table(pa.table({"key": pa.array(["x" * 1_000_000] * 100)}))


def zeros(columns: int, rows: int) -> pa.Table:
    return pa.table({f"c{number}": np.zeros(rows) for number in range(columns)})


def one_list(length: int) -> pa.Table:
    values, offsets = pa.nulls(length, pa.float64()), pa.array([0, length], pa.int32())
    return pa.table({"a": pa.ListArray.from_arrays(offsets, values)})


def similar() -> pa.Table:
    return pa.table({"key": pa.array(["x" * 5_000] * 20_000)})


LARGE = "it would take more than 500,000,000 bytes of memory"
TABLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a text": (lambda path: parquet.write_table(repeated("x" * 500_000, 1_000_000), path, store_schema=False), LARGE),
    "texts": (plain, LARGE),
    "numbers": (lambda path: parquet.write_table(zeros(100, 10**6), path, compression="zstd"), LARGE),
    "a list": (lambda path: parquet.write_table(one_list(65_000_000), path, use_dictionary=False), LARGE),
    "rows": (
        lambda path: parquet.write_table(zeros(1, 10**7), path),
        "it must have 1,000,000 rows of 1,000 columns at",
    ),
    "columns": (
        lambda path: parquet.write_table(zeros(5_000, 1), path),
        "it must have 1,000,000 rows of 1,000 columns",
    ),
    "a footer": (
        lambda path: put(path, b"PAR1" + bytes(10**7) + b"\0\0\0\x7fPAR1"),
        "its footer has more than 4,000,000",
    ),
    "a hole": (lambda path: put(path, b"") and os.truncate(path, 10**12), "more than 250,000,000 bytes"),
}


@pytest.mark.parametrize("kind", ["a text", "texts", "numbers", "a list"])
def test_tables(tmp_path: Path, refuse: Refuse, kind: str) -> None:
    write, expected = TABLES[kind]
    folder = folder_of(tmp_path)
    path = folder / "records" / "a.parquet"
    write(path)
    result = refuse("-m", "bench", "compact", folder)
    assert result.err.startswith(f"Error: {path}: the record cannot be read: {expected}")


@pytest.mark.parametrize("kind", ["rows", "columns", "a footer", "a hole"])
def test_more_tables(tmp_path: Path, kind: str) -> None:
    write, expected = TABLES[kind]
    path = tmp_path / "a.parquet"
    write(path)
    with pytest.raises(InputError, match=re.escape(f"{path}: the record cannot be read: {expected}")):
        read_table(path)


@pytest.mark.parametrize(
    ("table", "options", "expected"),
    [
        (similar(), {"use_dictionary": False, "column_encoding": {"key": "DELTA_BYTE_ARRAY"}}, "one of the encodings"),
        (pa.table({"key": pa.array([["x" * 5_000] * 1_000] * 100)}), {}, "column key.list.element must hold texts"),
        (pa.table({"key": [[1]]}), {}, "it is not what was written"),
        (pa.Table.from_arrays([pa.array(["a"])] * 2, names=["key", "key"]), {}, "it is not what was written"),
    ],
    ids=["encoding", "lists", "keys", "twice"],
)
def test_tables_of_another_kind(tmp_path: Path, table: pa.Table, options: dict[str, Any], expected: str) -> None:
    parquet.write_table(table, tmp_path / "a.parquet", **options)
    with pytest.raises(InputError, match=expected):
        read_table(tmp_path / "a.parquet")


def test_a_table_of_many_texts_is_read(tmp_path: Path) -> None:
    parquet.write_table(similar(), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").equals(similar())


def test_a_plan_passes_over_what_is_hostile(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    put(folder / "records" / f"{KEY}.json", RECORDS["nested lists"][0]())
    put(folder / "records" / "other.json", changed(key="other"))
    TABLES["a text"][0](folder / "records" / "a.parquet")
    (tmp_path / "a.toml").write_text(TINY)
    result = measured(tmp_path, "-m", "bench", "plan", tmp_path / "a.toml", "--results", tmp_path)
    assert (result.status, result.err) == (0, "")
    assert result.seconds < 2
    assert result.megabytes < 500
