"""Names that a suite may use, and where each is defined; nothing is imported before it is asked for.

A plug-in is a module that calls :func:`register` when it is imported. It is imported where the command line names it
(``--plugin my_package.my_module``) or where an installed package declares it as an entry point of the group
``pathrnn.bench``; a suite file never makes the harness import anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from bench.errors import InputError

TASKS = {
    "adding": "bench.tasks.adding:adding",
    "characters": "bench.tasks.text:characters",
    "copying": "bench.tasks.copying:copying",
    "digits": "bench.tasks.digits:digits",
    "jsb_chorales": "bench.tasks.polyphonic:jsb_chorales",
    "mnist_permuted": "bench.tasks.mnist:mnist_permuted",
    "mnist_pixels": "bench.tasks.mnist:mnist_pixels",
    "mnist_rows": "bench.tasks.mnist:mnist_rows",
    "nottingham": "bench.tasks.polyphonic:nottingham",
    "reber": "bench.tasks.reber:reber",
}
MODELS = {
    "gru": "bench.models:gru",
    "lstm": "bench.models:lstm",
    "relu": "bench.models:relu",
    "tanh": "bench.models:tanh",
}
INITS = {
    "balanced": "bench.inits:balanced_",
    "default": "bench.inits:default_",
    "identity": "bench.inits:identity_",
    "np_rnn": "pathrnn.init:np_rnn_",
    "skeleton_ones": "pathrnn.init:skeleton_ones_",
}
SPACES = {
    "gauge": "bench.spaces:gauge",
    "path": "bench.spaces:path",
    "path_sgd": "bench.spaces:path_sgd",
    "weight": "bench.spaces:weight",
}
OPTIMIZERS = {
    "Adam": "torch.optim:Adam",
    "AdamW": "torch.optim:AdamW",
    "Muon": "bench.spaces:muon",
    "RMSprop": "torch.optim:RMSprop",
    "SGD": "torch.optim:SGD",
}
TABLES = {"task": TASKS, "model": MODELS, "init": INITS, "space": SPACES, "optimizer": OPTIMIZERS}
"""All names, by what they name."""

_plugins: list[str] = []


def resolve(table: dict[str, str], name: str) -> Any:
    """Import what a name stands for."""
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)


def register(kind: str, name: str, target: str) -> None:
    """Add a name; a plug-in calls this when it is imported.

    Args:
        kind: ``"task"``, ``"model"``, ``"init"``, ``"space"`` or ``"optimizer"``.
        name: the name in suites.
        target: what it stands for, as ``"package.module:attribute"``.

    Raises:
        InputError: an unknown kind, a target of another form, or a name that stands for something else.
    """
    if kind not in TABLES:
        raise InputError(f"kind must be one of {', '.join(TABLES)}, got {kind!r}")
    if target.count(":") != 1:
        raise InputError(f"the target of {kind} {name!r} must be package.module:attribute, got {target!r}")
    if TABLES[kind].setdefault(name, target) != target:
        raise InputError(f"{kind} {name!r} is taken by {TABLES[kind][name]}; choose another name for {target}")


def plug_in(modules: Sequence[str]) -> None:
    """Import plug-ins: the given modules, and those that installed packages declare.

    Args:
        modules: names of modules.

    Raises:
        InputError: a module that cannot be imported, or that registers what it must not.
    """
    declared = [point.module for point in entry_points(group="pathrnn.bench")]
    for module in dict.fromkeys([*declared, *modules]):
        try:
            import_module(module)
        except InputError as error:
            raise InputError(f"plug-in {module}: {error}") from None
        except Exception as error:  # whatever foreign code raises
            raise InputError(f"plug-in {module} cannot be imported: {type(error).__name__}: {error}") from error
        if module not in _plugins:
            _plugins.append(module)


def plugins() -> list[str]:
    """List the plug-ins of this process, which its workers need too."""
    return list(_plugins)
