"""What goes wrong while a suite runs: no record is lost, none lies, and what failed is told."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import InputError
from bench.files import BrokenFileError, read_record, write_record
from bench.store import Store
from bench.table_files import read_table, write_compact
from tests.bench.conftest import ROOT, TIMINGS, TINY, Bench
from tests.bench.planted import study

FAULTY = (
    TINY
    .replace(", mnist_rows = 1", "")
    .replace('optimizer = "SGD"\noptions = { momentum = 0.9 }', 'optimizer = "Faulty"')
    .replace('spaces = ["weight", "path"]', 'spaces = ["weight", "path"]\n')
)
PLUGIN = ("--plugin", "tests.bench.faulty")


def run(suite: Path, results: Path, *options: str, **settings_: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, which can be sent signals."""
    command = [sys.executable, "-m", "bench", "run", str(suite), "--results", str(results), *options]
    environment = {**os.environ, "PATHRNN_OFFLINE": "1"}
    environment.pop("PATHRNN_DATA", None)
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **settings_
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("records/*.json")}


def outcomes(folder: Path) -> pd.DataFrame:
    return Store(folder).load().drop(columns=TIMINGS)


@pytest.mark.parametrize("fault", ["segfault", "hang", "raise"])
def test_a_run_that_fails_stops_no_other(bench: Bench, tiny: Path, tmp_path: Path, fault: str) -> None:
    tiny.write_text(FAULTY)
    options = ("--results", tmp_path, *PLUGIN, "--retries", "1", "--timeout", "15" if fault == "hang" else "300")
    result = bench("run", tiny, *options, FAULT=fault)
    assert result.returncode == 1, result.stderr
    first = "momentum in weight space on digits_rows, seed 0, rate 0.1"
    reason = {
        "segfault": "its process was ended by SIGSEGV",
        "hang": "it took more than 15 seconds",
        "raise": "RuntimeError: a bug in my code",
    }[fault]
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"Error: 2 runs failed, 4 had to wait for them; the first: {first}: {reason}; ")
    records = outcomes(tmp_path / "tiny")
    assert sorted(records["lr"]) == [0.01, 0.01]
    told = bench("status", tmp_path / "tiny").stdout
    assert told.split()[6:11] == ["embedded", "2", "0", "2", "0"]
    assert f"failed: {first}: " in told
    assert f"tried {1 if fault == 'raise' else 2} times" in told
    if fault == "segfault":
        assert "about to fall over" in told
        assert "Fatal Python error: Segmentation fault" in told
    if fault == "raise":
        assert 'raise RuntimeError("a bug in my code")' in told
    again = bench("run", tiny, *options)
    assert again.returncode == 0, again.stderr
    assert len(outcomes(tmp_path / "tiny")) == 8
    assert "failed" not in bench("status", tmp_path / "tiny").stdout.replace("failed  missing", "")


