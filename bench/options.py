"""Arguments and options that several commands share."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

import click


def _plug_in(context: click.Context, parameter: click.Parameter, modules: tuple[str, ...]) -> None:
    from bench.registry import plug_in

    plug_in(modules)


plugins = click.option(
    "--plugin",
    multiple=True,
    callback=_plug_in,
    expose_value=False,
    metavar="MODULE",
    help="Import a module that registers tasks, optimizers or others, such as examples.plugin; may be repeated.",
)
suite = click.argument("suite", type=click.Path(path_type=Path))
profile = click.option(
    "--profile", default="embedded", show_default=True, help="How much to run; profiles stand in the suite."
)
tasks = click.option("--task", "tasks", multiple=True, help="Run only this task; may be given more than once.")
results = click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results/local"),
    show_default=True,
    help="What comes out goes to RESULTS/<suite>.",
)
workers = click.option(
    "--workers", type=click.IntRange(min=1), default=os.cpu_count(), show_default="cores", help="Processes."
)


def _may_have_a_gpu() -> bool:
    """Tell whether it is worth the time to import torch and ask it."""
    return platform.system() != "Linux" or any(Path("/dev", name).exists() for name in ("nvidiactl", "kfd"))


def _device(context: click.Context, parameter: click.Parameter, name: str) -> str:
    if context.params.get("scheduler"):  # whose machines are others than this one
        return "cuda" if name == "cuda" else "cpu"
    if name == "cpu" or (name == "auto" and not _may_have_a_gpu()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise click.BadParameter("torch sees no GPU here; use --device cpu")
    return "cpu"


device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    callback=_device,
    help="Where to train; auto takes a GPU of this machine, if there is one. A GPU has one worker.",
)
stack = click.option(
    "--stack",
    type=click.IntRange(min=1),
    metavar="N",
    help="Train at most N runs of an arm together, as one network; as many as are fast, if not given.",
)


_retries = click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="How often a run begins anew if its process dies.",
)
_timeout = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End what takes a worker longer; any time, if not given.",
)


_executor = click.option(
    "--executor",
    type=click.Choice(["pool", "dask"]),
    default="pool",
    show_default=True,
    help="Train in processes of this machine, or in a Dask cluster of our own, for which it must be installed.",
)
_scheduler = click.option(
    "--scheduler",
    metavar="ADDRESS",
    is_eager=True,  # for the device
    help="Train in the Dask cluster of this scheduler, such as tcp://10.0.0.1:8786; the folders must be shared.",
)

_checkpoint = click.option(
    "--checkpoint",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="MINUTES",
    help="How often to keep a run in progress, which then goes on from there, bit for bit.",
)
log_json = click.option(
    "--log-json",
    type=click.File("a", encoding="utf-8"),
    metavar="FILE",
    help="Append what happens to FILE as lines of JSON, for machines; - is the standard output.",
)


def cluster(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say on which machines to train."""
    return _executor(_scheduler(command))


def faults(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what to do when runs die or hang."""
    return _retries(_timeout(_checkpoint(command)))


def of_a_suite(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments and options that say which runs of which suite, and where their records are."""
    for option in (plugins, workers, results, tasks, profile, suite):
        command = option(command)
    return command
