"""Commands that measure without training: theory and throughput."""

from __future__ import annotations

from pathlib import Path

import click

from bench import options


@click.command()
@click.argument("suite", type=click.Path(path_type=Path), default=Path("suites/theory.toml"))
@options.results
def theory(suite: Path, results: Path) -> None:
    """Try every theorem and law of path space on random networks; exit with status 1 if one is violated.

    SUITE says on how many networks, and what error is rounding. docs/theory.md derives the statements. Half a minute.
    The findings go to RESULTS/theory, for the report.

    Example: python -m bench theory
    """
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from bench.schema import read
    from bench.store import FINDINGS, write_findings
    from bench.theory import TheorySuite, check, require_all

    loaded, errors = read(suite, TheorySuite), Console(stderr=True)
    laws = track(loaded.laws.items(), "laws", len(loaded.laws), console=errors, disable=not errors.is_terminal)
    findings = [check(name, law) for name, law in laws]
    write_findings(results / FINDINGS, findings)
    table = Table(title=loaded.title)
    for column in ("statement", "networks", "worst error", "verdict"):
        table.add_column(column, justify="right" if column in {"networks", "worst error"} else "left")
    for each in findings:
        verdict = "holds" if each.holds else f"[bold red]violated[/], the bound is {each.bound:g}"
        table.add_row(each.text, str(each.networks), f"{each.worst:.1g}", verdict)
    Console(width=None if Console().is_terminal else 140).print(table)
    require_all(each.holds for each in findings)


@click.command()
@click.argument("suite", type=click.Path(path_type=Path), default=Path("suites/throughput.toml"))
@click.option("--network", "networks", multiple=True, help="Time only this network; may be given more than once.")
@options.results
def throughput(suite: Path, networks: tuple[str, ...], results: Path) -> None:
    """Time training steps in each space, in turns, and print what they cost over the first; a few minutes.

    Times move with the machine, so nothing else should run meanwhile; ratios move by about 2 % from run to run. The
    timings go to RESULTS/throughput, for the report.

    Example: python -m bench throughput
    """
    from rich.console import Console
    from rich.progress import track

    from bench.schema import read
    from bench.store import TIMINGS, write_findings
    from bench.suite import require
    from bench.tables import print_timings
    from bench.throughput import ThroughputSuite, measure

    loaded, errors = read(suite, ThroughputSuite), Console(stderr=True)
    require("", "network", networks, loaded.networks)
    names = list(networks or loaded.networks)
    total = len(names) * len(loaded.rules)
    groups = track(measure(loaded, names), "timing", total, console=errors, disable=not errors.is_terminal)
    timings = [timing for group in groups for timing in group]
    write_findings(results / TIMINGS, timings)
    print_timings(loaded, timings)
