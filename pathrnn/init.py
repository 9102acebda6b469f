"""Initialisations for ReLU recurrent networks, in place."""

from __future__ import annotations

import torch

from pathrnn import skeleton as skeletons
from pathrnn.graph import ReductionGraph


@torch.no_grad()
def skeleton_ones_(graph: ReductionGraph, skeleton: str = "index") -> None:
    """Set every skeleton weight to 1; all skeleton path values become 1. This changes the function of the network.

    Args:
        graph: the network; its parameters are written.
        skeleton: ``"index"`` or ``"magnitude"``, as in :class:`pathrnn.BasisPaths`.

    Raises:
        ValueError: an unknown skeleton.

    Source: start of the feed-forward predecessor, G-SGD (Meng et al., ICLR 2019, arXiv 1802.03713).

    Example:
        >>> from torch import nn
        >>> rnn, head = nn.RNN(3, 3, nonlinearity="relu"), nn.Linear(3, 3)
        >>> skeleton_ones_(ReductionGraph(rnn, head))
        >>> rnn.weight_ih_l0.diagonal().tolist(), head.weight.diagonal().tolist()
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    """
    chosen = skeletons.choose(graph.edges(), skeleton)
    tensors = graph.parameters()
    ones = [torch.ones_like(source, dtype=tensors[0].dtype) for source in chosen.source]
    skeletons.put_in_(tensors, chosen, ones)
    skeletons.put_out_(tensors, chosen, ones)


@torch.no_grad()
def identity_(graph: ReductionGraph) -> None:
    """Set recurrent weights to the identity and biases of hidden units to zero.

    Source: Le, Jaitly, Hinton 2015, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units",
    arXiv 1504.00941, section 3.

    Deviations: the other weights stay as they are, so that they can be initialised separately.

    Example:
        >>> from torch import nn
        >>> rnn, head = nn.RNN(1, 2, nonlinearity="relu"), nn.Linear(2, 1)
        >>> identity_(ReductionGraph(rnn, head))
        >>> rnn.weight_hh_l0.tolist(), rnn.bias_ih_l0.tolist()
        ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    """
    for layer in graph.edges():
        if layer.recurrent is not None:
            layer.recurrent.copy_(torch.eye(layer.recurrent.shape[-1]))
            for bias in layer.biases:
                bias.zero_()
