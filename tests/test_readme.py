"""The README keeps its word: its example runs as printed, its commands are those of noxfile and CI."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_drop_in_example_runs_and_is_short() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"loss \d+\.\d{3}\n", result.stdout)


def test_the_commands_exist() -> None:
    sessions = set(re.findall(r"^def (\w+)\(session: nox\.Session\)", (ROOT / "noxfile.py").read_text(), flags=re.M))
    promised = set(re.findall(r"nox -s (\w+)", README))
    assert {"reproduce", "tests"} <= promised <= sessions
    assert "nox -s tests" in (ROOT / ".ci" / "run").read_text()


def test_files_that_the_readme_shows_exist() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / target).exists(), target


def test_the_results_are_those_of_the_records() -> None:
    records = pd.read_parquet(ROOT / "results/reference/accuracy/records")
    test = records[records["role"] == "test"].set_index(["name", "rule_name", "space", "index"])
    rows = re.findall(r"^\| `(\w+)`[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|$", README, flags=re.MULTILINE)
    assert {name for name, *_ in rows} == set(records["name"])
    for name, *cells in rows:
        for rule, cell in zip(("sgd", "momentum", "adam"), cells, strict=True):
            weight, path = (test.loc[name, rule, space]["test"] for space in ("weight", "path"))
            higher = test.loc[name, rule]["higher_is_better"].all()
            wins = (((path > weight) if higher else (path < weight)) | (weight.isna() & path.notna())).sum()
            form = ".1f" if higher else ".3f"
            assert cell.strip() == f"{weight.mean():{form}}, {path.mean():{form}} ({wins} of {len(path)})", (name, rule)


def test_the_training_losses_are_those_of_the_records() -> None:
    records = pd.read_parquet(ROOT / "results/reference/muon/records")
    test = records[records["role"] == "test"]
    loss = test["curve_train_loss"].str[-1].groupby([test["name"], test["rule_name"], test["space"]]).mean()
    for start, name in (("default init", "mnist_rows"), ("rescaled", "mnist_rows_rescaled")):
        (cells,) = re.findall(rf"^\| {start} \|([^|]*)\|([^|]*)\|$", README, flags=re.MULTILINE)
        for rule, cell in zip(("adam", "muon"), cells, strict=True):
            assert cell.strip() == f"{loss[name, rule, 'weight']:.3f}, {loss[name, rule, 'path']:.3f}"


def test_the_budget_of_the_package() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "pathrnn").glob("*.py")}
    assert sum(lengths.values()) < 1200
    assert max(lengths.values()) < 300
