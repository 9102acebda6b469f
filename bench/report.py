"""Reports of a suite, computed from its records alone: HTML, Markdown, figures, and a table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd

from bench import figures
from bench.convergence import to_target
from bench.errors import InputError
from bench.store import Store
from bench.tables import console, plain_table
from bench.tuning import choose

_ORDER = {
    "space": list(figures.SPACE_COLORS),
    "rule": ["sgd", "momentum", "rmsprop", "adam", "adamw", "muon"],
}


_TEST_AT = {"end": "with the weights at the end", "best": "at the best validation point"}


@dataclass(frozen=True)
class Row:
    """One arm on one task, over its test seeds."""

    task: str
    rule: str
    space: str
    metric: str
    rate: float
    edge: bool
    grown: int
    seeds: int
    diverged: int
    mean: float
    worst: float
    best: float
    loss: float
    target: str
    wins: str

    @property
    def mean_of_finished(self) -> str:
        """The mean, and how many seeds are missing from it because they diverged."""
        return f"{self.mean:.4g}" + (f" ({self.diverged} diverged)" if self.diverged else "")

    @property
    def cells(self) -> list[str]:
        """What the tables show."""
        return [
            self.task,
            self.metric,
            self.rule,
            self.space,
            f"{self.rate:g}{f' (grown {self.grown})' if self.grown else ''}{' (edge)' if self.edge else ''}",
            self.mean_of_finished,
            f"{self.worst:.4g} to {self.best:.4g}",
            f"{self.loss:.4g}",
            self.target,
            str(self.seeds),
            str(self.diverged),
            self.wins,
        ]


COLUMNS = ["task", "metric", "rule", "space", "best rate", "mean", "worst to best"]
COLUMNS += ["training loss", "to target (median)", "seeds", "diverged", "better than weight"]


def write(store: Store, profile: str | None) -> None:
    """Write ``report.html``, ``report.md`` and ``figures/`` beside the records, and print the result table.

    Args:
        store: the records.
        profile: whose records to report; None where there is only one.

    Raises:
        InputError: no records, several profiles and none chosen, or no test runs yet.
    """
    records = _of_profile(store, profile)
    test = _at_best_rate(records)
    rows = table(test)
    tasks, rules = list(dict.fromkeys(r.task for r in rows)), list(dict.fromkeys(r.rule for r in rows))
    finished = test[test["status"] == "finished"]
    shown = [task for task in tasks if task in set(finished["name"])]
    drawings = {}
    if shown:
        drawings["final_metric"] = figures.final_metric(finished, shown, rules)
        drawings["learning_curves"] = figures.learning_curves(finished, shown, rules)
    environments = sorted({_line(text) for text in records["environment"]})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    context = {
        "suite": records["suite"].iloc[0],
        "profile": records["profile"].iloc[0],
        "runs": len(records),
        "grown": int(records["grown"].max()),
        "test_at": _TEST_AT[json.loads(test["specification"].iloc[0])["test_at"]],
        "targets": [f"{name} {value:g}" for name, value in test.groupby("name")["target"].first().items()],
        "columns": COLUMNS,
        "rows": rows,
        "sweep": sweep(records),
        "figures": drawings,
        "diverged": records[records["status"] == "diverged"].to_dict("records"),
        "environments": environments,
    }
    try:
        (store.folder / "figures").mkdir(parents=True, exist_ok=True)
        for name, svg in drawings.items():
            (store.folder / "figures" / f"{name}.svg").write_text(svg, encoding="utf-8")
        for name in ("report.html", "report.md"):
            (store.folder / name).write_text(environment.get_template(name).render(context), encoding="utf-8")
    except OSError as error:
        raise InputError(f"results folder {store.folder} must be writable: {error.strerror}") from None
    _print(rows, store.folder)


def table(test: pd.DataFrame) -> list[Row]:
    """Summarise every arm.

    Args:
        test: the test records of one profile, at the best rates.

    Returns:
        A row per task, rule and space, in the order of the suite.
    """
    rows = []
    for (task, rule, space), arm in test.groupby(["name", "rule_name", "space"], sort=False):
        sign = 1 if arm["higher_is_better"].iloc[0] else -1
        finished, rate = arm.loc[arm["status"] == "finished", "test"], float(arm["lr"].iloc[0])
        rows.append(
            Row(
                task=str(task),
                rule=str(rule),
                space=str(space),
                metric=str(arm["metric"].iloc[0]),
                rate=rate,
                edge=bool(arm["edge"].any()),
                grown=int(arm["grown"].max()),
                seeds=len(arm),
                diverged=int((arm["status"] == "diverged").sum()),
                mean=float(finished.mean()),
                worst=sign * float((sign * finished).min()),
                best=sign * float((sign * finished).max()),
                loss=float(arm.loc[arm["status"] == "finished", "curve_train_loss"].map(last).mean()),
                target=to_target(arm),
                wins=_wins(test, str(task), str(rule), str(space), sign),
            )
        )
    return sorted(rows, key=lambda row: (row.task, _rank("rule", row.rule), _rank("space", row.space)))


def _rank(kind: str, name: str) -> tuple[int, str]:
    known = _ORDER[kind]
    return (known.index(name) if name in known else len(known), name)


def sweep(records: pd.DataFrame) -> list[list[str]]:
    """Summarise the tuning runs.

    Args:
        records: all records of one profile.

    Returns:
        Cells per task, rule, space and rate: means of the validation metric and of the last training loss over the
        runs that finished, and how many did not.
    """
    tuning = records[records["role"] == "tuning"]
    rows = []
    for (task, rule, space, rate), arm in tuning.groupby(["name", "rule_name", "space", "lr"]):
        finished = arm[arm["status"] == "finished"]
        loss = finished["curve_train_loss"].map(last).mean()
        cells = [f"{rate:g}", f"{finished['validation'].mean():.4g}", f"{loss:.4g}", str(len(arm) - len(finished))]
        rows.append([str(task), str(rule), str(space), *cells])
    return sorted(rows, key=lambda r: (r[0], _rank("rule", r[1]), _rank("space", r[2]), float(r[3])))


def last(curve: Sequence[float]) -> float:
    """Take the last value of a curve: the mean since the evaluation before."""
    return float(curve[-1])


def _wins(test: pd.DataFrame, task: str, rule: str, space: str, sign: int) -> str:
    """Count the seeds in which a space is better than weight space; divergence ranks worst."""
    pair = test[(test["name"] == task) & (test["rule_name"] == rule)]
    scores = pair.assign(score=(sign * pair["test"]).fillna(-float("inf")))
    wide = scores.pivot_table(index="index", columns="space", values="score")
    if space == "weight" or not {"weight", space} <= set(wide.columns):
        return ""
    return f"{int((wide[space] > wide['weight']).sum())} of {len(wide)}"


def _of_profile(store: Store, profile: str | None) -> pd.DataFrame:
    records = store.load()
    known = sorted(set(records["profile"]))
    if profile is None and len(known) > 1:
        raise InputError(f"{store.folder} holds several profiles; choose one of {', '.join(known)} with --profile")
    if profile is not None and profile not in known:
        raise InputError(f"unknown profile {profile!r}; {store.folder} holds {', '.join(known)}")
    return records[records["profile"] == (profile or known[0])]


def _at_best_rate(records: pd.DataFrame) -> pd.DataFrame:
    """Keep the test runs of each arm at the rate that its tuning runs chose."""
    rates = {place: choice.rate for place, choice in choose(records).items()}
    test = records[records["role"] == "test"]
    arms = zip(test["tuned_task"], test["tuned_space"], test["rule_name"], test["lr"], strict=True)
    kept = test[[rates.get((task, space, rule)) == lr for task, space, rule, lr in arms]]
    if kept.empty:
        raise InputError("there are no test runs yet; let python -m bench run SUITE finish first")
    return kept


def _line(environment: str) -> str:
    entries = json.loads(environment)
    return ", ".join(f"{key} {value}" for key, value in entries.items() if value != "")


def _print(rows: list[Row], folder: Path) -> None:
    """Print the table narrow enough for a terminal: the spaces of a rule in one line, or in one each if many."""
    spaces = sorted({row.space for row in rows}, key=lambda space: _rank("space", space))
    together = len(spaces) <= 3
    output = plain_table("task", "rule", *(spaces if together else ["space", "mean"]), "diverged")
    cells = {(row.task, row.rule, row.space): _cell(row) for row in rows}
    pairs = list(dict.fromkeys((row.task, row.rule) for row in rows))
    for (task, rule), following in zip(pairs, [*pairs[1:], ("", "")], strict=True):
        own = [row for row in rows if (row.task, row.rule) == (task, rule)]
        if together:
            line = [cells.get((task, rule, space), "") for space in spaces]
            output.add_row(task, rule, *line, str(sum(row.diverged for row in own)))
        else:
            for row in own:
                output.add_row(task, rule, row.space, cells[task, rule, row.space], str(row.diverged))
        output.add_section() if task != following[0] else None
    out = console()
    out.print("Test metric: mean over seeds (best learning rate), seeds in which it beat weight space", style="italic")
    out.print(output)
    out.print("*: the best rate is at the edge of the rates tried.")
    for task, metric in dict.fromkeys((row.task, row.metric) for row in rows):
        out.print(f"{task}: {metric}")
    out.print(f"report: {folder / 'report.html'}", soft_wrap=True)


def _cell(row: Row) -> str:
    return f"{row.mean_of_finished} ({row.rate:.3g}{'*' if row.edge else ''}) {row.wins.replace(' of ', '/')}".rstrip()
