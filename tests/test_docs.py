"""The documents keep their word: their tables are those of the records, their figure that of its script."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest

from bench import registry
from bench import suite as suites
from bench.claims import Below, Better, Equal, Holds
from bench.entries import Profile, Rule, SpaceEntry, TaskEntry
from bench.suite import Suite
from tests.bench.conftest import needs_data

ROOT = Path(__file__).parents[1]
SUITES = (ROOT / "docs" / "suites.md").read_text(encoding="utf-8")
REPORTS = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
DEFAULTS = (ROOT / "docs" / "defaults.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "results" / "reference"


def tables(suite: str) -> list[tuple[list[str], list[list[str]]]]:
    """Header and rows of every table that follows a line ``<!-- records: SUITE, VALUE -->``."""
    found = re.findall(rf"<!-- records: {suite}, (\w+) -->\n\n((?:\|.*\|\n)+)", DEFAULTS)
    result = []
    for value, text in found:
        header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
        result.append(([value, *header], rows))
    return result


def means(suite: str, value: str) -> pd.Series:
    """Mean of a value over the test seeds that finished; how many did not stands behind a slash."""
    records = pd.read_parquet(REFERENCE / suite / "records")
    test = records[records["role"] == "test"].copy()
    test["loss"] = [curve[-1] if len(curve) else float("nan") for curve in test["curve_train_loss"]]
    groups = test.groupby(["name", "rule_name", "space"])
    mean, lost = groups[value].mean(), groups["status"].agg(lambda status: (status == "diverged").sum())
    form = {"test": lambda x: f"{x:.1f}" if x >= 1 else f"{x:.3f}", "loss": lambda x: f"{x:.3f}"}[value]
    return pd.Series({
        arm: "diverged" if pd.isna(x) else form(x) + (f" ({lost[arm]} diverged)" if lost[arm] else "")
        for arm, x in mean.items()
    })


@pytest.mark.parametrize("suite", ["defaults", "features", "muon"])
def test_the_tables_of_the_defaults_are_those_of_the_records(suite: str) -> None:
    found = tables(suite)
    assert found
    for (value, _task, _rule, *spaces), rows in found:
        expected = means(suite, value)
        assert len(rows) >= 2
        for task, rule, *cells in rows:
            assert cells == [expected[task.strip("`"), rule, space] for space in spaces], (suite, task, rule)


@pytest.mark.parametrize("suite", ["defaults", "features", "muon"])
def test_the_defaults_say_how_to_repeat_them(suite: str) -> None:
    assert f"python -m bench run suites/{suite}.toml" in DEFAULTS
    assert (ROOT / "suites" / f"{suite}.toml").exists()


def test_the_figure_is_that_of_its_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("reduction_graph", ROOT / "docs" / "reduction_graph.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setitem(mpl.rcParams, "font.size", 9)  # as other figures may leave it
    script.draw(tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (ROOT / "docs" / "reduction_graph.svg").read_bytes()


@pytest.mark.parametrize(
    "document", ["README.md", "docs/theory.md", "docs/defaults.md", "docs/suites.md", "docs/reports.md"]
)
def test_what_a_document_links_to_exists(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#h][^)]*)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_every_statement_is_derived() -> None:
    theory = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    laws = re.findall(r"^(\w+) = \{", (ROOT / "suites" / "theory.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(laws) > 10
    for law in laws:
        assert f"(`{law}`)" in theory, law


def rows_after(comment: str) -> list[list[str]]:
    """Rows of the table that follows a comment in docs/suites.md or docs/reports.md."""
    ((text,),) = [re.findall(rf"<!-- {comment} -->\n\n((?:\|.*\|\n)+)", SUITES + REPORTS)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


@pytest.mark.parametrize("schema", [Suite, SpaceEntry, Rule, TaskEntry, Profile, Holds, Below, Better, Equal])
def test_every_key_of_a_suite_is_documented(schema: type) -> None:
    documented = [key for first, _ in rows_after(f"keys: {schema.__name__}") for key in re.findall(r"`(\w+)`", first)]
    assert sorted(documented) == sorted(schema.model_fields)


def test_the_example_of_a_suite_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", SUITES, flags=re.DOTALL)
    path = tmp_path / "example.toml"
    path.write_text(text)
    (tmp_path / "base.toml").symlink_to(ROOT / "suites" / "base.toml")
    suite = suites.load(path)
    assert len(suite.tuning_runs("embedded", suite.profiles["embedded"].updates)) == 5 * 3 * 2
    assert suite.arm_settings()["path_index", "adam"][1].rates == (0.001, 0.01, 0.1)


def test_every_suite_is_documented() -> None:
    for path in (ROOT / "suites").glob("*.toml"):
        assert f"`{path.stem}`" in SUITES or f"`{path.name}`" in SUITES or f"`suites/{path.name}`" in REPORTS


@pytest.mark.parametrize(
    "name",
    [
        name if name in {"adding", "copying", "digits", "reber"} else pytest.param(name, marks=needs_data)
        for name in sorted(registry.TASKS)
    ],
)
def test_the_table_of_tasks_is_true(name: str) -> None:
    rows = {row[0].strip("`"): row for row in rows_after("tasks")}
    assert set(rows) == set(registry.TASKS)
    task = registry.resolve(registry.TASKS, name)()
    _, _, metric, _, target, _ = rows[name]
    assert ("(up)" in metric) == task.higher_is_better
    if name != "copying":
        assert float(target) == task.target


def test_what_stacks_gain_is_what_was_measured() -> None:
    rows = pd.read_parquet(ROOT / "results" / "reference" / "throughput" / "stacks.parquet")
    own = rows[(rows["grid"] == "rows") & (rows["replicas"] == 8) & (rows["way"] == "stack, weight space")]
    speeds = [f"{speed:.1f}" for speed in own.sort_values("hidden")["speed"]]
    text = " ".join(SUITES.split())
    assert f"train {speeds[0]}, {speeds[1]} and {speeds[2]} times as fast as `nn.RNN`" in text
    assert rows[rows["grid"].str.endswith("_gpu")]["samples"].isna().all() == ("**not measured**" in text)
