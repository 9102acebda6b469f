"""Runs to records: the same wherever and however they are made, and every run made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench import suite as suites
from bench.store import Store
from bench.tuning import choose, grow
from tests.bench.conftest import ROOT, TIMINGS, TINY, Bench

ARMS = """
[spaces.weight]
[spaces.path]
[spaces.gauge]
[spaces.path_sgd]
rules = ["sgd"]
[spaces.gru]
space = "weight"
model = "gru"
rules = ["momentum", "sgd"]
[rules.sgd]
optimizer = "SGD"
rates = [0.01, 0.1]
[rules.muon]
optimizer = "Muon"
rates = [0.01, 0.1]
[tasks.reber]
task = "reber"
hidden = 8
"""


def small(text: str = TINY) -> str:
    """The tiny suite without the task that needs data."""
    return text.replace(", mnist_rows = 1", "")


def records(folder: Path) -> pd.DataFrame:
    return Store(folder).load().drop(columns=TIMINGS)


def made(bench: Bench, suite: Path, results: Path, *options: str) -> pd.DataFrame:
    result = bench("run", suite, "--results", results, *options)
    assert result.returncode == 0, result.stderr
    return records(results / suite.stem)


def test_two_folders_and_any_number_of_workers_give_the_same_records(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    text = small().replace('spaces = ["weight", "path"]\n', "") + ARMS
    tiny.write_text(text.replace("digits_rows = 6", "digits_rows = 6, reber = 6"))
    one = made(bench, tiny, tmp_path / "one", "--workers", "1")
    two = made(bench, tiny, tmp_path / "two", "--workers", "2")
    assert {"gru", "path_sgd", "gauge"} < set(one["space"])
    assert set(one["role"]) == {"tuning", "test"}
    pd.testing.assert_frame_equal(one, two)


def test_a_grid_grows_where_the_best_rate_is_at_its_edge(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    """At rates that are too small, in so few updates, the larger is the better."""
    text = small().replace("[0.01, 0.1]", "[0.001, 0.003]").replace('["weight", "path"]', '["path"]')
    tiny.write_text(text.replace("digits_rows = 6", "digits_rows = 300").replace("growth = 0", "growth = 2"))
    frame = made(bench, tiny, tmp_path / "results")
    tuning, test = frame[frame["role"] == "tuning"], frame[frame["role"] == "test"]
    assert dict(zip(tuning["lr"], tuning["grown"], strict=True)) == {0.001: 0, 0.003: 0, 0.009: 1, 0.027: 2}
    best = tuning.loc[tuning["validation"].idxmax(), "lr"]
    assert test[["lr", "edge", "grown"]].to_numpy().tolist() == [[best, best == 0.027, 2]] * 2
    tiny.write_text(tiny.read_text().replace("growth = 2", "growth = 0"))
    kept = made(bench, tiny, tmp_path / "results")
    flags = kept[(kept["lr"] == 0.003) & (kept["role"] == "test")]
    assert flags[["edge", "grown"]].to_numpy().tolist() == [[True, 0]] * 2


def test_a_run_that_another_suite_of_the_study_made_is_not_made_again(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(small())
    first = made(bench, tiny, tmp_path / "results")
    other = tiny.with_name("other.toml")
    other.write_text(
        'extends = "tiny.toml"\nstudy = "tiny"\n[tasks.wide]\nlike = "digits_rows"\nrescale = 2.0\n'
        'tuned_on = "digits_rows"\n[profiles.embedded.updates]\nwide = 6\n'
    )
    second = made(bench, other, tmp_path / "results")
    shared = second[second["name"] == "digits_rows"].reset_index(drop=True)
    labels = ["suite", "specification"]
    pd.testing.assert_frame_equal(first.drop(columns=labels), shared.drop(columns=labels))
    seconds = [Store(tmp_path / "results" / name).load().set_index("key")["seconds"] for name in ("tiny", "other")]
    assert (seconds[0] == seconds[1][seconds[0].index]).all()
    wide = second[second["name"] == "wide"]
    assert set(shared["suite"]) == {"other"}
    assert set(wide["role"]) == {"test"}
    rates = shared[shared["role"] == "test"].groupby("space")["lr"].first()
    assert (wide["lr"] == rates[wide["space"]].to_numpy()).all()
    assert set(wide["key"]).isdisjoint(shared["key"])


def test_torch_is_not_imported_where_nothing_is_left_to_do(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    """Which takes longer than all else."""
    tiny.write_text(small())
    made(bench, tiny, tmp_path)
    code = "import sys; from bench.cli import main; main(standalone_mode=False); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "run", str(tiny), "--results", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "False\n"


def test_a_report_shows_what_the_suite_asks_for_now(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    """Records of a suite that was edited stay, but are no longer its own."""
    tiny.write_text(small())
    made(bench, tiny, tmp_path / "results")
    edited = small().replace("hidden = 8", "hidden = 4").replace("[0.01, 0.1]", "[0.003, 0.03]")
    tiny.write_text(edited.replace('["weight", "path"]', '["weight"]'))
    frame = made(bench, tiny, tmp_path / "results")
    assert len(list((tmp_path / "results" / "tiny" / "records").glob("*.json"))) == 8 + 4
    assert set(frame["lr"]) == {0.003, 0.03}
    pd.testing.assert_frame_equal(frame, made(bench, tiny, tmp_path / "fresh"))


def test_profiles_share_records_and_keep_their_own_runs(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    more = "[profiles.more]\ntuning_seeds = 2\ntest_seeds = 1\nevaluations = 2\nupdates = { digits_rows = 6 }\n"
    tiny.write_text(small() + more)
    first = made(bench, tiny, tmp_path / "results")
    both = made(bench, tiny, tmp_path / "results", "--profile", "more")
    pd.testing.assert_frame_equal(both[both["profile"] == "embedded"].reset_index(drop=True), first)
    assert (both["profile"] == "more").sum() == 2 * 2 * 2 + 2
    assert bench("report", tmp_path / "results" / "tiny", "--profile", "more").returncode == 0


def test_a_task_that_is_run_alone_leaves_the_others_in_the_report(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    text = small().replace("digits_rows = 6", "digits_rows = 6, wide = 6")
    tiny.write_text(text + '[tasks.wide]\nlike = "digits_rows"\nhidden = 9\n')
    both = made(bench, tiny, tmp_path / "results")
    assert set(both["name"]) == {"digits_rows", "wide"}
    pd.testing.assert_frame_equal(made(bench, tiny, tmp_path / "results", "--task", "wide"), both)
    tiny.write_text(small())
    assert set(made(bench, tiny, tmp_path / "results")["name"]) == {"digits_rows"}


def test_a_grid_does_not_grow_without_a_neighbour_or_inside(tiny: Path) -> None:
    tiny.write_text(small().replace('["weight", "path"]', '["weight"]').replace("[0.01, 0.1]", "[0.01, 0.1, 1.0]"))
    runs = suites.load(tiny).tuning_runs("embedded", ["digits_rows"])

    def planted(*scores: float) -> pd.DataFrame:
        rows = [
            {
                "name": run.name,
                "space": run.space_name,
                "rule_name": run.rule_name,
                "role": run.role,
                "lr": run.lr,
                "grown": run.grown,
                "status": "finished",
                "higher_is_better": True,
                "validation": score,
            }
            for run, score in zip(runs, scores, strict=True)
        ]
        return pd.DataFrame(rows)

    assert grow(runs, planted(1, 2, 1), 2) == []
    assert [(run.lr, run.grown) for run in grow(runs, planted(1, 2, 3), 2)] == [(10.0, 1)]
    assert [(run.lr, run.grown) for run in grow(runs, planted(3, 2, 1), 2)] == [(0.001, 1)]
    assert grow(runs, planted(1, 2, 3), 0) == []
    assert grow(runs[:1], planted(1, 2, 3)[:1], 2) == []
    assert choose(planted(1, 2, 1)) == {("digits_rows", "weight", "momentum"): (0.1, False, 0)}


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_mean_wins_and_divergence_ranks_worst(higher: bool) -> None:
    rows = [
        {"lr": lr, "validation": value, "status": "finished" if value else "diverged"}
        for lr, values in {0.1: (50, 52), 0.2: (60, 56), 0.4: (99, 0) if higher else (1, 0)}.items()
        for value in values
    ]
    same = {"name": "digits", "space": "path", "rule_name": "sgd", "role": "tuning", "grown": 0}
    frame = pd.DataFrame(rows).assign(**same, higher_is_better=higher)
    assert choose(frame) == {("digits", "path", "sgd"): (0.2 if higher else 0.1, not higher, 0)}
