"""How a ReLU network starts; networks of other units start as torch initialises them."""

from __future__ import annotations

import torch

import pathrnn
from pathrnn.graph import BIAS


def default_(graph: pathrnn.ReductionGraph) -> None:
    """Leave the network as torch initialises it."""


def balanced_(graph: pathrnn.ReductionGraph) -> None:
    """Rescale the default of torch to least norm, which leaves its function as it is."""
    pathrnn.balance_(graph)


@torch.no_grad()
def identity_(graph: pathrnn.ReductionGraph, input_scale: float = 1.0) -> None:
    """Set recurrent weights to the identity, hidden biases to 0 (IRNN); scale weights from below by ``input_scale``."""
    pathrnn.init.identity_(graph)
    for tensor, (tail, head) in zip(graph.parameters(), graph.wiring(), strict=True):
        if tail not in {BIAS, head} and head < len(graph.widths) - 1:
            tensor.mul_(input_scale)
