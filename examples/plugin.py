"""A plug-in: a foreign optimizer and a task of one's own, for any suite.

    pip install lion-pytorch
    python -m bench run examples/plugin.toml --plugin examples.plugin
    python -m bench report results/local/plugin

A package that is installed can declare such a module as an entry point of the group ``pathrnn.bench`` instead.
"""

from __future__ import annotations

import torch

from bench.registry import register
from bench.seeds import seed
from bench.tasks import Split, Task, classification


def majority(steps: int = 9, train: int = 2_000, held_out: int = 500) -> Task:
    """Has a sequence of bits, of odd length, more ones than zeros?"""
    sizes = {"train": train, "validation": held_out, "test": held_out}
    return classification(2, 99.0, *[_draw(steps, size, seed("majority", steps, part)) for part, size in sizes.items()])


def _draw(steps: int, count: int, seed_: int) -> Split:
    bits = torch.randint(2, (count, steps), generator=torch.Generator().manual_seed(seed_))
    return Split(bits.unsqueeze(-1).float(), (2 * bits.sum(1) > steps).long())


register("optimizer", "Lion", "lion_pytorch:Lion")
register("task", "majority", "examples.plugin:majority")
