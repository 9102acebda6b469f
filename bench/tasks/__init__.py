"""Tasks: one file each. A task is data in three splits, a loss, a metric with a direction, and a target for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bench.errors import InputError
from bench.seeds import seed

MOST_SEQUENCES, MOST_STEPS = 1_000_000, 1_000_000_000
"""Sequences of a task that is drawn, and steps of all of them."""


class Split(NamedTuple):
    """Inputs ``[sequences, steps, ...]`` as :attr:`Task.encode` reads them, and targets ``[sequences, ...]``."""

    inputs: Tensor
    targets: Tensor


def _as_stored(inputs: Tensor) -> Tensor:
    return inputs


@dataclass(frozen=True)
class Task:
    """What a network has to learn.

    Outputs are ``[batch, outputs]``, those of the last step, or ``[batch, steps, outputs]`` with ``every_step``. What
    is padding in the targets counts neither in the loss nor in the metric.

    Attributes:
        outputs: number of outputs of a step.
        loss: mean loss of outputs and targets; differentiable.
        metric: the number that is reported, of the same arguments.
        metric_name: its name and unit.
        higher_is_better: direction of the metric.
        target: value of the metric that counts as learned, for time to target.
        train: sequences to learn from.
        validation: sequences to choose learning rates by.
        test: sequences that are used once, at the end of a run.
        every_step: whether every step has outputs and targets, or the last alone.
        encode: makes features ``[batch, steps, inputs]``, float32, of the stored inputs of a batch.
    """

    outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Callable[[Tensor, Tensor], Tensor]
    metric_name: str
    higher_is_better: bool
    target: float
    train: Split
    validation: Split
    test: Split
    every_step: bool = field(default=False, kw_only=True)
    encode: Callable[[Tensor], Tensor] = field(default=_as_stored, kw_only=True)

    @property
    def device(self) -> torch.device:
        """Where the data are."""
        return self.train.inputs.device

    def to(self, device: str | torch.device) -> Task:
        """Return the task with its data on a device."""
        if torch.device(device) == self.device:
            return self
        train, validation, test = (Split(*(own.to(device) for own in split)) for split in self.splits)
        return replace(self, train=train, validation=validation, test=test)

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """The data: for training, validation and test."""
        return self.train, self.validation, self.test

    @property
    def inputs(self) -> int:
        """Features per step."""
        return self.encode(self.train.inputs[:1]).shape[-1]


def classification(
    classes: int,
    target: float,
    train: Split,
    validation: Split,
    test: Split,
    *,
    encode: Callable[[Tensor], Tensor] = _as_stored,
) -> Task:
    """Classify whole sequences: cross entropy, accuracy in per cent."""
    loss, splits = functional.cross_entropy, (train, validation, test)
    return Task(classes, loss, accuracy, "accuracy [%]", True, target, *splits, encode=encode)


def accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Share of correct labels, in per cent."""
    return 100 * (outputs.argmax(-1) == labels).double().mean()


def symbol_loss(outputs: Tensor, codes: Tensor) -> Tensor:
    """Cross entropy per step, in nats: outputs ``[batch, steps, symbols]``, integer codes ``[batch, steps]``."""
    return functional.cross_entropy(outputs.flatten(0, 1), codes.flatten().long())


def one_hot(codes: Tensor, symbols: int) -> Tensor:
    """Encode integer codes ``[batch, steps]`` as features ``[batch, steps, symbols]``."""
    return functional.one_hot(codes.long(), symbols).float()


def shuffled(split: Split, sizes: list[int], seed: int) -> list[Split]:
    """Shuffle by a fixed seed and cut into parts of the given sizes."""
    order = torch.randperm(len(split.inputs), generator=torch.Generator().manual_seed(seed))
    return [Split(split.inputs[part], split.targets[part]) for part in torch.split(order, sizes)]


def drawn(
    draw: Callable[[int, torch.Generator], Split], train: int, held_out: int, names: tuple[str | int, ...]
) -> list[Split]:
    """Draw the three splits of a synthetic task, each by a seed of its own.

    Args:
        draw: draws so many sequences with a generator.
        train: training sequences.
        held_out: validation sequences, and as many test sequences.
        names: what the seeds depend on, beside the name of the split: name of the task, and steps, if they are chosen.

    Returns:
        The splits.

    Raises:
        InputError: a split without sequences, or more steps than a machine can hold.
    """
    check_at_least(str(names[0]), 1, train=train, held_out=held_out)
    count = train + 2 * held_out
    steps = count * math.prod(each for each in names if isinstance(each, int))
    for number, most, what in ((count, MOST_SEQUENCES, "sequences"), (steps, MOST_STEPS, "steps of all sequences")):
        if number > most:
            raise InputError(f"{names[0]} must have {most:,} {what} at most, got {number:,}")
    sizes = {"train": train, "validation": held_out, "test": held_out}
    return [draw(size, torch.Generator().manual_seed(seed(*names, part))) for part, size in sizes.items()]


def check_at_least(task: str, least: int, **options: int) -> None:
    """Raise InputError unless all options are integers that are large enough."""
    for name, value in options.items():
        if type(value) is not int or value < least:
            raise InputError(f"{name} of {task} must be an integer of at least {least}, got {value!r}")
