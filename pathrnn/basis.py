"""The Skeleton Method: basis paths of a reduction graph, their values and gradients, weight allocation, incidence.

Every hidden unit owns an in-skeleton and an out-skeleton edge. Every edge that is not the out-skeleton edge of its tail
owns a basis path: the in-skeleton edges that lead to its tail, itself, the out-skeleton edges on from its head.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pathrnn.gauge import balanced
from pathrnn.graph import ReductionGraph, UnitValues, Wire, factors, flatten, outgoing, require_nonzero, unflatten

_TIE = 1e-6  # magnitudes this close (relatively) count as equal, lest rounding break ties differently after rescaling


class Entries(NamedTuple):
    """An entry of a matrix per hidden unit: its place along axis ``dim`` of tensor number ``places[l]``."""

    places: list[int]
    dim: int
    units: list[Tensor]


class Skeleton(NamedTuple):
    """The chosen edges; ``free``, bool ``[*R, n_l]`` per layer: the in-skeleton edge is no unit's out-skeleton edge."""

    ins: Entries
    outs: Entries
    free: list[Tensor]


def choose(graph: ReductionGraph, kind: str) -> Skeleton:
    """Select by index, ``v`` to ``v mod n``, or by magnitude in the balanced gauge, which makes it an invariant."""
    if kind not in {"index", "magnitude"}:
        raise ValueError(f"skeleton must be one of ['index', 'magnitude'], got {kind!r}")
    pick, tensors = (_by_index, graph.parameters()) if kind == "index" else (_by_magnitude, balanced(graph))
    matrices = [tensors[place] for place in _forward(graph.wiring())]
    return from_choice(graph.wiring(), [pick(m) for m in matrices[:-1]], [pick(m.mT) for m in matrices[1:]])


def from_choice(wiring: Sequence[Wire], source: Sequence[Tensor], target: Sequence[Tensor]) -> Skeleton:
    """Complete any choice of the unit before and the unit after every hidden unit, int64 ``[*R, n_l]`` per layer."""
    free, places = [torch.ones_like(source[0], dtype=torch.bool)], _forward(wiring)
    for before, own in zip(target, source[1:], strict=False):
        free.append(before.gather(-1, own) != torch.arange(own.shape[-1], device=own.device))
    ins = Entries(places[:-1], -1, [own.unsqueeze(-1) for own in source])
    return Skeleton(ins, Entries(places[1:], -2, [own.unsqueeze(-2) for own in target]), free)


def read(tensors: Sequence[Tensor], entries: Entries) -> UnitValues:
    """Read the entry of every hidden unit."""
    pairs = zip(entries.places, entries.units, strict=True)
    return [tensors[place].gather(entries.dim, index).squeeze(entries.dim) for place, index in pairs]


def put_(tensors: Sequence[Tensor], entries: Entries, values: UnitValues) -> None:
    """Write the entry of every hidden unit, in place."""
    for place, index, value in zip(entries.places, entries.units, values, strict=True):
        tensors[place].scatter_(entries.dim, index, value.unsqueeze(entries.dim))


def without(tensors: Sequence[Tensor], entries: Entries) -> list[Tensor]:
    """Put zero in place of the entries, in copies."""
    result = list(tensors)
    for place, index in zip(entries.places, entries.units, strict=True):
        result[place] = result[place].scatter(entries.dim, index, 0)
    return result


def prefixes(ins: UnitValues, skeleton: Skeleton, wanted: UnitValues | None = None) -> UnitValues:
    """Multiply a number per in-skeleton edge along the way to every hidden unit, ``p``; as wanted where it is free."""
    products = [(wanted or ins)[0]]
    for layer in range(1, len(ins)):
        product = ins[layer] * products[-1].gather(-1, skeleton.ins.units[layer].squeeze(-1))
        products.append(torch.where(skeleton.free[layer], wanted[layer], product) if wanted else product)
    return products


