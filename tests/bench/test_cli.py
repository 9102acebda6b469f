"""The command line as a user meets it: real processes, real files."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.errors import InputError
from bench.files import read_record
from bench.registry import TABLES, register
from bench.store import Store
from tests.bench.conftest import ROOT, TIMINGS, TINY, Bench, needs_data


def refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Exit status 2, one line, no traceback, and everything named that must be."""
    lines = [line for line in result.stderr.splitlines() if not re.match(r"\w+ skipped: ", line)]
    assert (result.returncode, len(lines), result.stdout) == (2, 1, ""), result.stderr
    assert lines[0].startswith("Error: ")
    for part in parts:
        assert part in lines[0]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def timeless(path: Path) -> dict[str, Any]:
    return {name: value for name, value in read_record(path).items() if name not in TIMINGS}


def test_run_resume_and_report(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    first = bench("run", tiny, "--results", results, "--workers", "2")
    assert first.returncode == 0, first.stderr
    assert "mnist_rows skipped: mnist/train-images-idx3-ubyte" in first.stderr
    records = results / "tiny" / "records"
    before = snapshot(records)
    assert len(before) == 8
    victim = sorted(records.iterdir())[0]
    kept = timeless(victim)
    victim.unlink()
    again = bench("run", tiny, "--results", results)
    assert again.returncode == 0, again.stderr
    after = snapshot(records)
    assert {name for name in before if before[name] != after[name]} <= {victim.name}
    assert timeless(victim) == kept

    reported = bench("report", results / "tiny")
    assert reported.returncode == 0, reported.stderr
    assert "digits_rows" in reported.stdout
    assert str(results / "tiny" / "report.html") in reported.stdout
    files = snapshot(results / "tiny")
    figures = {"final_metric", "learning_curves", "learning_rates", "expected_best"}
    names = {"report.html", "report.md", "figures/performance_profile.svg", "figures/target_profile.svg"}
    shown = {name for name in files if not name.startswith(("records", "index/"))}
    assert names | {f"figures/{name}.svg" for name in figures} == shown
    html = files["report.html"].decode()
    assert len(html) < 3_000_000
    assert not re.search(r'(src|href)="http', html)
    assert bench("report", results / "tiny").returncode == 0
    assert snapshot(results / "tiny") == files


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--profile", "ful"], ["unknown profile 'ful'; the suite has embedded"]),
        (["--task", "digits"], ["unknown task 'digits'; the suite has digits_rows, mnist_rows"]),
        (["--task", "mnist_rows"], ["none of the tasks can run on this machine"]),
    ],
)
def test_bad_arguments(bench: Bench, tiny: Path, tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    refused(bench("run", tiny, "--results", tmp_path, *arguments), *parts)


def test_bad_suites(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(TINY.replace("hidden", "hiden"))
    refused(bench("run", tiny, "--results", tmp_path), str(tiny), "tasks.digits_rows", "unknown key 'hiden'", "hidden")
    tiny.write_text(TINY.replace('task = "digits"', 'task = "digitz"'))
    refused(bench("run", tiny, "--results", tmp_path), str(tiny), "unknown task 'digitz'; known are adding, characters")
    tiny.write_text(TINY.replace("steps = 8", "stps = 8"))
    refused(
        bench("run", tiny, "--results", tmp_path),
        "suite tiny, tasks.digits_rows: unknown option 'stps'; task digits has steps, copies",
    )


def test_corrupted_data_stop_a_run_before_it_starts_and_lose_nothing(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    assert bench("run", tiny, "--results", tmp_path / "results").returncode == 0
    before = snapshot(tmp_path / "results")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(b"almost MNIST"))
    result = bench("run", tiny, "--results", tmp_path / "results", data=tmp_path)
    refused(result, str(path), "must hold 47,040,016 bytes with SHA-256 ba891046", ", got 12 bytes with")
    assert snapshot(tmp_path / "results") == before


def test_a_setting_that_the_optimizer_refuses(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(TINY.replace("momentum = 0.9", "momentum = -0.9"))
    result = bench("run", tiny, "--results", tmp_path, "--workers", "1")
    refused(result, "rule momentum in weight space on digits_rows (init default): Invalid momentum value: -0.9")


def test_a_plan_says_what_would_run_and_changes_nothing(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    tiny.write_text(TINY.replace("digits_rows = 6", "digits_rows = 300").replace(", mnist_rows = 1", ""))
    before = bench("plan", tiny, "--results", results)
    assert before.returncode == 0, before.stderr
    rows = [line.split() for line in before.stdout.splitlines() if line.startswith(" digits_rows")]
    assert rows == [
        ["digits_rows", "momentum", space, "0.01,", "0.1", "2", "2", "0", "?"] for space in ("weight", "path")
    ]
    assert "2 arms on tasks: 4 tuning runs, 4 test runs, 0 of them done." in before.stdout
    assert "The time is unknown" in before.stdout
    assert not results.exists()
    assert bench("run", tiny, "--results", results).returncode == 0
    files = snapshot(results)
    after = bench("plan", tiny, "--results", results, "--workers", "1")
    rows = [line.split() for line in after.stdout.splitlines() if line.startswith(" digits_rows")]
    assert [row[-2:] for row in rows] == [["4", "0.0"]] * 2
    assert "8 of them done.\nWhat is left takes about 0 minutes with 1 worker." in after.stdout
    assert snapshot(results) == files
    records = Store(results / "tiny").load()
    tiny.write_text(tiny.read_text().replace("test_seeds = 2", "test_seeds = 1000"))
    longer = bench("plan", tiny, "--results", results, "--workers", "1")
    rows = [line.split() for line in longer.stdout.splitlines() if line.startswith(" digits_rows")]
    assert [int(row[-2]) for row in rows] == [4, 4]
    assert [float(row[-1]) for row in rows] == pytest.approx([998 * records["seconds"].median() / 60] * 2, rel=0.1)


def test_everything_that_a_suite_may_name_is_listed(bench: Bench) -> None:
    for kind, table in TABLES.items():
        result = bench("list", f"{kind}s")
        assert result.returncode == 0, result.stderr
        names = [line.split()[0] for line in result.stdout.splitlines()[3:] if line.startswith(" ") and line[1] != " "]
        assert set(table) == set(names), result.stdout
    result = bench("list", "suites")
    training = ("accuracy", "convergence", "invariance", "ablation", "published", "smoke")
    for path in (*training, "theory", "throughput", "stacks"):
        assert f" suites/{path}.toml " in result.stdout
    assert "base.toml" not in result.stdout


def test_a_plug_in_adds_an_optimizer_and_a_task(bench: Bench, tmp_path: Path) -> None:
    """Only where the command line names it: a suite alone imports nothing."""
    suite = ROOT / "examples" / "plugin.toml"
    refused(bench("run", suite, "--results", tmp_path), str(suite), "unknown optimizer 'Lion'; known are Adam, AdamW")
    refused(
        bench("run", suite, "--plugin", "examples.none"), "plug-in examples.none cannot be imported: ModuleNotFound"
    )
    result = bench("run", suite, "--plugin", "examples.plugin", "--results", tmp_path)
    assert result.returncode == 0, result.stderr
    records = Store(tmp_path / "plugin").load()
    test = records[records["role"] == "test"]
    assert set(test["space"]) == {"weight", "path"}
    assert (test["status"] == "finished").all()
    assert (test["test"] > 90).all()  # it learns
    assert '"plugins": "examples.plugin"' in test["environment"].iloc[0]
    for command in (["report", tmp_path / "plugin"], ["plan", "suites/accuracy.toml", "--results", tmp_path]):
        assert bench(*command).returncode == 0  # neither needs the plug-in
    listed = bench("list", "optimizers", "--plugin", "examples.plugin").stdout
    assert " Lion " in listed


def test_an_installed_package_may_declare_a_plug_in(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_plugin.py").write_text(
        'from bench.registry import register\nregister("optimizer", "Theirs", "torch.optim:NAdam")\n'
    )
    folder = tmp_path / "theirs-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[pathrnn.bench]\ntheirs = their_plugin\n")
    assert " Theirs " not in bench("list", "optimizers").stdout
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert " Theirs " in bench("list", "optimizers").stdout
    (tmp_path / "their_plugin.py").write_text("import nothing_of_the_kind\n")
    refused(bench("list", "optimizers"), "plug-in their_plugin cannot be imported: ModuleNotFoundError")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rule", "x", "a:b"), "kind must be one of task, model, init, space, optimizer, got 'rule'"),
        (("task", "x", "a.b"), "the target of task 'x' must be package.module:attribute, got 'a.b'"),
        (
            ("task", "digits", "a:b"),
            "task 'digits' is taken by bench.tasks.digits:digits; choose another name for a:b",
        ),
    ],
)
def test_names_that_a_plug_in_must_not_register(arguments: tuple[str, str, str], message: str) -> None:
    with pytest.raises(InputError, match="^" + re.escape(message) + "$"):
        register(*arguments)


@pytest.mark.parametrize("data", [None, pytest.param(os.environ.get("PATHRNN_DATA"), marks=needs_data)])
def test_the_smoke_suite_runs(bench: Bench, tmp_path: Path, data: str | None) -> None:
    result = bench("run", ROOT / "suites" / "smoke.toml", "--results", tmp_path, data=data)
    assert result.returncode == 0, result.stderr
    records = Store(tmp_path / "smoke").load()
    tasks = {"adding", "copying", "digits_rows", "reber"}
    if data is not None:
        tasks |= {"characters", "jsb_chorales", "mnist_rows"}
    assert set(records["name"]) == tasks
    assert (records.groupby("name").size() == 2 * 11).all()
    assert (records["status"] == "finished").all()


def test_ctrl_c_keeps_what_is_finished(
    tiny: Path, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PATHRNN_DATA", raising=False)
    monkeypatch.setenv("PATHRNN_OFFLINE", "1")
    records = tmp_path / "results" / "tiny" / "records"
    tiny.write_text(TINY.replace("digits_rows = 6,", "digits_rows = 200,"))
    one_by_one = ("--workers", "1", "--stack", "1")
    command = [sys.executable, "-m", "bench", "run", tiny, "--results", tmp_path / "results", *one_by_one]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background may ignore it
    )
    deadline = time.monotonic() + 120
    while not list(records.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert (
        errors.splitlines()[-1]
        == "Error: stopped; what finished in a results folder is kept, run the same command to go on"
    )
    assert "Traceback" not in errors
    kept = snapshot(records)
    assert 0 < len(kept) < 4  # the run that ended and the one that had begun, not all that wait
    assert bench("run", tiny, "--results", tmp_path / "results").returncode == 0
    after = snapshot(records)
    assert len(after) == 8
    assert all(after[name] == content for name, content in kept.items())


def test_an_unwritable_results_folder(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = bench("run", tiny, "--results", tmp_path / "file")
    refused(result, f"results folder {tmp_path / 'file' / 'tiny'} must be writable: Not a directory", "--results")


def test_reports_without_records_or_with_a_broken_one(bench: Bench, tmp_path: Path) -> None:
    refused(bench("report", tmp_path), f"{tmp_path} holds no records")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "0.parquet").write_bytes(b"torn")
    refused(bench("report", tmp_path), str(tmp_path / "records" / "0.parquet"), "the record cannot be read")


def test_help_teaches_without_importing_torch() -> None:
    code = (
        "import sys, click.testing, bench.cli as cli\n"
        "for command in ([], ['run'], ['report'], ['plan'], ['list'], ['data', 'check'], ['theory']):\n"
        "    result = click.testing.CliRunner().invoke(cli.main, [*command, '--help'])\n"
        "    assert result.exit_code == 0 and 'python -m bench' in result.output, result.output\n"
        "    assert chr(92) not in result.output, result.output  # markup that click did not take\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_timings_are_printed_and_kept(bench: Bench, tmp_path: Path) -> None:
    suite = tmp_path / "quick.toml"
    suite.write_text(
        'title = "quick"\nrounds = 3\nblock = 1\nthreads = 1\nspaces = ["weight", "path"]\nrules = ["SGD"]\n'
        "[networks]\nsmall = { hidden = 4 }\nlarge = { hidden = 8 }\n"
    )
    refused(bench("throughput", suite, "--network", "huge"), "unknown network 'huge'; the suite has small, large")
    result = bench("throughput", suite, "--network", "small", "--results", tmp_path)
    assert result.returncode == 0, result.stderr
    timings = pd.read_parquet(tmp_path / "throughput" / "timings.parquet")
    assert list(timings["space"]) == ["weight", "path"]
    assert set(timings["network"]) == {"small"}
    assert list(timings["ratios"].iloc[0]) == [1.0, 1.0, 1.0]
    assert timings["extra"].iloc[1] == pd.Series(timings["ratios"].iloc[1]).median() - 1


def test_stacks_are_timed_and_drawn_and_a_gpu_that_is_not_there_is_not_measured(bench: Bench, tmp_path: Path) -> None:
    suite = tmp_path / "quick.toml"
    grid = "steps = 3\nfeatures = 2\nbatch = 4\nhidden = [8]\nreplicas = [1, 3]\n"
    suite.write_text(
        'title = "quick"\nrounds = 3\nspaces = ["weight", "path"]\noptimizers = { hidden = 8, rounds = 2 }\n'
        f'[grids.here]\ndevice = "cpu"\n{grid}[grids.there]\ndevice = "cuda"\n{grid}'
    )
    refused(bench("stacks", suite, "--grid", "huge"), "unknown grid 'huge'; the suite has here, there")
    result = bench("stacks", suite, "--results", tmp_path, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 0, result.stderr
    assert "not measured: torch sees no cuda device" in result.stdout
    assert "Adam fused" in result.stdout
    rows = pd.read_parquet(tmp_path / "throughput" / "stacks.parquet")
    here, there = rows[rows["grid"] == "here"], rows[rows["grid"] == "there"]
    ways = ["nn.RNN, one by one", "stack, weight space", "stack, path space"]
    assert list(here["way"]) == [*ways, *ways, "nn.RNN, in processes"]
    assert (here["samples"] > 0).all()
    assert (here["speed"][here["way"] == ways[0]] == 1.0).all()
    assert there["samples"].isna().all()
    assert "sequences per second" in (tmp_path / "throughput" / "stacks.svg").read_text()
