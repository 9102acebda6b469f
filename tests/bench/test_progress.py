"""What a suite tells while it runs: people on a terminal, people who read a file, and machines."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from tests.bench.conftest import ROOT, Bench
from tests.bench.test_faults import FAULTY, PLUGIN

WIDTH = 110


def on_a_terminal(*arguments: str | Path, **variables: str) -> tuple[int, str]:
    """Run the command on a real terminal; return status and what it showed, colours and movements apart."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, WIDTH, 0, 0))
    plain = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}}
    environment = {**plain, "TERM": "xterm-256color", "PATHRNN_OFFLINE": "1", **variables}
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65_536):
            shown += part
    except OSError:  # the terminal has gone with the process
        pass
    os.close(ours)
    return process.wait(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_a_terminal_shows_what_runs_failed_and_came_out(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(FAULTY.replace("digits_rows = 6", "digits_rows = 400"))
    options = ("--results", tmp_path, *PLUGIN, "--workers", "1", "--stack", "1", "--log-json", tmp_path / "events")
    status, shown = on_a_terminal("run", tiny, *options, FAULT="raise")
    assert status == 1
    assert "Traceback" not in shown
    lines = shown.replace("\r", "\n").splitlines()
    assert max(len(line) for line in lines if " running" in line) <= WIDTH
    assert any(re.match(r"tuning [━╸╺ ]+ 2/8 runs, elapsed 0:00:\d\d left ", line) for line in lines)
    last = r"momentum in (weight|path) space on digits_rows, seed 0, rate 0.01: accuracy \[%\] \d"
    states = sorted({line for line in lines if " running" in line})
    assert any(re.match(rf"[01] running, [12] failed; {last}", line) for line in states), states
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    kinds = [each["event"] for each in events]
    assert kinds == ["phase", "done", "failed", "done", "failed", "phase", "end"]
    assert events[0]["runs"] == events[0]["missing"] == 4
    assert [events[1][name] for name in ("name", "space", "lr", "status")] == [
        "digits_rows",
        "weight",
        0.01,
        "finished",
    ]
    assert events[1]["value"] > 0
    assert events[2]["reason"].endswith("RuntimeError: a bug in my code")
    assert events[-1] | {"time": ""} == {"time": "", "event": "end", "stopped": False, "done": 2, "failed": 2}
    assert [each["time"] for each in events] == sorted(each["time"] for each in events)


def test_what_is_no_terminal_gets_lines(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    """Five to a phase, with the time that is left; events go where they are asked for, and are all of that."""
    text = FAULTY.replace("digits_rows = 6", "digits_rows = 400").replace("tuning_seeds = 1", "tuning_seeds = 3")
    tiny.write_text(text.replace('["weight", "path"]', '["path"]'))
    result = bench("run", tiny, "--results", tmp_path, *PLUGIN, "--workers", "1", "--stack", "1", "--log-json", "-")
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("tuning: ")]
    assert len(lines) == 5
    pattern = (
        r"tuning: 4 of 6 runs done, about \d+ s left; momentum in path space on digits_rows, seed \d, rate 0.0?1: "
    )
    assert re.match(pattern, lines[2])
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["event"] for each in events].count("done") == 8


def test_a_log_that_cannot_be_written_stops_nothing(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(FAULTY)
    result = bench("run", tiny, "--results", tmp_path, *PLUGIN, "--log-json", "/dev/full")
    assert result.returncode == 0, result.stderr
    assert "the log of --log-json ends here: No space left on device\n" in result.stderr
    assert len(list((tmp_path / "tiny" / "records").glob("*.json"))) == 8
