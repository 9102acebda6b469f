"""Initialisations for ReLU recurrent networks, in place."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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


@torch.no_grad()
def np_rnn_(graph: ReductionGraph, generator: torch.Generator | None = None) -> None:
    r"""Draw the np-RNN: recurrent weights positive definite with largest eigenvalue 1, all others to match, no biases.

    ``A = R^T R / n`` with ``R`` standard normal, ``U = (A + I) / e`` with ``e`` the largest eigenvalue of ``A + I``;
    ``W = alpha S / n`` with ``S`` standard normal and ``alpha = sqrt(2) exp(1.2 / (max(n, 6) - 2.4))``, so that its
    entries have standard deviation ``alpha / sqrt(n)``; the readout is Glorot normal.

    Source: Talathi, Vartak 2015, "Improving performance of recurrent neural network with relu nonlinearity",
    arXiv 1511.03771, section 3.

    Example:
        >>> from torch import nn
        >>> rnn, head = nn.RNN(1, 8, nonlinearity="relu"), nn.Linear(8, 2)
        >>> np_rnn_(ReductionGraph(rnn, head), torch.Generator().manual_seed(0))
        >>> round(torch.linalg.eigvalsh(rnn.weight_hh_l0.detach()).max().item(), 4)
        1.0
    """
    *hidden, readout = graph.edges()
    for layer in hidden:
        width = layer.forward.shape[-2]
        if layer.recurrent is not None:
            normal = _normal(layer.recurrent, generator)
            matrix = normal.mT @ normal / width + torch.eye(width).to(normal)
            layer.recurrent.copy_(matrix / torch.linalg.eigvalsh(matrix)[..., -1:, None])
        alpha = math.sqrt(2) * math.exp(1.2 / (max(width, 6) - 2.4))
        layer.forward.copy_(_normal(layer.forward, generator) * alpha / math.sqrt(width))
    nn.init.xavier_normal_(readout.forward, generator=generator)
    for layer in graph.edges():
        for bias in layer.biases:
            bias.zero_()


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, dtype=torch.float32, generator=generator).to(like.device)
