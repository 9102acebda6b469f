"""Names that a suite may use, and where each is defined; nothing is imported before it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

TASKS = {
    "adding": "bench.tasks.adding:adding",
    "digits": "bench.tasks.digits:digits",
    "mnist_rows": "bench.tasks.mnist:mnist_rows",
}
SPACES = {
    "path": "bench.train:path_optimizer",
    "weight": "bench.train:weight_optimizer",
}
OPTIMIZERS = {
    "Adam": "torch.optim:Adam",
    "SGD": "torch.optim:SGD",
}
INITS = {
    "default": "bench.train:default_",
    "identity": "pathrnn.init:identity_",
    "skeleton_ones": "pathrnn.init:skeleton_ones_",
}


def resolve(table: dict[str, str], name: str) -> Any:
    """Import what a name stands for."""
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)
