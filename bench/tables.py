"""Tables that the command line prints: names, suites, plans, results and verdicts."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import registry
from bench.errors import InputError
from bench.schema import merged

if TYPE_CHECKING:
    from bench.claims import Claims, Finding
    from bench.plan import ArmPlan
    from bench.suite import Suite
    from bench.summary import Row
    from bench.throughput import ThroughputSuite, Timing
    from bench.verify import Check

_WIDTH_OF_A_FILE = 160


def console() -> Console:
    """Make a console that is wide enough where the output is no terminal."""
    return Console(highlight=False, width=None if Console().is_terminal else _WIDTH_OF_A_FILE)


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Make a plain table."""
    result = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return result


def markdown(text: str) -> str:
    r"""Escape a text for a cell of a Markdown table.

    Args:
        text: any text.

    Returns:
        What shows as this text, on one line.

    Example:
        >>> print(markdown("a|b <script>"))
        a\|b &lt;script&gt;
    """
    escaped = re.sub(r"([\\`*_|]|(?<=\])[(\[])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def print_names(kind: str) -> None:
    """Print the names of one kind, with the options of each and what it is.

    Args:
        kind: a key of :data:`bench.registry.TABLES`.
    """
    names = registry.TABLES[kind]
    rows = plain_table(kind, "options", "what it is")
    for name in sorted(names):
        target = registry.resolve(names, name)
        rows.add_row(name, _options(target), (inspect.getdoc(target) or "").partition("\n")[0])
    console().print(rows)


def _options(target: object) -> str:
    """Write the arguments that have a default, up to six."""
    parameters = inspect.signature(target).parameters.values()  # type: ignore[arg-type]
    given = [f"{each.name}={each.default!r}" for each in parameters if each.default is not inspect.Parameter.empty]
    return ", ".join(given[:6]) + (", ..." if len(given) > 6 else "")


def print_suites(folder: Path) -> None:
    """Print the suites in a folder, with their profiles; a file without profiles is there for others to extend.

    Args:
        folder: where the suites are.

    Raises:
        InputError: there are none.
    """
    rows = plain_table("suite", "profiles", "asks")
    for path in sorted(folder.glob("*.toml")):
        data = merged(path)
        if "title" in data:
            rows.add_row(str(path), ", ".join(data.get("profiles", {})), escape(str(data["title"])))
    if not rows.row_count:
        raise InputError(f"no suite in {folder.absolute()}; run this in a clone of the project")
    console().print(rows)


def print_plan(suite: Suite, profile: str, plans: Sequence[ArmPlan], workers: int) -> None:
    """Print a plan: a line per arm on a task, then totals.

    Args:
        suite: the suite.
        profile: name of the profile.
        plans: what is to do.
        workers: number of processes, for the time.
    """
    rows = plain_table(
        "task", "rule", "space", "learning rates", "tuning", "test", "done", "minutes left", right=_NUMBERS
    )
    for each in plans:
        task, space, rule = each.place
        rates = ", ".join(f"{rate:g}" for rate in each.rates) or "those of " + ", ".join(each.tuned_at[:2])
        minutes = "?" if each.seconds is None else f"{each.seconds / 60:.1f}"
        rows.add_row(task, rule, space, rates, str(each.tuning), str(each.test), str(each.done), minutes)
    out = console()
    out.print(f"{suite.title}\n{suite.name}, profile {profile}", style="bold", markup=False)
    out.print(rows)
    for line in _totals(suite, profile, plans, workers):
        out.print(line, soft_wrap=True)
    literature = plain_table("task", "published", "value", "source", "protocol", right=["value"])
    for task in dict.fromkeys(each.place[0] for each in plans):
        for row in suite.tasks[task].published:
            literature.add_row(task, escape(row.method), f"{row.value:g}", escape(row.source), escape(row.protocol))
    if literature.row_count:
        out.print(literature)


def print_rows(rows: Sequence[Row]) -> None:
    """Print what a report says of each arm, a line per task and rule: scores, rates, and seeds that beat weight space.

    Args:
        rows: the summaries, in the order of tables.
    """
    spaces = list(dict.fromkeys(row.space for row in rows))
    together = len(spaces) <= 3
    output = plain_table("task", "rule", *(spaces if together else ["space", "score"]), "diverged")
    for task, rule in dict.fromkeys((row.task, row.rule) for row in rows):
        own = {row.space: row for row in rows if (row.task, row.rule) == (task, rule)}
        if together:
            line = [_score(own[space]) if space in own else "" for space in spaces]
            output.add_row(escape(task), escape(rule), *line, str(sum(row.diverged for row in own.values())))
        for row in () if together else own.values():
            output.add_row(*map(escape, (task, rule, row.space)), _score(row), str(row.diverged))
    out = console()
    out.print(
        "Test metric: interquartile mean over seeds [95 % interval] @ best learning rate, seeds that beat weight space",
        style="italic",
    )
    out.print(output)
    out.print("*: the best rate is at the edge of the rates tried.")
    for task, metric in dict.fromkeys((row.task, row.metric) for row in rows):
        out.print(f"{task}: {metric}", markup=False)


def _score(row: Row) -> str:
    interval = "" if isnan(row.score.low) else f" \\[{row.score.low:.3g}, {row.score.high:.3g}]"
    wins = f", {row.better.estimate * row.pairs:g}/{row.pairs}" if row.pairs else ""
    return f"{row.score.estimate:.4g}{interval} @ {row.rate:.3g}{'*' if row.edge else ''}{wins}"


_VERDICTS = {"supported": "green", "refuted": "red", "inconclusive": "yellow"}


def print_claims(claims: Claims, findings: Mapping[str, Finding]) -> None:
    """Print the verdicts.

    Args:
        claims: the claims.
        findings: what was found of some of them.
    """
    rows = plain_table("verdict", "claim", "by", "numbers")
    for name, finding in findings.items():
        claim = claims.claims[name]
        cells = map(escape, (claim.text, claim.source, finding.numbers))
        rows.add_row(f"[{_VERDICTS[finding.verdict]}]{finding.verdict}[/]", *cells)
    console().print(rows)


def print_timings(suite: ThroughputSuite, timings: Sequence[Timing]) -> None:
    """Print timings: a line per network and rule, a column per space.

    Args:
        suite: what was timed.
        timings: what came out, all spaces of a network and a rule one after another.
    """
    base, *others = suite.spaces
    columns = [f"{base}, sequences/s", *(f"{space}, extra time" for space in others)]
    rows = plain_table("network", "rule", *columns, right=columns)
    for start in range(0, len(timings), len(suite.spaces)):
        first, *rest = timings[start : start + len(suite.spaces)]
        size = suite.networks[first.network]
        network = f"{first.network}, {size.layers} x {size.hidden}"
        rows.add_row(network, first.rule, f"{first.samples:,.0f}", *(f"{100 * each.extra:+.1f} %" for each in rest))
    out = console()
    out.print(suite.title, style="bold")
    out.print(rows)
    out.print(f"Medians of {suite.rounds} rounds of {suite.block} steps, in turns; {suite.threads} thread of torch.")


_FATES = {
    "same bits": "green",
    "within tolerance": "green",
    "not judged": "yellow",
    "skipped": "yellow",
    "differs": "bold red",
}


def print_checks(checks: Sequence[Check]) -> None:
    """Print what became of records that were trained again.

    Args:
        checks: a check per record.
    """
    right = ("record", "again", "tolerance")
    rows = plain_table("task", "rule", "space", "run", *right, "verdict", right=right)
    for check in checks:
        record = check.record
        names = map(escape, _names(record))
        run = f"{record['role']} seed {record['index']}, rate {record['lr']:.3g}"
        numbers = (_number(each) for each in (check.before, check.again, check.tolerance))
        rows.add_row(*names, run, *numbers, f"[{_FATES[check.verdict]}]{check.verdict}[/]")
    out = console()
    out.print(rows)
    for check in checks:
        if check.reason:
            place = "{name}, {rule_name}, {space}, {role} seed {index}".format_map(check.record)
            text = f"{check.verdict}: {place}: {check.reason}"
            out.print(text, style=_FATES[check.verdict], markup=False, soft_wrap=True)


def _names(record: Mapping[Any, Any]) -> list[str]:
    """Name task, rule and space of a record; behind a name, what was trained under it, where that is another."""
    run = json.loads(record["specification"])
    model, space = (run.get("space", {}).get(key, "") for key in ("model", "space"))
    trained = {
        "name": run["task"]["task"],
        "rule_name": run.get("rule", {}).get("optimizer", ""),
        "space": space if model == "relu" else model,
    }
    return [
        record[key] if str(own).lower() in str(record[key]).lower() else f"{record[key]} ({own})"
        for key, own in trained.items()
    ]


def _number(value: float) -> str:
    return "" if isnan(value) else f"{value:.6g}"


_NUMBERS = ("tuning", "test", "done", "minutes left")


def _totals(suite: Suite, profile: str, plans: Sequence[ArmPlan], workers: int) -> list[str]:
    tuning, test, done = (sum(getattr(each, name) for each in plans) for name in ("tuning", "test", "done"))
    known = [each.seconds for each in plans if each.seconds is not None]
    grids = sum(len(each.rates) > 1 for each in plans)
    more = suite.growth * suite.profiles[profile].tuning_seeds * grids
    growth = f"; up to {more} more tuning runs where a best rate lies at the edge of its grid" if more else ""
    lines = [f"{len(plans)} arms on tasks: {tuning} tuning runs, {test} test runs, {done} of them done{growth}."]
    if known:
        rest = f", and {len(plans) - len(known)} arms that nothing recorded is like" if len(known) < len(plans) else ""
        time = f"{sum(known) / workers / 60:.0f} minutes with {workers} worker{'s' * (workers > 1)}"
        lines.append(f"What is left takes about {time}{rest}.")
    else:
        lines.append("The time is unknown: nothing alike is recorded yet.")
    return lines
