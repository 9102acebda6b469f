"""Names that a suite may use, and where each is defined; nothing is imported before it is asked for.

A plug-in is a module that calls :func:`register` when it is imported. It is imported where the command line names it
(``--plugin my_package.my_module``) or where an installed package declares it as an entry point of the group
``pathrnn.bench``; a suite file never makes the harness import anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from inspect import signature
from typing import Any

from bench.errors import InputError, in_a_line

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
    """Import what a name stands for; InputError where a plug-in registered what is not there."""
    module, _, attribute = table[name].partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{name!r} stands for {table[name]}, which cannot be imported: {in_a_line(error)}") from error


def configured(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Import what a name stands for, with options of a suite as its arguments.

    Args:
        kind: a key of :data:`TABLES`.
        name: the name.
        options: arguments by name.

    Returns:
        A function of its other arguments.

    Raises:
        InputError: an option that it does not have, or of another type than its default.
    """
    target = resolve(TABLES[kind], name)
    defaults = {
        each.name: each.default for each in signature(target).parameters.values() if each.default is not each.empty
    }
    for option, value in options.items():
        if option not in defaults:
            raise InputError(f"unknown option {option!r}; {kind} {name} has {', '.join(defaults) or 'none'}")
        default, types = defaults[option], {type(defaults[option]), type(None)}
        types |= {int} if isinstance(default, float) else set()
        if default is not None and type(value) not in types:
            must = f"must be of type {type(default).__name__}, as {default!r} is"
            raise InputError(f"option {option} of {kind} {name} {must}, got {value!r}")
    return partial(target, **options)


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
        except (Exception, SystemExit) as error:  # whatever foreign code raises
            raise InputError(f"plug-in {module} cannot be imported: {in_a_line(error)}") from error
        if module not in _plugins:
            _plugins.append(module)


def plugins() -> list[str]:
    """List the plug-ins of this process, which its workers need too."""
    return list(_plugins)
