"""The README keeps its word: its example runs as printed, its commands are those of noxfile and CI."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
from scipy.stats import trim_mean

from bench.claims import Claims, judge
from bench.evidence import Evidence
from bench.schema import read

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


def middle(values: pd.Series) -> float:
    """Interquartile mean."""
    return float(trim_mean(values.dropna(), 0.25))


def metric_of(suite: str) -> pd.DataFrame:
    """Test metric by task, rule, index (rows) and space (columns)."""
    records = pd.read_parquet(ROOT / "results/reference" / suite / "records")
    rows = records[records["role"] == "test"]
    return rows.pivot_table(index=["name", "rule_name", "index"], columns="space", values="test")


def rows_after(suite: str) -> list[list[str]]:
    (text,) = re.findall(rf"<!-- records: {suite} -->\n\n((?:\|.*\|\n)+)", README)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def test_the_results_are_those_of_the_records() -> None:
    test, rows = metric_of("accuracy"), rows_after("accuracy")
    records = pd.read_parquet(ROOT / "results/reference/accuracy/records")
    edges = records[records["role"] == "test"].groupby(["name", "rule_name", "space"])["edge"].any()
    assert len(rows) == 3
    for first, *cells in rows:
        name = first.split("`")[1]
        for rule, cell in zip(("momentum", "adam", "muon"), cells, strict=True):
            arm = test.loc[name, rule]
            sign, form = (-1, ".3f") if name == "adding" else (1, ".1f")
            wins = {space: (sign * arm[space] > sign * arm["weight"]).sum() for space in ("path", "gauge")}
            star = {space: r"\*" if edges.loc[name, rule, space] else "" for space in wins}
            others = [f"{middle(arm[space]):{form}}{star[space]} ({count})" for space, count in wins.items()]
            assert cell == ", ".join([f"{middle(arm['weight']):{form}}", *others]), (name, rule)


def test_the_reference_networks_are_those_of_the_records() -> None:
    test = metric_of("accuracy").xs("adam", level="rule_name")
    text = " ".join(README.split())
    for space, name in (("gru", "a GRU"), ("lstm", "an LSTM"), ("tanh", "a tanh RNN")):
        digits, reber, adding = (middle(test.loc[task, space]) for task in ("digits_rows", "reber", "adding"))
        (start,) = re.findall(rf"{name}[^%]*? (\S+) %, (\S+) % and (\d\.\d{{3}})", text)
        assert start == (f"{digits:.1f}", f"{reber:.1f}", f"{adding:.3f}")


def test_the_cost_of_an_unbalanced_start_is_that_of_the_records() -> None:
    test, rows = metric_of("invariance"), rows_after("invariance")
    assert len(rows) == 6
    losses = {}
    for first, *cells in rows:
        task, rule = re.match(r"`(\w+)`, (\w+)", first).groups()
        names = [task, *(f"{task}_sigma_{sigma}" for sigma in (0.5, 1.0, 2.0))]
        means = [test.loc[name, rule].apply(middle) for name in names]
        assert cells == [", ".join(f"{mean[space]:.1f}" for space in ("weight", "path", "gauge")) for mean in means]
        losses[task, rule] = round(means[0]["weight"] - means[-1]["weight"])
    text = " ".join(README.split())
    ((least, most, reber),) = re.findall(
        r"with (\d+) to (\d+) points of accuracy on digits where sigma is 2, with (\d+) points on Reber", text
    )
    digits = [loss for (task, _), loss in losses.items() if task == "digits_rows"]
    assert (min(digits), max(digits), losses["reber", "momentum"]) == (int(least), int(most), int(reber))


def test_the_verdicts_are_those_of_the_records() -> None:
    claims = read(ROOT / "suites" / "claims.toml", Claims)
    findings = judge(claims, Evidence(ROOT / "results" / "reference", "embedded"))
    (text,) = re.findall(r"<!-- claims -->\n\n((?:\|.*\|\n)+)", README)
    rows = [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    expected = [(finding.verdict, claims.claims[name].text, finding.numbers) for name, finding in findings.items()]
    assert [(verdict, claim.rpartition(" (")[0], numbers) for verdict, claim, numbers in rows] == expected


def test_the_counts_of_seeds_are_those_of_the_records() -> None:
    test = metric_of("accuracy")[["weight", "path"]].dropna()
    sign = test.index.get_level_values("name").map(lambda name: -1 if name == "adding" else 1)
    better = sign * (test["path"] - test["weight"])
    text = " ".join(README.split())
    counts = f"{(better > 0).sum()} of {len(better)} pairs of seeds, worse in {(better < 0).sum()} and equal in"
    assert f"{counts} {(better == 0).sum()}" in text


def test_the_training_losses_are_those_of_the_records() -> None:
    records = pd.read_parquet(ROOT / "results/reference/muon/records")
    test = records[records["role"] == "test"]
    loss = test["curve_train_loss"].str[-1].groupby([test["name"], test["rule_name"], test["space"]]).mean()
    for start, name in (("default init", "mnist_rows"), ("rescaled", "mnist_rows_rescaled")):
        (cells,) = re.findall(rf"^\| {start} \|([^|]*)\|([^|]*)\|$", README, flags=re.MULTILINE)
        for rule, cell in zip(("adam", "muon"), cells, strict=True):
            assert cell.strip() == f"{loss[name, rule, 'weight']:.3f}, {loss[name, rule, 'path']:.3f}"


def test_the_budget_of_the_package() -> None:
    """The method and, apart from it, the recurrence with its kernels."""
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "pathrnn").glob("*.py")}
    recurrence = {name: lengths.pop(name) for name in ("kernels.py", "scan.py")}
    assert sum(lengths.values()) < 1240
    assert sum(recurrence.values()) < 300
    assert max(lengths.values()) < 300
