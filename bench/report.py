"""Reports, computed from the records alone: a page, Markdown and figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from bench import cells, figures, profiles
from bench.claims import Claims, Finding, judge
from bench.drawing import Figure, metrics, space_colors
from bench.errors import InputError
from bench.evidence import Evidence
from bench.files import writing
from bench.findings import FINDINGS, SCALING, TIMINGS, read_findings
from bench.schema import merged
from bench.store import Store
from bench.summary import BASE, Row, at_best_rate, missing, names, of_profile, sweep, table
from bench.svg import file
from bench.tables import markdown

SUITES = Path(__file__).parents[1] / "suites"
_TEST_AT = {"end": "with the weights at the end", "best": "at the best validation point"}


def write(store: Store, profile: str | None, claims: Claims) -> tuple[list[Row], dict[str, Finding]]:
    """Write ``report.html``, ``report.md`` and ``figures/`` beside the records.

    Args:
        store: the records.
        profile: whose records to report; None where there is only one.
        claims: those that are about the suite are judged.

    Returns:
        What the tables show, a row per task, rule and space; and what was found of the claims.

    Raises:
        InputError: no records, several profiles and none chosen, no test runs yet, or a folder that is not writable.
    """
    records = of_profile(store, profile)
    test = at_best_rate(records)
    rows, summary = table(test), sweep(records)
    suite, name = str(records["suite"].iloc[0]), str(records["profile"].iloc[0])
    evidence = Evidence(store.folder.parent, name, {store.folder.name: test})
    findings = judge(claims, evidence, [store.folder.name])
    colors = space_colors(records["space"])
    drawn = [each for each in _figures(records, test, rows, summary) if each.panels]
    context = {
        "title": f"{suite}, {name}",
        "suite": suite,
        "profile": name,
        "runs": len(records),
        "lost": int((records["status"] == "diverged").sum()),
        "claims": [(claims.claims[key], finding) for key, finding in findings.items()],
        "missing": [*store.omissions(), *missing(records, test)],
        "reading": _reading(records, test),
        "spaces": colors,
        "rules": names(rows, "rule"),
        "sections": cells.sections(rows, test),
        "figures": drawn,
        "sweep": cells.sweep_cells(summary),
        "rates": len(summary),
        "diverged": cells.diverged_cells(records),
        "published": cells.published_cells(rows, test, _published(suite, names(rows, "task"))),
        "columns": {
            "results": cells.RESULTS,
            "sweep": cells.SWEEP,
            "diverged": cells.DIVERGED,
            "published": cells.PUBLISHED,
        },
        "environments": _environments(records["environment"]),
        "commands": _commands(records, suite, name),
    }
    drawings = {each.name: file(each.panels, each.abreast, colors, each.note) for each in drawn}
    _render(store.folder, "report", context, drawings)
    return rows, findings


def write_all(root: Path, profile: str | None, claims: Claims) -> dict[str, Finding]:
    """Write the report of every suite in a folder of results, and one of all verdicts.

    Args:
        root: the folder, with a folder per suite.
        profile: whose records to report, in folders that hold several.
        claims: all of them are judged.

    Returns:
        What was found of the claims.

    Raises:
        InputError: there are no records, or a report cannot be written.
    """
    stores = [Store(path.parent) for path in sorted(root.glob("*/records"))]
    if not stores:
        raise InputError(f"{root} holds no records; make some with python -m bench run SUITE")
    for store in stores:
        write(store, profile, claims)
    findings = judge(claims, Evidence(root, profile))
    tables = []
    for path, title, make, columns in _MEASURED:
        if (root / path).exists():
            tables.append({"title": title, "columns": columns, "rows": make(read_findings(root / path, ""))})
    context = {
        "title": "pathrnn: the verdicts",
        "claims": [(claims.claims[key], finding) for key, finding in findings.items()],
        "suites": [store.folder.name for store in stores],
        "tables": tables,
    }
    _render(root, "overview", context, {})
    return findings


_MEASURED = (
    (FINDINGS, "Theorems and laws, on random networks", cells.theorem_cells, cells.THEOREMS),
    (TIMINGS, "What a training step costs", cells.timing_cells, cells.TIMINGS),
    (SCALING, "What stacks of replicas gain", cells.stack_cells, cells.STACKS),
)


def _figures(records: pd.DataFrame, test: pd.DataFrame, rows: Sequence[Row], summary: pd.DataFrame) -> Iterable[Figure]:
    kinds = metrics(records)
    yield figures.invariance(test, rows, kinds)
    yield figures.final_metric(test, rows, kinds)
    yield figures.learning_curves(test, kinds)
    yield profiles.performance_profile(test)
    yield profiles.target_profile(test)
    yield figures.learning_rates(summary, kinds)
    yield figures.expected_best(summary, kinds)


def _render(folder: Path, template: str, context: Mapping[str, Any], drawings: Mapping[str, str]) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["md"] = markdown
    with writing(folder):
        if drawings:
            (folder / "figures").mkdir(exist_ok=True)
        for name, svg in drawings.items():
            (folder / "figures" / f"{name}.svg").write_text(svg, encoding="utf-8")
        for kind in ("html", "md"):
            text = environment.get_template(f"{template}.{kind}").render(context)
            (folder / f"report.{kind}").write_text(text, encoding="utf-8")


def _reading(records: pd.DataFrame, test: pd.DataFrame) -> list[str]:
    """Say how the tables are to be read."""
    test_at, grown = json.loads(test["specification"].iloc[0])["test_at"], int(records["grown"].max())
    rates = f", and up to {grown} more where the best lay at the edge of its grid (grown)" if grown else ""
    return [
        f"Every arm tried the same number of learning rates{rates}; its rate has the best mean validation metric over "
        "tuning seeds (edge: it is the smallest or largest that was tried, so the arm may be able to do better).",
        "Tables show test seeds alone, which are other seeds; test data were used once, "
        f"{_TEST_AT[test_at]} of each run.",
        "Test metric: interquartile mean over seeds, a run that diverged ranked worst, with its 95 % bootstrap "
        "interval.",
        f"Gain: mean difference to {BASE} space under the same rule, seed by seed, with its 95 % BCa interval; "
        "positive is better, whatever the direction of the metric, and infinite where one of the two diverged.",
        f"Beats {BASE}: share of those seeds, a tie counting half, with Wilson's 95 % interval.",
        "p: two-sided sign-flip test of the gain; corrected by Holm's method over the tasks of an arm.",
        "To target: seeds whose validation metric met the target of the task, and the median of when, misses kept as "
        "infinite; seconds are those of training, as the runs shared the machine.",
    ]


def _published(suite: str, tasks: Sequence[str]) -> dict[str, Any]:
    """Look up the numbers from the literature that the suite, or the published suite, names for tasks."""
    paths = [path for path in (SUITES / f"{suite}.toml", SUITES / "published.toml") if path.is_file()]
    result: dict[str, Any] = {}
    for entries in (merged(path).get("tasks", {}) for path in reversed(paths)):
        result |= {task: entries[task]["published"] for task in tasks if entries.get(task, {}).get("published")}
    return result


def _environments(texts: pd.Series[Any]) -> list[str]:
    lines = []
    for text, count in texts.value_counts().sort_index().items():
        described = ", ".join(f"{key} {value}" for key, value in json.loads(str(text)).items() if value != "")
        lines.append(f"{count} runs: {described or 'not recorded'}")
    return lines


def _commands(records: pd.DataFrame, suite: str, profile: str) -> list[str]:
    commits = {json.loads(text).get("commit", "") for text in records["environment"].unique()} - {""}
    checkout = [f"git checkout {commit}" for commit in commits] if len(commits) == 1 else []
    run = f"python -m bench run suites/{suite}.toml --profile {profile}"
    report = f"python -m bench report results/local/{suite} --profile {profile}"
    return [*checkout, run, report, "python -m bench verify FOLDER    # some of these records alone"]
