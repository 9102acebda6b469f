"""Which runs are trained together; known without torch, which only workers need."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from bench.runs import Run

_SPACES = {"weight", "path", "gauge", "path_sgd"}
"""Spaces that take replica axes; others may, but nobody has checked it."""
CHUNK = 256
"""Sequences of an evaluation at a time: the same for any stack, lest sums be rounded otherwise."""
_SMALL, _MOST_ON_CPU = 4096, 8
"""Numbers in the state of a network that is worth stacking on a CPU, and how many of them together."""


def kind(run: Run) -> str | None:
    """Say what runs must have in common to be trained together: all but seed, learning rate and labels.

    Args:
        run: the specification.

    Returns:
        The same text for runs that can share a stack; None where a run must be trained alone.
    """
    if run.space.model != "relu" or run.space.space not in _SPACES:
        return None
    rate = run.lr if run.space.space == "path_sgd" else 1.0  # which builds its rule itself, with one rate
    return run.model_copy(update={"index": 0, "lr": rate}).specification


def stacks(runs: Sequence[Run], device: str | None, most: int) -> list[list[Run]]:
    """Group runs by what to train together.

    Args:
        runs: the specifications.
        device: where to train; None for another machine's GPU, which halves a stack that is too large for it.
        most: the largest stack; it is smaller where the device takes less, and 1 where runs are trained alone.

    Returns:
        The groups, in the order of their first runs.
    """
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        kinds.setdefault(kind(run) or run.key, []).append(run)
    return [part for group in kinds.values() for part in _cut(group, largest(group[0], device, most))]


def largest(run: Run, device: str | None, most: int) -> int:
    """Tell how many runs like this one to train together, but no more than ``most``; see :func:`stacks`."""
    return max(1, most if device is None else min(most, capacity(run, device)))


def _cut(runs: Sequence[Run], most: int) -> list[list[Run]]:
    """Cut into parts of equal size, nearly."""
    count = -(-len(runs) // most)
    ends = [len(runs) * part // count for part in range(count + 1)]
    return [list(runs[start:end]) for start, end in itertools.pairwise(ends)]


def capacity(run: Run, device: str) -> int:
    """Tell how many runs like this one to train together.

    On a CPU a stack saves what torch spends on calls, which counts where the work of a call is small: up to a state,
    batch times units, of 4,096 numbers. On a GPU it is as many as free memory holds.

    Args:
        run: the specification.
        device: where to train.

    Returns:
        The number of runs.
    """
    entry = run.task
    if device == "cpu":
        return _MOST_ON_CPU if entry.batch * entry.hidden <= _SMALL else 1
    import torch

    from bench.train import task_of

    task = task_of(entry)
    rows = task.train.inputs.shape[1] * (entry.batch + CHUNK)  # of a training batch, and of an evaluation
    tensors = task.inputs + 4 * entry.hidden * entry.layers + 2 * task.outputs  # inputs; z, states and their gradients
    return int(0.8 * torch.cuda.mem_get_info()[0] / (4 * rows * tensors))