def suffixes(outs: UnitValues, skeleton: Skeleton) -> UnitValues:
    """Multiply a number per out-skeleton edge along the way from every hidden unit: ``q`` from weights."""
    products = [outs[-1]]
    for own, target in zip(outs[-2::-1], skeleton.outs.units[-2::-1], strict=True):
        products.append(own * products[-1].gather(-1, target.squeeze(-2)))
    return products[::-1]


def _forward(wiring: Sequence[Wire]) -> list[int]:
    return [place for place, (tail, head) in enumerate(wiring) if 0 <= tail < head]


def _by_index(matrix: Tensor) -> Tensor:
    rows, columns = matrix.shape[-2:]
    return (torch.arange(rows, device=matrix.device) % columns).expand(matrix.shape[:-1])


def _by_magnitude(matrix: Tensor) -> Tensor:
    near = matrix.abs() >= (1 - _TIE) * matrix.abs().amax(-1, keepdim=True)
    return near.to(torch.uint8).argmax(-1)


def skeleton_flows(
    tensors: Sequence[Tensor], grads: Sequence[Tensor], wiring: Sequence[Wire], skeleton: Skeleton
) -> UnitValues:
    """Return path value times path gradient of each unit's skeleton path; 0 where it is not free."""
    # With F_e = w_e dL/dw_e, zero for out-skeleton edges: the flow of the in-skeleton edge of v, less that of all other
    # basis paths that begin with the same edges: of edges that leave v, or a unit that v feeds by an edge that is both.
    ins = map(torch.mul, read(tensors, skeleton.ins), read(grads, skeleton.ins))
    flows, through = list(map(torch.mul, tensors, grads)), UnitValues()
    for layer in reversed(range(len(skeleton.free))):
        through.insert(0, outgoing(flows, wiring, layer + 1))
        if layer + 1 < len(skeleton.free):
            source = skeleton.ins.units[layer + 1].squeeze(-1)
            through[0] = through[0].scatter_add(-1, source, through[1] * ~skeleton.free[layer + 1])
    return [(own - less) * free for own, less, free in zip(ins, through, skeleton.free, strict=True)]


