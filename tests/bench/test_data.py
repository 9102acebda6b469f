"""Data files, with real folders and a real server on this machine: found, fetched, checked, and never half read."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from rich.progress import Progress

from bench import data as store
from bench.cli import _Group
from bench.data import DataFile, read
from bench.data_cli import _Bar, data
from bench.errors import InputError, MissingDataError
from tests.bench.conftest import ROOT

REAL = os.environ.get("PATHRNN_DATA", "")
IMAGES, TUNE = "pictures/images", "music/tune.mat"
CONTENT = {IMAGES: bytes(range(256)) * 1024, TUNE: b"do re mi"}
EMPTY = hashlib.sha256(b"").hexdigest()


class Answer(NamedTuple):
    """What the server says: after half of the body it waits if it hangs."""

    body: bytes
    status: int = 200
    encoding: str | None = None
    length: int | None = None
    hangs: bool = False


class Site(NamedTuple):
    url: str
    answers: dict[str, Answer]
    asked: list[str]


@pytest.fixture
def site() -> Iterator[Site]:
    answers: dict[str, Answer] = {}
    asked: list[str] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer = answers.get(self.path, Answer(b"no such page", status=404))
            self.send_response(answer.status)
            self.send_header("Content-Length", str(answer.length or len(answer.body)))
            if answer.encoding:
                self.send_header("Content-Encoding", answer.encoding)
            self.end_headers()
            if answer.hangs:
                self.wfile.write(answer.body[: len(answer.body) // 2])
                over.wait(60)
            else:
                self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Site(f"http://127.0.0.1:{server.server_port}", answers, asked)
        over.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _places(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders of the test's own, and two files that its server has, one of them gzipped."""
    monkeypatch.setenv("PATHRNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PATHRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PATHRNN_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    files = {
        name: DataFile(len(content), digest(content), site.url + path, "us; MIT")
        for (name, content), path in zip(CONTENT.items(), ["/images.gz", "/tune.mat"], strict=True)
    }
    monkeypatch.setattr(store, "FILES", files)
    site.answers["/images.gz"] = Answer(gzip.compress(CONTENT[IMAGES]))
    site.answers["/tune.mat"] = Answer(CONTENT[TUNE])


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def message(kind: type[Exception], name: str, sha256: str | None = None) -> str:
    with pytest.raises(kind) as caught:
        read(name, sha256)
    assert type(caught.value) is kind
    return str(caught.value)


def must(name: str) -> str:
    return f"must hold {len(CONTENT[name]):,} bytes with SHA-256 {digest(CONTENT[name])}"


def delete(name: str) -> str:
    return f"delete it and run python -m bench data fetch {name}"


def nowhere(name: str, tmp_path: Path, reason: str) -> str:
    return (
        f"{name} not found in PATHRNN_DATA ({tmp_path / 'data'}), nor in the cache ({tmp_path / 'cache'}), nor "
        f"downloaded ({reason}); set PATHRNN_DATA to a folder that holds it, or run python -m bench data fetch {name}"
    )


def declare(name: str) -> str:
    """Return code that tells another process of a file of ours."""
    return f"data.FILES[{name!r}] = data.{store.FILES[name]!r}"


