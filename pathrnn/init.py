"""Initialisations for ReLU recurrent networks, in place."""

import math

import torch

from pathrnn.basis import choose, put_, read
from pathrnn.graph import BIAS, ReductionGraph


@torch.no_grad()
def skeleton_ones_(graph: ReductionGraph, skeleton: str = "index") -> None:
    """Set every skeleton weight (see :class:`pathrnn.BasisPaths`) to 1, which changes the function of the network.

    Source: start of the feed-forward predecessor, G-SGD (Meng et al., ICLR 2019, arXiv 1802.03713).

    Example:
        >>> rnn, head = torch.nn.RNN(3, 3, nonlinearity="relu"), torch.nn.Linear(3, 3)
        >>> skeleton_ones_(ReductionGraph(rnn, head))
        >>> rnn.weight_ih_l0.diagonal().tolist(), head.weight.diagonal().tolist()
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    """
    chosen, tensors = choose(graph, skeleton), graph.parameters()
    for side in (chosen.ins, chosen.outs):
        put_(tensors, side, [torch.ones_like(own) for own in read(tensors, side)])


@torch.no_grad()
def identity_(graph: ReductionGraph) -> None:
    """Set recurrent weights to the identity and biases of hidden units to zero.

    Source: Le, Jaitly, Hinton 2015, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units", arXiv
    1504.00941, section 3. Deviations: the other weights stay as they are, so that they can be initialised separately.

    Example:
        >>> rnn, head = torch.nn.RNN(1, 2, nonlinearity="relu"), torch.nn.Linear(2, 1)
        >>> identity_(ReductionGraph(rnn, head))
        >>> rnn.weight_hh_l0.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    recurrent = {head for tail, head in graph.wiring() if tail == head}
    for tensor, (tail, head) in zip(graph.parameters(), graph.wiring(), strict=True):
        if tail == head:
            tensor.copy_(torch.eye(tensor.shape[-1]))
        elif tail == BIAS and head in recurrent:
            tensor.zero_()


@torch.no_grad()
def np_rnn_(graph: ReductionGraph, generator: torch.Generator | None = None) -> None:
    """Draw the np-RNN: recurrent weights positive definite with largest eigenvalue 1, all others to match, no biases.

    ``A = R^T R / n`` with ``R`` standard normal, ``U = (A + I) / e`` with ``e`` the largest eigenvalue of ``A + I``;
    ``W`` normal of deviation ``alpha / sqrt(n)``, ``alpha = sqrt(2) exp(1.2 / (max(n, 6) - 2.4))``; readout Glorot.

    Source: Talathi, Vartak 2015, "Improving performance of recurrent neural network with relu nonlinearity", arXiv
    1511.03771, section 3; ``alpha`` is the gain of Sussillo, Abbott 2014, arXiv 1412.6558, with their deviation.

    Example:
        >>> rnn, head = torch.nn.RNN(1, 8, nonlinearity="relu"), torch.nn.Linear(8, 2)
        >>> np_rnn_(ReductionGraph(rnn, head), torch.Generator().manual_seed(0))
        >>> round(torch.linalg.eigvalsh(rnn.weight_hh_l0.detach()).max().item(), 4)
        1.0
    """
    last = len(graph.widths) - 1
    for tensor, (tail, head) in zip(graph.parameters(), graph.wiring(), strict=True):
        if tail == BIAS:
            tensor.zero_()
            continue
        normal, width = torch.randn(tensor.shape, dtype=torch.float32, generator=generator), tensor.shape[-2]
        if tail == head:
            square = normal.mT @ normal / width + torch.eye(width, dtype=torch.float32)
            tensor.copy_(square / torch.linalg.eigvalsh(square)[..., -1:, None])
        else:
            alpha = math.sqrt(2) * math.exp(1.2 / (max(width, 6) - 2.4)) / math.sqrt(width)
            tensor.copy_(normal * (math.sqrt(2 / sum(tensor.shape[-2:])) if head == last else alpha))
