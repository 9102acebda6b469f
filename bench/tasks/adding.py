"""The adding problem: add the two marked numbers of a sequence (Hochreiter and Schmidhuber 1997)."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional

from bench.errors import InputError
from bench.tasks import Split, Task, drawn


def adding(length: int = 50, train: int = 20_000, held_out: int = 2_000) -> Task:
    """Add the two marked numbers of a sequence.

    Each step has a number, uniform in [0, 1], and a mark: 1 at one step of each half of the sequence, else 0. The
    target is the sum of the two marked numbers; always predicting 1 scores a mean squared error of 1/6.

    Args:
        length: steps ``T``, at least 2.
        train: training sequences.
        held_out: validation sequences, and as many test sequences.

    Returns:
        The task.

    Raises:
        InputError: a length below 2, or a split without sequences.
    """
    if length < 2:
        raise InputError(f"length must be at least 2, one step for each half, got {length}")
    splits = drawn(functools.partial(_draw, length), train, held_out, ("adding", length))
    return Task(1, _error, _error, "mean squared error", False, 0.01, *splits)


def _draw(length: int, count: int, generator: torch.Generator) -> Split:
    numbers = torch.rand(count, length, generator=generator)
    half = length // 2
    first = torch.randint(0, half, (count, 1), generator=generator)
    second = torch.randint(half, length, (count, 1), generator=generator)
    places = torch.cat([first, second], dim=1)
    marks = torch.zeros(count, length).scatter_(1, places, 1.0)
    return Split(torch.stack([numbers, marks], dim=-1), numbers.gather(1, places).sum(1, keepdim=True))


def _error(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs, targets)
