"""The command line. Heavy imports wait until a command needs them, so that help answers at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from bench.errors import CheckFailedError, InputError


class _Group(click.Group):
    """Turns bad input into one line and exit status 2, failures of a run into one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            self._fail(str(error), 2)
        except KeyboardInterrupt:
            self._fail("stopped; finished runs are kept, run the same command to go on", 130)
        except CheckFailedError as error:
            self._fail(str(error), 1)

    @staticmethod
    def _fail(message: str, status: int) -> None:
        click.echo(f"Error: {message}", err=True)
        raise click.exceptions.Exit(status)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Compare optimizers for ReLU RNNs: in weight space and in path space.

    Train everything that is missing: python -m bench run suites/accuracy.toml

    Tables and figures: python -m bench report results/local/accuracy
    """


@main.command()
@click.argument("suite", type=click.Path(path_type=Path))
@click.option("--profile", default="embedded", show_default=True, help="How much to run; profiles stand in the suite.")
@click.option("--task", "tasks", multiple=True, help="Run only this task; may be given more than once.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results/local"),
    show_default=True,
    help="Records go to RESULTS/<suite>/records.",
)
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count(), show_default="cores", help="Processes.")
def run(suite: Path, profile: str, tasks: tuple[str, ...], results: Path, workers: int) -> None:
    """Train every run of SUITE that has no record yet.

    Stop it anywhere and start it again: it goes on where it stopped. Learning rates are tuned on validation data with
    seeds of their own; test runs use other seeds and the best rate of each arm.

    Example: python -m bench run suites/accuracy.toml --task digits_rows
    """
    from rich.console import Console

    from bench import suite as suites
    from bench.execute import execute
    from bench.store import Store

    loaded = suites.load(suite)
    suites.require("profile", [profile], list(loaded.profiles))
    known = list(loaded.profiles[profile].updates)
    suites.require("task", tasks, known)
    console = Console(stderr=True)
    execute(loaded, profile, tasks or known, Store(results / loaded.name), workers, console)


@main.command()
@click.argument("suite", type=click.Path(path_type=Path), default=Path("suites/theory.toml"))
def theory(suite: Path) -> None:
    """Try every theorem and law of path space on random networks; exit with status 1 if one is violated.

    SUITE says on how many networks, and what error is rounding. docs/theory.md derives the statements. Half a minute.

    Example: python -m bench theory
    """
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from bench import suite as suites
    from bench.theory import TheorySuite, check, require_all

    loaded, errors = suites.read(suite, TheorySuite), Console(stderr=True)
    laws = track(loaded.laws.items(), "laws", len(loaded.laws), console=errors, disable=not errors.is_terminal)
    findings = [check(name, law) for name, law in laws]
    table = Table(title=loaded.title)
    for column in ("statement", "networks", "worst error", "verdict"):
        table.add_column(column, justify="right" if column in {"networks", "worst error"} else "left")
    for each in findings:
        verdict = "holds" if each.holds else f"[bold red]violated[/], the bound is {each.bound:g}"
        table.add_row(each.text, str(each.networks), f"{each.worst:.1g}", verdict)
    Console(width=None if Console().is_terminal else 140).print(table)
    require_all(each.holds for each in findings)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--profile", default=None, help="Which records to report, where FOLDER holds several profiles.")
def report(folder: Path, profile: str | None) -> None:
    """Write report.html, report.md and figures from the records in FOLDER, and print the result table.

    Example: python -m bench report results/local/accuracy
    """
    from bench.report import write
    from bench.store import Store

    write(Store(folder), profile)