def test_a_run_whose_process_is_killed_begins_anew(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(FAULTY)
    undisturbed = bench("run", tiny, "--results", tmp_path / "undisturbed", *PLUGIN)
    assert undisturbed.returncode == 0, undisturbed.stderr
    result = bench("run", tiny, "--results", tmp_path, *PLUGIN, FAULT=str(tmp_path / "mark"))
    assert result.returncode == 0, result.stderr
    assert "its process was ended by SIGKILL, as where memory runs out; trying again" in result.stderr
    pd.testing.assert_frame_equal(outcomes(tmp_path / "tiny"), outcomes(tmp_path / "undisturbed" / "tiny"))


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Processes whose parent it is, but for those that help it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if parent == process.pid and "spawn_main" in command:
            found.append(int(path.parent.name))
    return found


def test_kill_9_at_any_moment_loses_and_changes_nothing(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    """Twenty times, the main process or one of its workers; in between, nothing that is done is done again."""
    text = TINY.replace(", mnist_rows = 1", "").replace("digits_rows = 6", "digits_rows = 300")
    tiny.write_text(text.replace("test_seeds = 2", "test_seeds = 12"))
    chance, folder = random.Random(0), tmp_path / "results" / "tiny"
    kills, done = 0, dict[str, bytes]()
    while kills < 20:
        process = run(tiny, tmp_path / "results", "--workers", "2", "--stack", "2")
        while process.poll() is None and kills < 20:
            time.sleep(chance.uniform(0.3, 3.0))
            workers = workers_of(process)
            victim = chance.choice([process.pid, *workers, *workers])
            if process.poll() is None:
                os.kill(victim, signal.SIGKILL)
                kills += 1
            if victim == process.pid:
                break
        if process.poll() is None:
            process.kill()
        process.communicate()
        now = contents(folder)
        assert {name: now.get(name) for name in done} == done
        done = now
        if len(done) == 28:
            assert kills > 5
            break
    assert bench("run", tiny, "--results", tmp_path / "results").returncode == 0
    assert bench("run", tiny, "--results", tmp_path / "undisturbed").returncode == 0
    assert {name: contents(folder)[name] for name in done} == done
    pd.testing.assert_frame_equal(outcomes(folder), outcomes(tmp_path / "undisturbed" / "tiny"))


def test_two_at_a_time_in_one_folder(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    text = TINY.replace(", mnist_rows = 1", "").replace("digits_rows = 6", "digits_rows = 100")
    tiny.write_text(text.replace("test_seeds = 2", "test_seeds = 6"))
    logs = [tmp_path / "one", tmp_path / "other"]
    options = ("--workers", "1", "--stack", "1", "--log-json")
    both = [run(tiny, tmp_path / "both", *options, str(log)) for log in logs]
    for process in both:
        assert process.wait(timeout=300) == 0
        process.communicate()
    assert bench("run", tiny, "--results", tmp_path / "alone").returncode == 0
    assert set(contents(tmp_path / "both" / "tiny")) == set(contents(tmp_path / "alone" / "tiny"))
    assert not (tmp_path / "both" / "tiny" / "working").exists()
    events = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
    trained = [{each["key"] for each in own if each["event"] == "done"} for own in events]
    assert len(trained[0] | trained[1]) == 16
    assert len(trained[0] & trained[1]) < 14  # what both had begun at the same time, of so few runs often half
    pd.testing.assert_frame_equal(outcomes(tmp_path / "both" / "tiny"), outcomes(tmp_path / "alone" / "tiny"))


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_a_signal_lets_what_has_begun_end_and_a_second_one_does_not(
    tiny: Path, tmp_path: Path, signals: list[signal.Signals]
) -> None:
    tiny.write_text(TINY.replace("digits_rows = 6, mnist_rows = 1", "digits_rows = 1500"))
    process = run(tiny, tmp_path, "--workers", "1", "--stack", "1")
    records = tmp_path / "tiny" / "records"
    deadline = time.monotonic() + 120
    while not list(records.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # the second run has begun
    before = len(list(records.glob("*.json")))
    start = time.monotonic()
    for each in signals:
        process.send_signal(each)
        time.sleep(0.2)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "stopping when what has begun has ended, 1 run; once more: at once" in errors
    assert errors.splitlines()[-1].startswith("Error: stopped; what finished in a results folder is kept")
    ended = len(list(records.glob("*.json"))) - before
    assert ended == (1 if len(signals) == 1 else 0)
    assert "Traceback" not in errors
    assert len(signals) == 1 or time.monotonic() - start < 3


def test_a_disk_that_is_full_is_told_and_loses_nothing(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    """Of a real limit: no file may be longer than so many bytes."""
    tiny.write_text(TINY.replace(", mnist_rows = 1", ""))
    process = run(
        tiny, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_300, resource.RLIM_INFINITY))
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    line = f"Error: results folder {tmp_path / 'tiny' / 'records'} must be writable: File too large; "
    assert errors.splitlines()[-1].startswith(line)
    assert "Traceback" not in errors
    assert not contents(tmp_path / "tiny")
    assert not list((tmp_path / "tiny" / "records").iterdir())
    assert bench("run", tiny, "--results", tmp_path).returncode == 0


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_record_is_named_and_made_again(
    bench: Bench, tiny: Path, tmp_path: Path, damage: str, compacted: bool
) -> None:
    tiny.write_text(TINY.replace(", mnist_rows = 1", ""))
    assert bench("run", tiny, "--results", tmp_path).returncode == 0
    folder, expected = tmp_path / "tiny", outcomes(tmp_path / "tiny")
    if compacted:
        assert bench("compact", folder).stdout == f"8 records in one file in {folder / 'records'}\n"
        pd.testing.assert_frame_equal(outcomes(folder), expected)
        assert len(list((folder / "records").iterdir())) == 1
    victim = sorted((folder / "records").iterdir())[0]
    content = victim.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    victim.write_bytes(content[:-20] if damage == "truncated" else flipped)
    with pytest.raises(InputError, match="the record cannot be read"):
        Store(folder).load()
    result = bench("run", tiny, "--results", tmp_path)
    assert result.returncode == 0
    assert f"{victim}: the record cannot be read: " in result.stderr
    assert victim.with_name(f"{victim.name}.broken").exists()
    pd.testing.assert_frame_equal(outcomes(folder), expected)


@given(st.data())
@settings(max_examples=200)
def test_no_byte_of_a_record_can_change_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("records")
    record = {"key": "k", "validation": 0.1 + 0.2, "curve": [1.0, float("nan")], "edge": True, "reason": 'a "ü"'}
    write_record(folder / "k.json", record)
    assert repr(read_record(folder / "k.json")) == repr(record)
    table = write_compact(folder, study(lambda *_: 70.0).head(3))
    assert len(read_table(table)) == 3
    for path, read in ((folder / "k.json", read_record), (table, read_table)):
        content = path.read_bytes()
        place = data.draw(st.integers(0, len(content) - 1))
        other = data.draw(st.integers(1, 255))
        path.write_bytes(content[:place] + bytes([content[place] ^ other]) + content[place + 1 :])
        with pytest.raises(BrokenFileError):
            read(path)
        path.write_bytes(content[:place])
        with pytest.raises(BrokenFileError):
            read(path)