def in_folder(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def bench_data(*arguments: str) -> Result:
    group = _Group("bench")
    group.add_command(data)
    return CliRunner().invoke(group, ["data", *arguments])


@pytest.mark.skipif(not REAL, reason="PATHRNN_DATA is not set: no real files")
@pytest.mark.parametrize("name", list(store.FILES))
def test_the_real_files_are_those_declared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert len(read(name)) == store.FILES[name].size


def test_every_real_file_says_all_about_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert len(store.FILES) == 7
    for name, file in store.FILES.items():
        assert file.url.startswith("https://")
        assert file.url.removesuffix(".gz").endswith(name.rpartition("/")[2])
        assert len(bytes.fromhex(file.sha256)) == 32
        assert "; " in file.source


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gz"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["data", "cache"])
def test_a_file_may_be_gzipped_or_not_and_nothing_is_downloaded(
    tmp_path: Path, site: Site, place: str, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    put(tmp_path / place / (TUNE + suffix), pack(CONTENT[TUNE]))
    assert read(TUNE) == CONTENT[TUNE]
    assert read(TUNE, digest(CONTENT[TUNE]).upper()) == CONTENT[TUNE]
    assert site.asked == []


def test_the_first_place_counts_even_where_its_file_is_broken(tmp_path: Path) -> None:
    places = [tmp_path / place / (TUNE + suffix) for place in ("data", "cache") for suffix in (".gz", "")]
    for place in places:
        put(place, b"wrong")
    for place in places:
        assert message(InputError, TUNE).startswith(f"{place}: ")
        place.unlink()
    assert read(TUNE) == CONTENT[TUNE]


@pytest.mark.parametrize(("name", "file"), [(IMAGES, IMAGES + ".gz"), (TUNE, TUNE)])
def test_a_download_lands_in_the_cache_once(tmp_path: Path, site: Site, name: str, file: str) -> None:
    assert [read(name), read(name)] == [CONTENT[name]] * 2
    assert len(site.asked) == 1
    assert in_folder(tmp_path) == [f"cache/{file}"]


def test_a_server_may_unpack_what_it_sends(site: Site) -> None:
    site.answers["/images.gz"] = Answer(gzip.compress(CONTENT[IMAGES]), encoding="gzip")
    assert read(IMAGES) == CONTENT[IMAGES]


@pytest.mark.parametrize("file", [f"data/{TUNE}", f"data/{TUNE}.gz", f"cache/{TUNE}", f"cache/{TUNE}.gz"])
@pytest.mark.parametrize("content", [b"", b"something else", CONTENT[TUNE][:-1]], ids=["empty", "wrong", "cut"])
def test_wrong_files_are_named_with_both_digests(tmp_path: Path, file: str, content: bytes) -> None:
    path = put(tmp_path / file, content)
    found = f"got {len(content)} bytes with SHA-256 {digest(content)}"
    assert message(InputError, TUNE) == f"{path}: {must(TUNE)}, {found}; {delete(TUNE)}"


@pytest.mark.parametrize("cut", [-1, 100, 5], ids=["end", "middle", "header"])
def test_cut_gzip_is_named_with_both_digests(tmp_path: Path, cut: int) -> None:
    reason = "Compressed file ended before the end-of-stream marker was reached"
    content = gzip.compress(CONTENT[IMAGES])[:cut]
    path = put(tmp_path / "data" / f"{IMAGES}.gz", content)
    found = f"got {len(content):,} bytes of broken gzip ({reason}) with SHA-256 {digest(content)}"
    assert message(InputError, IMAGES) == f"{path}: {must(IMAGES)}, {found}; {delete(IMAGES)}"


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(CONTENT[IMAGES]))
    for place in range(10, len(content), 7):
        damaged = content.copy()
        damaged[place] ^= 0xFF
        put(tmp_path / "data" / f"{IMAGES}.gz", bytes(damaged))
        assert must(IMAGES) in message(InputError, IMAGES)


def test_a_folder_or_a_dead_link_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache" / f"{TUNE}.gz"
    path.mkdir(parents=True)
    expected = f"{path}: {must(TUNE)}, but cannot be read: Is a directory; {delete(TUNE)}"
    assert message(InputError, TUNE) == expected
    link = tmp_path / "data" / TUNE
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "gone")
    expected = f"{link}: {must(TUNE)}, but cannot be read: No such file or directory; {delete(TUNE)}"
    assert message(InputError, TUNE) == expected


