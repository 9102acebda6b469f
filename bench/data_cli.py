"""The commands of ``python -m bench data``: what is here, get the rest, is it whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from bench import data as store
from bench.errors import InputError, MissingDataError

if TYPE_CHECKING:
    from rich.progress import Progress


class _Bar:
    """A progress bar of rich, as pooch wants one."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._task = progress, progress.add_task(name, total=None)

    @property
    def total(self) -> float | None:
        """Bytes in all."""
        return self._progress.tasks[self._task].total

    @total.setter
    def total(self, total: int) -> None:
        self._progress.update(self._task, total=total or None)  # 0: the server does not say

    def update(self, more: int) -> None:
        """Count bytes that have come."""
        self._progress.advance(self._task, more)

    def reset(self) -> None:
        """Count from zero again."""
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """Do nothing: the bar goes when its progress ends."""


@click.group()
def data() -> None:
    """List, download and check the data files of the tasks.

    They are looked for in the folder PATHRNN_DATA, then in the cache, the folder PATHRNN_CACHE. PATHRNN_OFFLINE=1
    forbids downloads.

    Example: python -m bench data fetch
    """


@data.command(name="list")
def list_() -> None:
    """Print every file that can be downloaded, and where it lies on this machine.

    Example: python -m bench data list
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("name", title="Data files")
    table.add_column("bytes", justify="right")
    table.add_column("found")
    table.add_column("source")
    for name, file in store.FILES.items():
        table.add_row(name, f"{file.size:,}", store.find(name)[0], file.source)
    Console(width=None if Console().is_terminal else 150).print(table)


@data.command()
@click.argument("names", nargs=-1)
def fetch(names: tuple[str, ...]) -> None:
    """Download the files NAMES, or all, that are missing; check those that are there.

    Example: python -m bench data fetch tinyshakespeare/input.txt
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)

    def get(name: str) -> str:
        if store.find(name)[1]:
            store.read(name)
            return "already there"
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            store.fetch(name, _Bar(progress, name) if console.is_terminal else False)
        return "fetched"

    _each(names, get)


@data.command()
@click.argument("names", nargs=-1)
def check(names: tuple[str, ...]) -> None:
    """Read the files NAMES, or all, and compare their digests; exit with status 2 if one is wrong.

    A file that is missing is wrong only if it stands in NAMES.

    Example: python -m bench data check
    """

    def look(name: str) -> str:
        if store.find(name)[1]:
            store.read(name)
            return "ok"
        if names:
            raise MissingDataError("missing")
        return "missing"

    _each(names, look)


def _each(names: Iterable[str], act: Callable[[str], str]) -> None:
    """Print what comes of each file, whatever becomes of those before it."""
    chosen = list(dict.fromkeys(names)) or list(store.FILES)
    for name in chosen:
        if name not in store.FILES:
            raise InputError(f"unknown data file {name!r}; known are {', '.join(store.FILES)}")
    failed = []
    for name in chosen:
        try:
            click.echo(f"{name}: {act(name)}")
        except InputError as error:
            click.echo(f"{name}: {error}")
            failed.append(name)
    if failed:
        raise InputError(f"{len(failed)} of {len(chosen)} data files missing or wrong: {', '.join(failed)}")
