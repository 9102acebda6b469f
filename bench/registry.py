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
    "gauge": "bench.train:gauge_optimizer",
    "gauge_unclipped": "bench.train:gauge_unclipped_optimizer",
    "path": "bench.train:path_optimizer",
    "path_frozen": "bench.train:path_frozen_optimizer",
    "path_index": "bench.train:path_index_optimizer",
    "path_normalised": "bench.train:path_normalised_optimizer",
    "path_raw": "bench.train:path_raw_optimizer",
    "path_unclipped": "bench.train:path_unclipped_optimizer",
    "path_unguarded": "bench.train:path_unguarded_optimizer",
    "weight": "bench.train:weight_optimizer",
}
OPTIMIZERS = {
    "Adam": "torch.optim:Adam",
    "AdamW": "torch.optim:AdamW",
    "Muon": "bench.train:muon",
    "RMSprop": "torch.optim:RMSprop",
    "SGD": "torch.optim:SGD",
}
INITS = {
    "default": "bench.train:default_",
    "identity": "pathrnn.init:identity_",
    "np_rnn": "pathrnn.init:np_rnn_",
    "skeleton_ones": "pathrnn.init:skeleton_ones_",
}


def resolve(table: dict[str, str], name: str) -> Any:
    """Import what a name stands for."""
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)
