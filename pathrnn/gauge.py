"""Representatives of a network's class under positive scaling: the balanced gauge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pathrnn.graph import Edges, ReductionGraph, UnitValues, rescale, tensors_of

_TOLERANCE = 1e-13
"""Largest |log(outgoing / incoming)| of a unit that counts as balanced; the sums themselves round at about 1e-15."""

_SWEEPS = 10_000
"""About a hundred times what usual starts need; a network that is not balanced by then has no balanced gauge."""


def balance_(graph: ReductionGraph) -> None:
    """Rescale the network, in place, to equal squared norms of incoming and outgoing weights at every hidden unit.

    Self-loops are left out (rescaling cannot change them). The result is the unique minimiser of the total squared
    norm over all positive rescalings, so any two networks that differ by a rescaling end up equal. The function of the
    network does not change.

    Raises:
        ValueError: a unit without incoming or without outgoing weight, or weights that are not finite.

    Source: ours; the optimality condition is Osborne's matrix balancing (1960) on the reduction graph.

    Example:
        >>> from torch import nn
        >>> rnn, head = nn.RNN(1, 1, nonlinearity="relu", bias=False), nn.Linear(1, 1, bias=False)
        >>> with torch.no_grad():
        ...     rnn.weight_ih_l0.fill_(8.0), head.weight.fill_(2.0)
        (...)
        >>> balance_(ReductionGraph(rnn, head))
        >>> rnn.weight_ih_l0.item(), head.weight.item()
        (4.0, 4.0)
    """
    graph.write_(tensors_of(balanced(graph.edges())))


@torch.no_grad()
def balanced(edges: Sequence[Edges]) -> list[Edges]:
    """Return the balanced gauge of the weights as float64 copies."""
    weights = [layer.map(lambda tensor: tensor.detach().double()) for layer in edges]
    energies = [_energy(layer) for layer in weights]
    squares: UnitValues = [torch.ones_like(layer.forward[..., 0]) for layer in weights[:-1]]
    for _ in range(_SWEEPS):
        worst = max(_balance_layer_(squares, index, energies) for index in range(len(squares)))
        if worst < _TOLERANCE:
            break
    else:
        raise ValueError(
            f"the balanced gauge did not converge: the imbalance must fall below {_TOLERANCE}, got {worst}"
        )
    return rescale(weights, [square.sqrt() for square in squares])


def _balance_layer_(squares: UnitValues, index: int, energies: Sequence[Edges]) -> float:
    """Improve the squared scales of one layer, in place; return how unbalanced it was, as a logarithm."""
    # Two closed-form steps, neither of which can raise the total squared norm: the best common scale of the layer, then
    # for all units at once the minimum of a separable upper bound that is exact at the current scales (arithmetic above
    # geometric mean on every recurrent edge), hence the exponent 1/4 where a unit alone would take 1/2. The first step
    # removes the one slow mode of the second.
    layer, after, own = energies[index], energies[index + 1], squares[index]
    before = 1 / squares[index - 1] if index else None
    beyond = squares[index + 1] if index + 1 < len(squares) else None
    fixed = (_product(layer.forward, before) + sum(layer.biases)) * own
    leaving = _product(after.forward.mT, beyond) / own
    common = torch.sqrt(leaving.sum(-1, keepdim=True) / fixed.sum(-1, keepdim=True))
    own, incoming, outgoing = own * common, fixed * common, leaving / common
    if layer.recurrent is not None:
        incoming = incoming + _product(layer.recurrent, 1 / own) * own
        outgoing = outgoing + _product(layer.recurrent.mT, own) / own
    _require_both(index + 1, incoming, outgoing)
    ratio = outgoing / incoming
    squares[index] = own * ratio**0.25
    return max(float(common.log().abs().max()), float(ratio.log().abs().max()))


def _energy(layer: Edges) -> Edges:
    """Squared weights, self-loops left out."""
    squared = layer.map(torch.square)
    if squared.recurrent is not None:
        squared.recurrent.diagonal(dim1=-2, dim2=-1).zero_()
    return squared


def _product(matrix: Tensor, vector: Tensor | None) -> Tensor:
    return matrix.sum(-1) if vector is None else (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _require_both(index: int, incoming: Tensor, outgoing: Tensor) -> None:
    for side, energy in (("incoming", incoming), ("outgoing", outgoing)):
        bad = ~torch.isfinite(energy) | (energy <= 0)
        if bool(bad.any()):
            *_, unit = bad.nonzero()[0].tolist()
            raise ValueError(
                f"unit {unit} in hidden layer {index} must have nonzero, finite {side} weights (self-loops apart), "
                f"got a sum of squares of {energy[bad][0].item()}"
            )
