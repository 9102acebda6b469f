"""Representatives of a network's class under positive scaling: the balanced gauge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from pathrnn.graph import Edges, ReductionGraph, UnitValues, apply, layers_of, rescale, tensors_of

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
    return rescale([layer.map(torch.Tensor.double) for layer in edges], balancing(edges))


@torch.no_grad()
def balancing(edges: Sequence[Edges]) -> UnitValues:
    """Compute the scales, float64, that bring the weights to the balanced gauge."""
    energies = [layer.map(lambda tensor: tensor.double().square()) for layer in edges]
    for layer in energies:
        if layer.recurrent is not None:  # rescaling does not change self-loops
            layer.recurrent.diagonal(dim1=-2, dim2=-1).zero_()
    _require_both(energies)
    squares: UnitValues = [torch.ones_like(layer.forward[..., 0]) for layer in energies[:-1]]
    for _ in range(_SWEEPS):
        worst = max(float(_balance_layer_(squares, index, energies).max()) for index in range(len(squares)))
        if worst < _TOLERANCE:
            return [square.sqrt() for square in squares]
    raise ValueError(f"the balanced gauge did not converge: the imbalance must fall below {_TOLERANCE}, got {worst}")


def sweep(edges: Sequence[Edges]) -> UnitValues:
    """Compute scales, in the type of the weights, that bring all units at once closer to the balanced gauge."""
    # The minimum of the separable bound of _balance_layer_, here for the edges between layers and self-loops too: it
    # cannot raise the total squared norm either, needs nothing but sums, and is enough to stay close once balanced.
    weights = tensors_of(edges)
    energies = layers_of(torch._foreach_mul(weights, weights), edges)
    scales = []
    for layer, after in pairwise(energies):
        incoming, outgoing = layer.forward.sum(-1), after.forward.sum(-2)
        if layer.recurrent is not None:
            incoming, outgoing = incoming + layer.recurrent.sum(-1), outgoing + layer.recurrent.sum(-2)
        for bias in layer.biases:
            incoming = incoming + bias
        scale = (outgoing / incoming) ** 0.125
        scales.append(torch.where((scale > 0) & (scale < math.inf), scale, 1.0))  # 1: no weights on one side, overflow
    return scales


def _balance_layer_(squares: UnitValues, index: int, energies: Sequence[Edges]) -> Tensor:
    """Improve the squared scales of one layer, in place; return by how much, as logarithms."""
    # Two closed-form steps, neither of which can raise the total squared norm: the best common scale of the layer, then
    # for all units at once the minimum of a separable upper bound that is exact at the current scales (arithmetic above
    # geometric mean on every recurrent edge), hence the exponent 1/4 where a unit alone would take 1/2. The first step
    # removes the one slow mode of the second.
    layer, after, own = energies[index], energies[index + 1], squares[index]
    fixed = apply(layer.forward, 1 / squares[index - 1]) if index else layer.forward.sum(-1)
    fixed = (fixed + sum(layer.biases)) * own
    last = index + 1 == len(squares)
    leaving = (after.forward.sum(-2) if last else apply(after.forward.mT, squares[index + 1])) / own
    common = torch.sqrt(leaving.sum(-1, keepdim=True) / fixed.sum(-1, keepdim=True))
    own, incoming, outgoing = own * common, fixed * common, leaving / common
    if layer.recurrent is not None:
        incoming = incoming + apply(layer.recurrent, 1 / own) * own
        outgoing = outgoing + apply(layer.recurrent.mT, own) / own
    ratio = outgoing / incoming
    squares[index] = own * ratio**0.25
    return torch.maximum(common.log().abs(), ratio.log().abs())


def _require_both(energies: Sequence[Edges]) -> None:
    for index, (layer, after) in enumerate(pairwise(energies), start=1):
        own = torch.zeros_like(layer.forward[..., :1]) if layer.recurrent is None else layer.recurrent
        incoming = layer.forward.sum(-1) + sum(layer.biases) + own.sum(-1)
        outgoing = after.forward.sum(-2) + (0 if layer.recurrent is None else own.sum(-2))
        for side, energy in (("incoming", incoming), ("outgoing", outgoing)):
            bad = ~torch.isfinite(energy) | (energy <= 0)
            if bool(bad.any()):
                *_, unit = bad.nonzero()[0].tolist()
                raise ValueError(
                    f"unit {unit} in hidden layer {index} must have nonzero, finite {side} weights (self-loops apart), "
                    f"got a sum of squares of {energy[bad][0].item()}"
                )