def test_a_place_that_cannot_be_looked_at_counts_as_broken(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    name = "long" * 100
    expected = f"{tmp_path / 'data' / name}.gz: must hold bytes with SHA-256 {EMPTY}, but cannot be read: "
    assert message(InputError, name, EMPTY).startswith(expected + os.strerror(errno.ENAMETOOLONG))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_not_masked(tmp_path: Path) -> None:
    path = put(tmp_path / "data" / TUNE, CONTENT[TUNE])
    for closed, other in ((path, path), (path.parent, Path(f"{path}.gz"))):
        closed.chmod(0)
        expected = f"{other}: {must(TUNE)}, but cannot be read: Permission denied; {delete(TUNE)}"
        assert message(InputError, TUNE) == expected
        closed.chmod(0o700)


@pytest.mark.parametrize("garbage", [b"<html>log in first</html>", b"", gzip.compress(b"other", mtime=0)])
def test_garbage_from_the_server_leaves_the_cache_clean(tmp_path: Path, site: Site, garbage: bytes) -> None:
    site.answers["/images.gz"] = Answer(garbage)
    content = gzip.decompress(garbage) if garbage.startswith(b"\x1f\x8b") else garbage
    assert message(InputError, IMAGES) == (
        f"{tmp_path / 'cache' / IMAGES}.gz: {must(IMAGES)}, got {len(content)} bytes with SHA-256 {digest(content)}; "
        f"{site.url}/images.gz sent it and it was deleted; try later, or set PATHRNN_DATA to a folder that holds "
        f"{IMAGES}"
    )
    assert in_folder(tmp_path) == []


def test_a_page_that_is_not_there(tmp_path: Path, site: Site) -> None:
    del site.answers["/tune.mat"]
    reason = f"{site.url}/tune.mat: 404 Client Error: Not Found"
    assert message(MissingDataError, TUNE) == nowhere(TUNE, tmp_path, reason)
    assert in_folder(tmp_path) == []


def test_an_answer_that_breaks_off(tmp_path: Path, site: Site) -> None:
    site.answers["/tune.mat"] = Answer(CONTENT[TUNE][:-3], length=len(CONTENT[TUNE]))
    reason = f"{site.url}/tune.mat: Connection broken: IncompleteRead(5 bytes read, 3 more expected)"
    assert message(MissingDataError, TUNE) == nowhere(TUNE, tmp_path, reason)
    assert in_folder(tmp_path) == []


def test_a_server_that_falls_silent(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "TIMEOUT", (0.2, 0.2))
    site.answers["/tune.mat"] = Answer(CONTENT[TUNE], hangs=True)
    reason, start = f"{site.url}/tune.mat: Read timed out.", time.monotonic()
    assert message(MissingDataError, TUNE) == nowhere(TUNE, tmp_path, reason)
    assert time.monotonic() - start < 10
    assert in_folder(tmp_path) == []


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/tune.mat"
    monkeypatch.setitem(store.FILES, TUNE, DataFile(8, digest(CONTENT[TUNE]), url, "us; MIT"))
    refusal = f"[Errno {errno.ECONNREFUSED}] {os.strerror(errno.ECONNREFUSED)}"
    reason = f"{url}: Failed to establish a new connection: {refusal}"
    assert message(MissingDataError, TUNE) == nowhere(TUNE, tmp_path, reason)


def test_offline_means_that_nothing_is_asked(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHRNN_OFFLINE", "1")
    assert message(MissingDataError, TUNE) == nowhere(TUNE, tmp_path, "PATHRNN_OFFLINE is set")
    monkeypatch.delenv("PATHRNN_DATA")
    assert message(MissingDataError, TUNE).startswith(f"{TUNE} not found in PATHRNN_DATA (not set), nor in the cache (")
    assert site.asked == []
    monkeypatch.setenv("PATHRNN_OFFLINE", "")
    assert read(TUNE) == CONTENT[TUNE]


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    put(tmp_path / "cache", b"in the way")
    reason = f"[Errno {errno.ENOTDIR}] {os.strerror(errno.ENOTDIR)}: '{tmp_path / 'cache' / 'music'}'"
    text = message(MissingDataError, TUNE)
    assert text == nowhere(TUNE, tmp_path, f"{store.FILES[TUNE].url}: {reason}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_without_permission(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    reason = f"[Errno {errno.EACCES}] {os.strerror(errno.EACCES)}: '{tmp_path / 'cache' / 'music'}'"
    text = message(MissingDataError, TUNE)
    assert text == nowhere(TUNE, tmp_path, f"{store.FILES[TUNE].url}: {reason}")


def test_the_cache_is_where_the_system_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.cache() == tmp_path / "cache"
    monkeypatch.setenv("PATHRNN_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.cache().name == "pathrnn"


def test_a_kill_during_a_download_leaves_nothing_to_be_taken_for_the_file(tmp_path: Path, site: Site) -> None:
    whole = site.answers["/images.gz"]
    body = CONTENT[IMAGES]
    site.answers["/images.gz"] = Answer(body, hangs=True)
    code = f"from bench import data; {declare(IMAGES)}; data.read({IMAGES!r})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in (tmp_path / "cache").rglob("tmp*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert store.find(IMAGES) == ("missing", None)
    assert len(in_folder(tmp_path)) == 1
    site.answers["/images.gz"] = whole
    assert read(IMAGES) == CONTENT[IMAGES]


def test_a_text_of_the_user_needs_its_digest(tmp_path: Path, site: Site) -> None:
    for path in (put(tmp_path / "data" / "my.txt", b"my text"), put(tmp_path / "data" / "my.gz", gzip.compress(b"my"))):
        content = b"my text" if path.suffix == ".txt" else b"my"
        name, found = path.name, f"got {len(content)} bytes with SHA-256 {digest(content)}"
        assert message(InputError, name) == (
            f"{path}: must hold bytes whose SHA-256 is declared, {found}; if whole, declare that as the option sha256"
        )
        assert message(InputError, name, EMPTY) == (
            f"{path}: must hold bytes with SHA-256 {EMPTY}, {found}; correct the file or the option sha256"
        )
        assert read(name, digest(content)) == content
    assert read("my", digest(b"my")) == b"my"
    assert site.asked == []


def test_a_text_of_the_user_lies_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "cache" / "my.txt", b"my text")
    advice = f"set PATHRNN_DATA to a folder that holds it, or name a file that can be downloaded: {IMAGES}, {TUNE}"
    expected = f"my.txt not found in PATHRNN_DATA ({tmp_path / 'data'}); {advice}"
    assert message(MissingDataError, "my.txt", digest(b"my text")) == expected
    monkeypatch.delenv("PATHRNN_DATA")
    assert message(MissingDataError, "my.txt") == f"my.txt not found in PATHRNN_DATA (not set); {advice}"


def test_half_a_text_of_the_user_is_refused_whatever_is_declared(tmp_path: Path) -> None:
    content = gzip.compress(b"my text")[:-9]
    put(tmp_path / "data" / "my.txt.gz", content)
    assert " bytes of broken gzip (" in message(InputError, "my.txt", digest(content))


def test_a_digest_that_contradicts_ours(tmp_path: Path) -> None:
    expected = f"the option sha256 of {TUNE} must be {digest(CONTENT[TUNE])} or left out, got {EMPTY}"
    assert message(InputError, TUNE, EMPTY) == expected


@pytest.mark.parametrize("name", ["/etc/passwd", "../data/a", "music/../../a", "", ".", "a\0b"])
def test_names_stay_inside_the_folder(name: str) -> None:
    rule = "a data file must be named by its path inside the data folder, without '..'"
    assert message(InputError, name, EMPTY) == f"{rule}, got {name!r}"


def test_names_may_be_written_otherwise() -> None:
    assert read(f"./{TUNE.replace('/', '//')}") == CONTENT[TUNE]


def test_list(tmp_path: Path, site: Site) -> None:
    for found in ("missing", "cache", "PATHRNN_DATA"):
        result = bench_data("list")
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.output.splitlines() if "│" in line]
        assert rows == [[IMAGES, "262,144", "missing", "us; MIT"], [TUNE, "8", found, "us; MIT"]]
        assert result.exit_code == 0
        put(tmp_path / ("cache" if found == "missing" else "data") / TUNE, CONTENT[TUNE])
    assert site.asked == []


def test_fetch(tmp_path: Path, site: Site) -> None:
    result = bench_data("fetch", TUNE)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{TUNE}: fetched\n", "")
    result = bench_data("fetch")
    assert (result.exit_code, result.stdout) == (0, f"{IMAGES}: fetched\n{TUNE}: already there\n")
    assert result.stderr == ""
    assert in_folder(tmp_path) == [f"cache/{TUNE}", f"cache/{IMAGES}.gz"]
    assert len(site.asked) == 2


def test_fetch_goes_on_after_a_failure(tmp_path: Path, site: Site) -> None:
    del site.answers["/images.gz"]
    result = bench_data("fetch", TUNE, IMAGES, TUNE)
    reason = nowhere(IMAGES, tmp_path, f"{site.url}/images.gz: 404 Client Error: Not Found")
    assert result.stdout == f"{TUNE}: fetched\n{IMAGES}: {reason}\n"
    assert result.stderr == f"Error: 1 of 2 data files missing or wrong: {IMAGES}\n"
    assert result.exit_code == 2


@pytest.mark.parametrize("command", ["fetch", "check"])
def test_unknown_names_are_refused_before_anything_happens(site: Site, command: str) -> None:
    result = bench_data(command, TUNE, "tune")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: unknown data file 'tune'; known are {IMAGES}, {TUNE}\n"
    assert site.asked == []


def test_check_reports_every_file(tmp_path: Path, site: Site) -> None:
    assert (bench_data("check").stdout, bench_data("check").exit_code) == (f"{IMAGES}: missing\n{TUNE}: missing\n", 0)
    wrong = put(tmp_path / "data" / IMAGES, b"wrong")
    put(tmp_path / "data" / TUNE, CONTENT[TUNE])
    result = bench_data("check")
    assert result.stdout == (
        f"{IMAGES}: {wrong}: {must(IMAGES)}, got 5 bytes with SHA-256 {digest(b'wrong')}; {delete(IMAGES)}\n"
        f"{TUNE}: ok\n"
    )
    assert result.stderr == f"Error: 1 of 2 data files missing or wrong: {IMAGES}\n"
    assert result.exit_code == 2
    wrong.unlink()
    result = bench_data("check", IMAGES)
    assert (result.stdout, result.exit_code) == (f"{IMAGES}: missing\n", 2)
    assert site.asked == []


def test_a_progress_bar_counts_the_bytes() -> None:
    with Progress(console=Console(file=io.StringIO(), force_terminal=True)) as progress:
        store.fetch(TUNE, _Bar(progress, TUNE))
    (task,) = progress.tasks
    assert (task.completed, task.total) == (8, 8)


def test_a_progress_bar_on_a_terminal_is_gone_before_the_next_line() -> None:
    ours, theirs = pty.openpty()
    code = f"from bench import data, data_cli; {declare(TUNE)}; data_cli.data(['fetch', {TUNE!r}])"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that nothing more comes
            while more := os.read(ours, 4096):
                shown += more
    os.close(ours)
    assert process.returncode == 0, shown
    before, _, after = shown.decode().rpartition("\x1b[2K")
    assert TUNE in before
    assert re.sub(r"\x1b\[\S*?[a-zA-Z]", "", after).strip() == f"{TUNE}: fetched"


def test_help_teaches_without_heavy_imports() -> None:
    code = (
        "import sys, click.testing, bench.data_cli as cli\n"
        "for command in ([], ['list'], ['fetch'], ['check']):\n"
        "    result = click.testing.CliRunner().invoke(cli.data, [*command, '--help'])\n"
        "    assert result.exit_code == 0 and 'Example: python -m bench data' in result.output, result.output\n"
        "print(*{'torch', 'pandas', 'pooch', 'requests', 'rich'} & set(sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "\n"
