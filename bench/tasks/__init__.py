"""Tasks: one file each. A task is data in three splits, a loss, and a metric with a direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Split(NamedTuple):
    """Inputs ``[sequences, steps, features]`` and what to predict at the last step."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Task:
    """What a network has to learn.

    Attributes:
        outputs: number of outputs at the last step.
        loss: mean loss of outputs ``[batch, outputs]`` and targets; differentiable.
        metric: the number that is reported, of the same arguments.
        metric_name: its name and unit.
        higher_is_better: direction of the metric.
        train: sequences to learn from.
        validation: sequences to choose learning rates by.
        test: sequences that are used once, at the end of a run.
    """

    outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Callable[[Tensor, Tensor], Tensor]
    metric_name: str
    higher_is_better: bool
    train: Split
    validation: Split
    test: Split

    @property
    def inputs(self) -> int:
        """Features per step."""
        return self.train.inputs.shape[-1]


def classification(classes: int, train: Split, validation: Split, test: Split) -> Task:
    """Classify whole sequences: cross entropy, accuracy in per cent."""
    return Task(classes, functional.cross_entropy, accuracy, "accuracy [%]", True, train, validation, test)


def accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Share of correct labels, in per cent."""
    return 100 * (outputs.argmax(-1) == labels).double().mean()


def shuffled(split: Split, sizes: list[int], seed: int) -> list[Split]:
    """Shuffle by a fixed seed and cut into parts of the given sizes."""
    order = torch.randperm(len(split.inputs), generator=torch.Generator().manual_seed(seed))
    return [Split(split.inputs[part], split.targets[part]) for part in torch.split(order, sizes)]
