"""Commands that measure without training: theory, throughput and stacks."""

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

    from bench.findings import FINDINGS, write_findings
    from bench.schema import read
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

    from bench.findings import TIMINGS, write_findings
    from bench.schema import read
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


@click.command()
@click.argument("suite", type=click.Path(path_type=Path), default=Path("suites/stacks.toml"))
@click.option("--grid", "grids", multiple=True, help="Time only this grid; may be given more than once.")
@options.results
def stacks(suite: Path, grids: tuple[str, ...], results: Path) -> None:
    """Time stacks of replicas against nn.RNN, one run after another and a process per run; two minutes.

    Prints sequences per second, speed, memory and the share of what one large product reaches; then what the
    optimizer's part of a step in path space costs over rules of torch. Grids for a GPU are not measured where there is
    none. Nothing else should run meanwhile. Rows and the figure go to RESULTS/throughput.

    Example: python -m bench stacks --grid rows
    """
    from rich.console import Console
    from rich.progress import track

    from bench.findings import SCALING, write_findings
    from bench.scaling import ScalingSuite, measure, optimizer_steps
    from bench.scaling_report import print_optimizers, print_scaling, write_figure
    from bench.schema import read
    from bench.suite import require

    loaded, errors = read(suite, ScalingSuite), Console(stderr=True)
    require("", "grid", grids, loaded.grids)
    names = list(grids or loaded.grids)
    rows = [
        row
        for name in track(names, "timing", console=errors, disable=not errors.is_terminal)
        for row in measure(loaded, name)
    ]
    write_findings(results / SCALING, rows)
    write_figure(results / SCALING.parent, rows)
    print_scaling(loaded, rows)
    print_optimizers({device: optimizer_steps(loaded, device) for device in ("cpu", "cuda")})
