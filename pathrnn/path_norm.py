"""The path norm of the unrolled network: what Path-SGD divides by, and the path-conditioned gauge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pathrnn.gauge import balance_
from pathrnn.graph import Edges, ReductionGraph, apply, factors, tensors_of


_WOLFE = "strong_wolfe"


@torch.enable_grad()
def kappa(edges: Sequence[Edges], steps: int, second_term: bool) -> tuple[list[Tensor], list[Tensor]]:
    r"""Compute both terms of ``kappa = (1/2) d^2 gamma^2 / dw^2`` for every weight, float64.

    ``gamma^2`` is the sum of squared path values of the network unrolled for ``steps`` steps, read at the last: its
    output on inputs of one, with squared weights. By each squared weight it has the derivative ``kappa^(1)`` and, since
    a weight stands at every step, twice the second derivative times the squared weight is ``kappa^(2)``.

    Args:
        edges: weights, as layers of edges.
        steps: number of time steps, T.
        second_term: whether to compute ``kappa^(2)``; zeros if not.

    Returns:
        ``kappa^(1)`` and ``kappa^(2)``, one tensor per parameter.

    Source: Neyshabur et al. 2016, arXiv 1605.07154, theorem 1; the algorithm for the second term is ours.
    """
    squares = [layer.map(lambda tensor: tensor.detach().double().square().requires_grad_()) for layer in edges]
    sequence = [torch.ones_like(squares[0].forward[..., 0, :])] * steps
    states = []
    for layer in squares[:-1]:
        inputs, sequence = sequence, []
        for step, each in enumerate(inputs):
            state = apply(layer.forward, each) + sum(layer.biases)
            if layer.recurrent is not None:
                state = state + apply(layer.recurrent, sequence[-1] if step else torch.zeros_like(state))
            sequence.append(state)
        states.append(sequence)
    output = (apply(squares[-1].forward, sequence[-1]) + sum(squares[-1].biases)).sum()
    leaves = tensors_of(squares)
    asked = [state for layer in states for state in layer] if second_term else []
    gradients = torch.autograd.grad(output, [*leaves, *asked], materialize_grads=True)
    first, second = list(gradients[: len(leaves)]), [torch.zeros_like(leaf) for leaf in leaves]
    places = {id(leaf): place for place, leaf in enumerate(leaves)}
    for number, layer in enumerate(squares[:-1] if second_term else []):
        if layer.recurrent is not None:
            start = len(leaves) + number * steps
            reaching = [state.detach() for state in states[number]]
            twice = _twice(layer.recurrent.detach(), reaching, gradients[start : start + steps])
            second[places[id(layer.recurrent)]] = 4 * layer.recurrent.detach() * twice
    return first, second


def _twice(matrix: Tensor, reaching: Sequence[Tensor], leading: Sequence[Tensor]) -> Tensor:
    """Sum over pairs of steps the squared mass of paths that use an edge at both, but for its own two weights."""
    # An edge u -> v at step s and again gap steps later: into u before s, from v back to u in gap - 1 steps, on from v.
    total, power = torch.zeros_like(matrix), torch.eye(matrix.shape[-1]).to(matrix)
    for gap in range(1, len(reaching) - 1):
        pairs = zip(reaching[: -1 - gap], leading[1 + gap :], strict=True)
        total += sum(after.unsqueeze(-1) * before.unsqueeze(-2) for before, after in pairs) * power.mT
        power = matrix @ power
    return total


def path_condition_(graph: ReductionGraph, steps: int = 2) -> None:
    r"""Rescale the network, in place, to the path-conditioned gauge; its function does not change.

    With ``d = diag(dPhi^T dPhi)`` for the lifting ``Phi`` of the weights to all path values, this is the rescaling that
    brings ``d`` closest to a multiple of ones: the least :math:`m \log \sum_e d_e - \sum_e \log d_e`.

    Args:
        graph: the network.
        steps: unroll the network for so many steps, so that the paths are finite in number.

    Raises:
        ValueError: ``steps < 1``, or a unit without incoming or outgoing weight.

    Source: Lebeurrier, Vayer, Gribonval 2026, "Path-conditioned training", arXiv 2602.19799. Deviations: recurrent
    graphs; the convex problem is solved by L-BFGS from the balanced gauge instead of unit by unit.

    Example:
        >>> from torch import nn
        >>> rnn, head = nn.RNN(1, 1, nonlinearity="relu", bias=False), nn.Linear(1, 1, bias=False)
        >>> with torch.no_grad():
        ...     rnn.weight_ih_l0.fill_(8.0), head.weight.fill_(2.0)
        (...)
        >>> path_condition_(ReductionGraph(rnn, head))
        >>> rnn.weight_ih_l0.item(), head.weight.item()
        (4.0, 4.0)
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    balance_(graph)
    edges = graph.edges()
    first, second = kappa(edges, steps, second_term=True)
    curvature = [one + two / 2 for one, two in zip(first, second, strict=True)]
    logs = [torch.zeros_like(layer.forward[..., 0], dtype=torch.float64, requires_grad=True) for layer in edges[:-1]]
    solver = torch.optim.LBFGS(logs, max_iter=1000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn=_WOLFE)

    def misfit() -> Tensor:
        """Mean over all weights, so that the tolerance has the same meaning for any network."""
        scales = [log.exp() for log in logs]  # phi squared
        change = factors(edges, scales, [1 / scale for scale in scales])
        scaled = [own * by for own, by in zip(curvature, change, strict=True)]
        spread = sum(by.expand_as(own).log().sum() for own, by in zip(curvature, change, strict=True))
        loss = sum(own.sum() for own in scaled).log() - spread / sum(own.numel() for own in curvature)
        solver.zero_grad()
        loss.backward()
        return loss

    solver.step(misfit)
    graph.rescale_([(log.detach() / 2).exp() for log in logs])
