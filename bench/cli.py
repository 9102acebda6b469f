"""The command line. Heavy imports wait until a command needs them, so that help answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from bench import options
from bench.data_cli import data
from bench.errors import CheckFailedError, InputError
from bench.measure_cli import stacks, theory, throughput

if TYPE_CHECKING:
    from bench.suite import Suite


class _Group(click.Group):
    """Turns bad input into one line and exit status 2, failures of a run into one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            self._fail(str(error), 2)
        except KeyboardInterrupt:
            self._fail("stopped; what finished in a results folder is kept, run the same command to go on", 130)
        except CheckFailedError as error:
            self._fail(str(error), 1)

    @staticmethod
    def _fail(message: str, status: int) -> None:
        click.echo(f"Error: {message}", err=True)
        raise click.exceptions.Exit(status)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Compare optimizers for ReLU RNNs: in weight space and in path space.

    What there is to run: python -m bench list suites

    What a suite would do: python -m bench plan suites/accuracy.toml

    Train everything that is missing: python -m bench run suites/accuracy.toml

    Tables and figures: python -m bench report results/local/accuracy
    """


def _load(path: Path, profile: str, tasks: tuple[str, ...]) -> tuple[Suite, list[str]]:
    """Read a suite; take the tasks that were named, or all of the profile."""
    from bench import suite as suites

    loaded = suites.load(path)
    suites.require("", "profile", [profile], loaded.profiles)
    names = list(loaded.profiles[profile].updates)
    suites.require("", "task", tasks, names)
    return loaded, list(tasks or names)


@main.command()
@options.of_a_suite
@options.device
@options.stack
@options.cluster
@options.faults
@options.log_json
def run(
    suite: Path,
    profile: str,
    tasks: tuple[str, ...],
    results: Path,
    workers: int,
    device: str,
    stack: int | None,
    executor: str,
    scheduler: str | None,
    retries: int,
    timeout: float | None,
    checkpoint: float,
    log_json: TextIO | None,
) -> None:
    """Train every run of SUITE that has no record yet.

    Stop it anywhere and start it again: it goes on where it stopped. Ctrl-C lets what has begun come to its end; once
    more, and it stops at once. Several may work for one folder of results. A run that fails stops no other: it is
    noted, its arm is not tested, and the status is 1. Learning rates are tuned on validation data with seeds of their
    own; test runs use other seeds and the best rate of each arm.

    Example: python -m bench run suites/accuracy.toml --task digits_rows
    """
    from rich.console import Console

    from bench.execute import execute
    from bench.progress import Display
    from bench.store import Store
    from bench.workers import Execution

    loaded, names = _load(suite, profile, tasks)
    executor = "dask" if scheduler else executor
    how = Execution(workers, device, stack, retries, timeout, executor, scheduler, 60 * checkpoint)
    display = Display(Console(stderr=True), log_json)
    execute(loaded, profile, names, Store(results / loaded.name), display, how)


@main.command()
@options.of_a_suite
def plan(suite: Path, profile: str, tasks: tuple[str, ...], results: Path, workers: int) -> None:
    """Print what SUITE would run: arms, learning rates, runs, and how long it takes; train and write nothing.

    The time is estimated from records of the same task and network: those in RESULTS, else those of the project.

    Example: python -m bench plan suites/accuracy.toml
    """
    from bench.plan import plan as planned
    from bench.tables import print_plan

    loaded, names = _load(suite, profile, tasks)
    plans = planned(loaded, profile, names, [results, Path("results/reference")])
    print_plan(loaded, profile, plans, workers)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def status(folder: Path) -> None:
    """Print how far the results in FOLDER are, the folder of a suite: runs that are done, missing or failed, and why.

    Example: python -m bench status results/local/accuracy
    """
    from bench.status import show
    from bench.store import Store

    show(Store(folder))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def compact(folder: Path) -> None:
    """Write all records in FOLDER, the folder of a suite, into one file, which is smaller and faster to read.

    Example: python -m bench compact results/local/accuracy
    """
    from bench.store import Store

    click.echo(f"{Store(folder).compact()} records in one file in {folder / 'records'}")


@main.command("list")
@click.argument("kind", type=click.Choice(["tasks", "optimizers", "models", "inits", "spaces", "suites"]))
@options.plugins
def list_(kind: str) -> None:
    """List what a suite may name, with its options, or the suites of the project.

    Example: python -m bench list tasks
    """
    from bench.tables import print_names, print_suites

    print_suites(Path("suites")) if kind == "suites" else print_names(kind.removesuffix("s"))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--profile", default=None, help="Which records to report, where FOLDER holds several profiles.")
@click.option(
    "--claims",
    type=click.Path(path_type=Path),
    default=Path(__file__).parents[1] / "suites" / "claims.toml",
    help="The claims to judge; those of the project, if not given.",
)
def report(folder: Path, profile: str | None, claims: Path) -> None:
    """Write report.html, report.md and figures from the records in FOLDER, and print results and verdicts.

    FOLDER is that of a suite, or one with a folder per suite: then every suite has its report, and a page over all of
    them has all verdicts.

    Example: python -m bench report results/local
    """
    from bench.claims import Claims
    from bench.report import write, write_all
    from bench.schema import read
    from bench.store import Store
    from bench.tables import print_claims, print_rows

    judged = read(claims, Claims)
    if (folder / "records").exists() or not any(folder.glob("*/records")):
        rows, findings = write(Store(folder), profile, judged)
        print_rows(rows)
    else:
        findings = write_all(folder, profile, judged)
    print_claims(judged, findings)
    click.echo(f"report: {folder / 'report.html'}")


@main.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--profile", default=None, help="Which records to compare, where a folder holds several profiles.")
@click.option(
    "--fail-on-regression", is_flag=True, help="Exit with status 1 if an arm of B is worse, or B lacks what A has."
)
@click.option(
    "--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write it as Markdown, for a pull request."
)
def compare(a: Path, b: Path, profile: str | None, fail_on_regression: bool, markdown: Path | None) -> None:
    """Compare the results in folder B with those in folder A, of the same suite: of two commits, or two machines.

    Arms are compared seed by seed. On another machine most results change by chance, so an arm counts as worse only
    where chance would say so in less than 5 % of whole comparisons: of five seeds, a drop by four times their spread is
    found in two of three cases. Runs that are bit for bit the same are said to be.

    Example: python -m bench compare results/reference/accuracy results/local/accuracy --fail-on-regression
    """
    from bench.compare import compare as compared
    from bench.side_by_side import require_no_regression, show, write
    from bench.store import Store

    comparison = compared(Store(a), Store(b), profile)
    if markdown is not None:
        write(comparison, markdown)
    show(comparison)
    if fail_on_regression:
        require_no_regression(comparison)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--sample", type=click.IntRange(min=1), default=5, show_default=True, help="How many records.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="Choose the same records again; at random, if not given."
)
@click.option("--profile", default=None, help="Which records to verify, where FOLDER holds several profiles.")
@options.workers
@options.device
@options.plugins
def verify(folder: Path, sample: int, seed: int | None, profile: str | None, workers: int, device: str) -> None:
    """Train a random sample of the records in FOLDER again, and exit with status 1 if one comes out otherwise.

    Where processor, rounding and versions are those of the record, all but times must be the same, bit for bit.
    Elsewhere the first losses must be within 0.1 %, and the metrics within six spreads between seeds, which are
    printed: one run in sixty is beyond by chance, as training amplifies how sums are rounded.

    Example: python -m bench verify results/reference/accuracy --sample 5
    """
    import secrets

    from rich.console import Console

    from bench.store import Store
    from bench.summary import of_profile
    from bench.tables import print_checks
    from bench.verify import require_none_differs
    from bench.verify import verify as verified
    from bench.workers import Execution

    chosen, store = secrets.randbits(32) if seed is None else seed, Store(folder)
    records = of_profile(store, profile)
    for line in [*store.omissions(), f"The same sample again: --sample {sample} --seed {chosen}"]:
        click.echo(line)
    checks = verified(records, sample, chosen, Console(stderr=True), Execution(workers, device))
    print_checks(checks)
    require_none_differs(checks)


for command in (theory, throughput, stacks, data):
    main.add_command(command)