class BasisPaths:
    """The ``m - H`` basis paths that the Skeleton Method finds; path space has their values as coordinates.

    Args:
        graph: the network. It is read at each call, the skeleton is chosen once. Order: the edge order of the graph.
        skeleton: ``"index"``, the rule of the feed-forward predecessor, which joins unit ``v`` to unit ``v mod n`` of
            the neighbour layer, or ``"magnitude"``, the largest weights in the balanced gauge.

    Raises:
        ValueError: an unknown skeleton, or a skeleton weight that is zero or not finite.

    Source: Skeleton Method of G-SGD (Meng et al., ICLR 2019, arXiv 1802.03713), reconstructed for recurrent graphs of
    any widths. Deviations: the predecessor's public code freezes more than H weights where layers widen.

    Example:
        >>> rnn, head = torch.nn.RNN(3, 5, nonlinearity="relu"), torch.nn.Linear(5, 2)
        >>> basis = BasisPaths(ReductionGraph(rnn, head))
        >>> basis.count, tuple(basis.values().shape), tuple(basis.incidence().shape)
        (57, (57,), (57, 62))
        >>> target = 2 * basis.values()  # twice the function: every path counts double
        >>> basis.assign_(target)
        >>> torch.testing.assert_close(basis.values(), target)
    """

    def __init__(self, graph: ReductionGraph, skeleton: str = "index") -> None:
        self.graph = graph
        self.skeleton = choose(graph, skeleton)
        self._products(graph.parameters())

    @property
    def count(self) -> int:
        """Number of basis paths, ``m - H``."""
        return self.graph.num_weights - self.graph.num_hidden

    def values(self) -> Tensor:
        """Return the path values ``v_e = p(u) w_e q(v)``, ``[*R, m - H]``."""
        return self._values(self.graph.parameters()).detach()

    @torch.no_grad()
    def gradients(self) -> Tensor:
        """Return ``dL/dv``, ``[*R, m - H]``, from the ``.grad`` of the weights; the loss must not penalise weights."""
        tensors, wiring = self.graph.parameters(), self.graph.wiring()
        p, q = self._products(tensors)
        grads = without(unflatten(self.graph.gradients(), tensors), self.skeleton.outs)
        flows = skeleton_flows(tensors, grads, wiring, self.skeleton)
        slopes = torch._foreach_div(grads, factors(wiring, p, q))
        put_(slopes, self.skeleton.ins, [flow / (a * b) for flow, a, b in zip(flows, p, q, strict=True)])
        return self._select(slopes)

    @torch.no_grad()
    def assign_(self, values: Tensor) -> None:
        """Write the weights that have the given path values (weight allocation); out-skeleton weights stay.

        Raises:
            ValueError: a wrong shape, a value that is not finite, or a skeleton path value of zero.
        """
        tensors, owns, chosen = self.graph.parameters(), self._owners(), self.skeleton
        if values.shape != (expected := (*owns.shape[:-1], self.count)):
            raise ValueError(f"values must have shape {expected}, one per basis path, got {tuple(values.shape)}")
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"values must be finite, got {values[~torch.isfinite(values)][0].item()}")
        new = unflatten(self.graph.weights().masked_scatter(owns, values.to(tensors[0])), tensors)
        paths, (_, q), outs = read(new, chosen.ins), self._products(tensors), read(tensors, chosen.outs)
        for layer, (path, free) in enumerate(zip(paths, chosen.free, strict=True), start=1):
            if bool((free & (path == 0)).any()):
                raise ValueError(f"values of skeleton paths must be nonzero, got 0.0 for one into hidden layer {layer}")
        p = prefixes(read(tensors, chosen.ins), chosen, list(map(torch.div, paths, q)))
        torch._foreach_copy_(tensors, torch._foreach_div(new, factors(self.graph.wiring(), p, q)))
        put_(tensors, chosen.outs, outs)

    def incidence(self) -> Tensor:
        """Count how often each path uses each edge: sparse int64 ``[m - H, m]``, by way of a dense one of that size."""
        # With weights of one, the derivative of a product by a weight is the number of times it is a factor.
        tensors = self.graph.parameters()
        if tensors[0].dim() > 2:
            raise ValueError(f"incidence needs a graph without replica axes, got {tuple(tensors[0].shape[:-2])}")
        jacobian = torch.func.jacrev(lambda weights: self._values(unflatten(weights, tensors)))
        return jacobian(torch.ones_like(self.graph.weights())).long().to_sparse()  # type: ignore[no-any-return]

    def _values(self, tensors: Sequence[Tensor]) -> Tensor:
        return self._select(list(map(torch.mul, tensors, factors(self.graph.wiring(), *self._products(tensors)))))

    def _products(self, tensors: Sequence[Tensor]) -> tuple[UnitValues, UnitValues]:
        """Return the prefix products ``p`` and suffix products ``q`` of all hidden units."""
        ins, outs = read(tensors, self.skeleton.ins), read(tensors, self.skeleton.outs)
        require_nonzero("in-skeleton weight", ins)
        require_nonzero("out-skeleton weight", outs)
        return prefixes(ins, self.skeleton), suffixes(outs, self.skeleton)

    def _owners(self) -> Tensor:
        """Mark the edges that own a basis path, bool ``[*R, m]``."""
        ones = [torch.ones_like(tensor) for tensor in self.graph.parameters()]
        return flatten(without(ones, self.skeleton.outs)) != 0

    def _select(self, tensors: Sequence[Tensor]) -> Tensor:
        owns = self._owners()
        return flatten(tensors)[owns].reshape(*owns.shape[:-1], self.count)
