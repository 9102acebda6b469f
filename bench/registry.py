"""Names that a suite may use, and where each is defined; nothing is imported before it is asked for.

A plug-in is a module that calls :func:`register` when it is imported. It is imported where the command line names it
(``--plugin my_package.my_module``) or where an installed package declares it as an entry point of the group
``pathrnn.bench``; a suite file never makes the harness import anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from inspect import signature
from pathlib import PurePath
from typing import Any

from bench.data import FILES
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


def _of(folder: str) -> dict[str, str]:
    return {name: file.sha256 for name, file in FILES.items() if name.startswith(folder)}


DATA: dict[str, Mapping[str, str]] = {
    "characters": _of("tinyshakespeare/"),
    "jsb_chorales": _of("polyphonic/JSB"),
    "mnist_permuted": _of("mnist/"),
    "mnist_pixels": _of("mnist/"),
    "mnist_rows": _of("mnist/"),
    "nottingham": _of("polyphonic/Nottingham"),
}
"""Data files that tasks read, with their digests; an option ``file`` names another one."""

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


def digests(task: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Tell which data files a task reads, without reading them.

    Args:
        task: name in the registry.
        options: its options; where a task reads files, ``file`` names another one, and ``sha256`` its digest.

    Returns:
        Digests by the names of the files; none of a file without a digest, which nobody can read.
    """
    declared, own = DATA.get(task, {}), options.get("file")
    if not declared or not isinstance(own, str):
        return dict(declared)
    name = PurePath(own).as_posix()
    digest = FILES[name].sha256 if name in FILES else str(options.get("sha256", "")).lower()
    return {name: digest} if digest else {}


def register(kind: str, name: str, target: str, files: Mapping[str, str] | None = None) -> None:
    """Add a name; a plug-in calls this when it is imported.

    Args:
        kind: ``"task"``, ``"model"``, ``"init"``, ``"space"`` or ``"optimizer"``.
        name: the name in suites.
        target: what it stands for, as ``"package.module:attribute"``.
        files: data files that a task reads: SHA-256 of the decompressed bytes by the path in the data folder. They are
            part of the addresses of its runs.

    Raises:
        InputError: an unknown kind, a target of another form, files of what is no task or without digest, or a name
            that stands for something else.
    """
    if kind not in TABLES:
        raise InputError(f"kind must be one of {', '.join(TABLES)}, got {kind!r}")
    if target.count(":") != 1:
        raise InputError(f"the target of {kind} {name!r} must be package.module:attribute, got {target!r}")
    if files and kind != "task":
        raise InputError(f"files must be those of a task, got those of {kind} {name!r}; leave them out")
    for file, digest in (files or {}).items():
        if not re.fullmatch("[0-9a-f]{64}", digest):
            must = "must be the SHA-256 of its decompressed bytes, 64 digits of 0 to 9 and a to f"
            raise InputError(f"the digest of {file}, data of task {name!r}, {must}, got {digest!r}")
    if TABLES[kind].setdefault(name, target) != target:
        raise InputError(f"{kind} {name!r} is taken by {TABLES[kind][name]}; choose another name for {target}")
    if files and DATA.setdefault(name, dict(files)) != files:
        raise InputError(f"task {name!r} is registered with other files, {', '.join(DATA[name])}; declare them once")


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
