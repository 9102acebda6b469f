"""Tables that the command line prints: names, suites and plans."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from bench import registry
from bench.errors import InputError
from bench.schema import merged

if TYPE_CHECKING:
    from bench.plan import ArmPlan
    from bench.suite import Suite
    from bench.throughput import ThroughputSuite, Timing

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
            rows.add_row(str(path), ", ".join(data.get("profiles", {})), str(data["title"]))
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
    out.print(f"{suite.title}\n{suite.name}, profile {profile}", style="bold")
    out.print(rows)
    for line in _totals(suite, profile, plans, workers):
        out.print(line, soft_wrap=True)
    literature = plain_table("task", "published", "value", "source", "protocol", right=["value"])
    for task in dict.fromkeys(each.place[0] for each in plans):
        for row in suite.tasks[task].published:
            literature.add_row(task, row.method, f"{row.value:g}", row.source, row.protocol)
    if literature.row_count:
        out.print(literature)


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
