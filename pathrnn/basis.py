"""Basis paths of a reduction graph: values, gradients, weight allocation, incidence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pathrnn import coordinates
from pathrnn import skeleton as skeletons
from pathrnn.graph import ReductionGraph, flatten, layers_of, unflatten


class BasisPaths:
    """The ``m - H`` basis paths that the Skeleton Method finds; path space has their values as coordinates.

    There is one basis path per edge that is not the out-skeleton edge of its tail: the in-skeleton edges that lead to
    the edge, the edge, the out-skeleton edges that lead on. Order: the edge order of the graph.

    Args:
        graph: the network. It is read at each call, the skeleton is chosen once.
        skeleton: ``"index"``, the rule of the feed-forward predecessor, or ``"magnitude"``, the largest weights in the
            balanced gauge.

    Raises:
        ValueError: an unknown skeleton, or a skeleton weight that is zero or not finite.

    Source: Skeleton Method of G-SGD (Meng et al., ICLR 2019, arXiv 1802.03713), reconstructed for recurrent graphs of
    any widths.

    Deviations: the predecessor's public code freezes more than H weights where layers widen; this construction has
    ``m - H`` basis paths always.

    Example:
        >>> from torch import nn
        >>> rnn, head = nn.RNN(3, 5, nonlinearity="relu"), nn.Linear(5, 2)
        >>> basis = BasisPaths(ReductionGraph(rnn, head))
        >>> basis.count, tuple(basis.values().shape), tuple(basis.incidence().shape)
        (57, (57,), (57, 62))
        >>> target = 2 * basis.values()  # twice the function: every path counts double
        >>> basis.assign_(target)
        >>> torch.testing.assert_close(basis.values(), target)
    """

    def __init__(self, graph: ReductionGraph, skeleton: str = "index") -> None:
        self.graph = graph
        self.skeleton = skeletons.choose(graph.edges(), skeleton)
        skeletons.require_nonzero(graph.parameters(), self.skeleton)
        self._owns = self._owners()

    @property
    def count(self) -> int:
        """Number of basis paths, ``m - H``."""
        return self.graph.num_weights - self.graph.num_hidden

    @torch.no_grad()
    def values(self) -> Tensor:
        """Return the path values ``v_e = p(u) w_e q(v)``, ``[*R, m - H]``."""
        return self._select(torch._foreach_mul(self.graph.parameters(), self._frame().factors))

    @torch.no_grad()
    def gradients(self) -> Tensor:
        """Return ``dL/dv``, ``[*R, m - H]``, from the ``.grad`` of the weights: the ``gamma`` of ``J^T gamma = g``."""
        # It exists only if the loss sees the weights through the network's function: no penalty on weights inside it.
        tensors, grads, at = self.graph.parameters(), self.graph.grads(), self._frame()
        result = coordinates.gradients(grads, at)
        skeletons.put_in_(result, self.skeleton, coordinates.skeleton_gradients(tensors, grads, at))
        return self._select(result)

    @torch.no_grad()
    def assign_(self, values: Tensor) -> None:
        """Write the weights that have the given path values (weight allocation); out-skeleton weights stay.

        Args:
            values: ``[*R, m - H]``; skeleton path values must be nonzero.

        Raises:
            ValueError: a wrong shape, a value that is not finite, or a skeleton path value of zero; nothing is written.
        """
        tensors, at = self.graph.parameters(), self._frame()
        if values.shape != (*self._owns.shape[:-1], self.count):
            expected = (*self._owns.shape[:-1], self.count)
            raise ValueError(f"values must have shape {expected}, one per basis path, got {tuple(values.shape)}")
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"values must be finite, got {values[~torch.isfinite(values)][0].item()}")
        new = unflatten(self.graph.weights().masked_scatter(self._owns, values.to(tensors[0])), tensors)
        ratios = [path / old for path, old in zip(skeletons.read(new, self.skeleton)[0], at.paths, strict=True)]
        for layer, (ratio, free) in enumerate(zip(ratios, self.skeleton.free, strict=True), start=1):
            if bool((free & (ratio == 0)).any()):
                raise ValueError(
                    f"values of skeleton paths must be nonzero, got 0.0 for a path into hidden layer {layer}"
                )
        self.graph.write_(torch._foreach_div(new, at.factors))
        coordinates.allocate_(tensors, ratios, at)

    def incidence(self) -> Tensor:
        """Count how often each path uses each edge: sparse int64 ``[m - H, m]``, columns in edge order."""
        if self._owns.dim() != 1:
            raise ValueError(f"incidence needs a graph without replica axes, got axes {tuple(self._owns.shape[:-1])}")
        numbers = unflatten(torch.arange(self.graph.num_weights, device=self._owns.device), self.graph.parameters())
        before, after = self._chains(numbers)
        paths = []
        for index, layer in enumerate(layers_of(numbers, self.graph.edges())):
            tails = [before[index], *before[index + 1 : index + 2], *[before[0][:1]] * len(layer.biases)]
            paths += [_paths(own, tail, after[index + 1]) for own, tail in zip(layer.tensors(), tails, strict=True)]
        edges = torch.cat([torch.stack([own[:, :1].expand_as(own), own]).flatten(1) for own in paths], dim=1)
        owner, edge = edges[:, self._owns[edges[0]]]
        indices = torch.stack([(torch.cumsum(self._owns, 0) - 1)[owner], edge])
        size = (self.count, self.graph.num_weights)
        return torch.sparse_coo_tensor(indices, torch.ones_like(edge), size, check_invariants=True).coalesce()

    def _frame(self) -> coordinates.Frame:
        tensors = self.graph.parameters()
        skeletons.require_nonzero(tensors, self.skeleton)
        return coordinates.frame(self.graph.edges(), tensors, self.skeleton, None)

    def _owners(self) -> Tensor:
        """Mark the edges that own a basis path, bool ``[*R, m]``."""
        owns = [torch.ones_like(tensor, dtype=torch.bool) for tensor in self.graph.parameters()]
        skeletons.put_out_(owns, self.skeleton, [torch.zeros_like(free) for free in self.skeleton.free])
        return flatten(owns, self._replicas)

    @property
    def _replicas(self) -> int:
        return self.skeleton.source[0].dim() - 1

    def _select(self, tensors: Sequence[Tensor]) -> Tensor:
        return flatten(tensors, self._replicas)[self._owns].reshape(*self._owns.shape[:-1], self.count)

    def _chains(self, numbers: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Edge numbers along the prefix and along the suffix of every node, ``[n_l, length]`` for ``l = 0..L + 1``."""
        ends = [
            torch.empty(self.graph.widths[place], 0, dtype=torch.int64, device=self._owns.device) for place in (0, -1)
        ]
        before, after = ends[:1], ends[1:]
        ins, outs = skeletons.read(numbers, self.skeleton)
        for edge, source in zip(ins, self.skeleton.source, strict=True):
            before.append(torch.cat([before[-1][source], edge.unsqueeze(-1)], dim=-1))
        for edge, target in zip(reversed(outs), reversed(self.skeleton.target), strict=True):
            after.insert(0, torch.cat([edge.unsqueeze(-1), after[0][target]], dim=-1))
        return before, [ends[0], *after]


def _paths(numbers: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Edge numbers of the paths through each edge of a parameter, ``[edges, length]``, that edge first."""
    rows, columns = len(after), len(before)
    tails, heads = before.expand(rows, *before.shape), after.unsqueeze(1).expand(rows, columns, -1)
    return torch.cat([numbers.view(rows, columns, 1), tails, heads], dim=-1).flatten(0, 1)
