"""Representatives of a network's class under positive scaling: the balanced gauge."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pathrnn.graph import ReductionGraph, UnitValues, Wire, incoming, outgoing, scale_factors

_TOLERANCE = 1e-13  # of |log(phi^2)| in a sweep; the sums themselves round at about 1e-15
_SWEEPS = 10_000  # a hundred times what usual starts need; a network not balanced by then has no balanced gauge


@torch.no_grad()
def balance_(graph: ReductionGraph) -> None:
    """Rescale the network, in place, to equal squared norms of incoming and outgoing weights at every hidden unit.

    Self-loops are left out. Of all positive rescalings, which do not change the function, this has the least total
    squared norm, so networks that differ by one end up equal. A unit that is not reached from an input or a bias, or
    reaches no output, is a ValueError. Source: ours, after Osborne's matrix balancing (1960).

    Example:
        >>> rnn, head = torch.nn.RNN(1, 1, nonlinearity="relu", bias=False), torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(rnn.weight_ih_l0, 8.0), torch.nn.init.constant_(head.weight, 2.0)
        >>> balance_(ReductionGraph(rnn, head))
        >>> rnn.weight_ih_l0.item(), head.weight.item()
        (4.0, 4.0)
    """
    torch._foreach_copy_(graph.parameters(), balanced(graph))


@torch.no_grad()
def balanced(graph: ReductionGraph) -> list[Tensor]:
    """Return the weights in the balanced gauge, as float64 copies."""
    doubles = [tensor.double() for tensor in graph.parameters()]
    return list(torch._foreach_mul(doubles, scale_factors(graph.wiring(), balancing(graph))))


@torch.no_grad()
def balancing(graph: ReductionGraph) -> UnitValues:
    """Compute the scales, float64, that bring the weights to the balanced gauge."""
    wiring, layers = graph.wiring(), range(1, len(graph.widths) - 1)
    energies = [tensor.double().square() for tensor in graph.parameters()]
    for energy, (tail, head) in zip(energies, wiring, strict=True):
        if tail == head:
            energy.diagonal(dim1=-2, dim2=-1).zero_()
    squares = [torch.ones_like(incoming(energies, wiring, layer)) for layer in layers]
    for _ in range(_SWEEPS):
        drifts = []
        for layer in layers:
            change = _improvement(energies, wiring, layer)
            squares[layer - 1] *= change
            for energy, (tail, head) in zip(energies, wiring, strict=True):
                energy.mul_(change.unsqueeze(-1) if tail >= 0 else change) if head == layer else None
                energy.div_(change.unsqueeze(-2)) if tail == layer else None
            drifts.append(change.log().abs().nan_to_num(math.inf, math.inf))
        worst = max(float(drift.max()) for drift in drifts)
        if worst < _TOLERANCE:
            return [square.sqrt() for square in squares]
        if worst == math.inf:
            break
    layer, drift = max(enumerate(drifts, 1), key=lambda pair: float(pair[1].max()))
    rule = "every hidden unit must be reached from an input or a bias, and reach an output, by nonzero, finite weights"
    raise ValueError(f"{rule}, got none for unit {int(drift.argmax()) % drift.shape[-1]} in hidden layer {layer}")


def sweep(graph: ReductionGraph) -> UnitValues:
    """Compute scales, in the type of the weights, that bring all units at once closer to the balanced gauge."""
    wiring, energies = graph.wiring(), [tensor.square() for tensor in graph.parameters()]
    scales = [_improvement(energies, wiring, layer).sqrt() for layer in range(1, wiring[-1].head)]
    return [torch.where(torch.isfinite(s) & (s > 0), s, 1.0) for s in scales]  # 1: no weights on one side, overflow


def _improvement(energies: Sequence[Tensor], wiring: Sequence[Wire], layer: int) -> Tensor:
    """Return the factor on the squared scales of a layer that brings it closer to balance."""
    # Neither step can raise the total squared norm: the best common scale of the layer, the one slow mode of the other,
    # then for all units at once the minimum of a separable upper bound that is exact at the current scales (arithmetic
    # above geometric mean on every recurrent edge), hence the exponent 1/4 where a unit alone would take 1/2.
    pairs = list(zip(energies, wiring, strict=True))
    rest, wires = zip(*[pair for pair in pairs if pair[1].tail != pair[1].head], strict=True)
    into, out = incoming(rest, wires, layer), outgoing(rest, wires, layer)
    common = torch.sqrt(out.sum(-1, keepdim=True) / into.sum(-1, keepdim=True))
    into, out = into * common, out / common
    for energy, (tail, head) in pairs:
        if tail == head == layer:
            into, out = into + energy.sum(-1), out + energy.sum(-2)
    return common * (out / into) ** 0.25
