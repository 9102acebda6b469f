"""Basis paths of a reduction graph: values, gradients, weight allocation, incidence."""

from __future__ import annotations

import torch
from torch import Tensor

from pathrnn import coordinates
from pathrnn import skeleton as skeletons
from pathrnn.graph import Edges, ReductionGraph, flatten, layers_of, scale, tensors_of, unflatten


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
        >>> basis.assign_(2 * basis.values())  # twice the network: every path counts double
    """

    def __init__(self, graph: ReductionGraph, skeleton: str = "index") -> None:
        self.graph = graph
        self.skeleton = skeletons.choose(graph.edges(), skeleton)
        self._owns = self._owners()

    @property
    def count(self) -> int:
        """Number of basis paths, ``m - H``."""
        return self.graph.num_weights - self.graph.num_hidden

    @torch.no_grad()
    def values(self) -> Tensor:
        """Return the path values ``v_e = p(u) w_e q(v)``, ``[*R, m - H]``."""
        edges = self.graph.edges()
        at = self._frame(edges)
        return self._select(scale(edges, at.tails, at.heads))

    @torch.no_grad()
    def gradients(self) -> Tensor:
        """Return ``dL/dv``, ``[*R, m - H]``, from the ``.grad`` of the weights: the ``gamma`` of ``J^T gamma = g``.

        The loss must depend on the weights through the network's function alone; a penalty on the weights inside the
        loss has no gradient in path space.

        Returns:
            Path gradients, in the order of the basis paths.

        Raises:
            ValueError: a weight has no gradient, or a skeleton weight is zero.
        """
        edges, grads = self.graph.edges(), self.graph.edge_gradients()
        at = self._frame(edges)
        result = layers_of(coordinates.gradients(grads, at), edges)
        skeletons.put_in_(result, self.skeleton, coordinates.skeleton_gradients(edges, grads, at))
        return self._select(result)

    @torch.no_grad()
    def assign_(self, values: Tensor) -> None:
        """Write the weights that have the given path values (weight allocation); out-skeleton weights stay.

        Args:
            values: ``[*R, m - H]``; skeleton path values must be nonzero.

        Raises:
            ValueError: a wrong shape, a value that is not finite, or a skeleton path value of zero.

        Example:
            >>> from torch import nn
            >>> graph = ReductionGraph(nn.RNN(3, 5, nonlinearity="relu"), nn.Linear(5, 2))
            >>> basis = BasisPaths(graph)
            >>> target = basis.values() + 0.01
            >>> basis.assign_(target)
            >>> torch.testing.assert_close(basis.values(), target)
        """
        edges = self.graph.edges()
        at = self._frame(edges)
        if values.shape != (*self._owns.shape[:-1], self.count):
            expected = (*self._owns.shape[:-1], self.count)
            raise ValueError(f"values must have shape {expected}, one per basis path, got {tuple(values.shape)}")
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"values must be finite, got {values[~torch.isfinite(values)][0].item()}")
        flat = flatten(edges).masked_scatter(self._owns, values.to(edges[0].forward))
        new = unflatten(flat, edges)
        ratios = [path / old for path, old in zip(skeletons.in_weights(new, self.skeleton), at.paths, strict=True)]
        for layer, (ratio, free) in enumerate(zip(ratios, self.skeleton.free, strict=True), start=1):
            if bool((free & (ratio == 0)).any()):
                raise ValueError(
                    f"values of skeleton paths must be nonzero, got 0.0 for a path into hidden layer {layer}"
                )
        self.graph.write_(tensors_of(new))
        coordinates.allocate_(edges, range(len(at.factors)), ratios, at)

    def incidence(self) -> Tensor:
        """Count how often each path uses each edge: sparse int64 ``[m - H, m]``, columns in edge order.

        Returns:
            The incidence matrix, coalesced.

        Raises:
            ValueError: the graph has replica axes; look at one replica at a time.
        """
        if self._owns.dim() != 1:
            raise ValueError(f"incidence needs a graph without replica axes, got axes {tuple(self._owns.shape[:-1])}")
        edges = self.graph.edges()
        numbers = unflatten(torch.arange(self.graph.num_weights, device=self._owns.device), edges)
        prefix, suffix = self._chains(numbers)
        rows = torch.cumsum(self._owns, 0) - 1
        entries = []
        for index, layer in enumerate(numbers):
            forward = (layer.forward, prefix[index], suffix[index + 1])
            recurrent = [] if layer.recurrent is None else [(layer.recurrent, prefix[index + 1], suffix[index + 1])]
            biases = [(bias.unsqueeze(-1), prefix[0][:1], suffix[index + 1]) for bias in layer.biases]
            entries += [_paths(*block) for block in (forward, *recurrent, *biases)]
        pairs = torch.cat([torch.stack([own[:, :1].expand_as(own), own]).flatten(1) for own in entries], dim=1)
        pairs = pairs[:, self._owns[pairs[0]]]
        indices = torch.stack([rows[pairs[0]], pairs[1]])
        size = (self.count, self.graph.num_weights)
        return torch.sparse_coo_tensor(indices, torch.ones_like(indices[0]), size, check_invariants=True).coalesce()

    def _frame(self, edges: list[Edges]) -> coordinates.Frame:
        skeletons.require_nonzero(edges, self.skeleton)
        return coordinates.frame(edges, self.skeleton)

    def _owners(self) -> Tensor:
        """Mark the edges that own a basis path, bool ``[*R, m]``."""
        owns = [layer.map(lambda tensor: torch.ones_like(tensor, dtype=torch.bool)) for layer in self.graph.edges()]
        skeletons.put_out_(owns, self.skeleton, [torch.zeros_like(free) for free in self.skeleton.free])
        return flatten(owns)

    def _select(self, edges: list[Edges]) -> Tensor:
        return flatten(edges)[self._owns].reshape(*self._owns.shape[:-1], self.count)

    def _chains(self, numbers: list[Edges]) -> tuple[list[Tensor], list[Tensor]]:
        """Edge numbers along the prefix and the suffix of every node, ``[n_l, length]`` per layer."""
        widths = self.graph.widths
        prefix = [torch.empty(widths[0], 0, dtype=torch.int64, device=self._owns.device)]
        for edge, source in zip(skeletons.in_weights(numbers, self.skeleton), self.skeleton.source, strict=True):
            prefix.append(torch.cat([prefix[-1][source], edge.unsqueeze(-1)], dim=-1))
        suffix = [torch.empty(widths[-1], 0, dtype=torch.int64, device=self._owns.device)]
        outs = skeletons.out_weights(numbers, self.skeleton)
        for edge, target in zip(reversed(outs), reversed(self.skeleton.target), strict=True):
            suffix.append(torch.cat([edge.unsqueeze(-1), suffix[-1][target]], dim=-1))
        return prefix, [prefix[0], *reversed(suffix)]


def _paths(numbers: Tensor, prefix: Tensor, suffix: Tensor) -> Tensor:
    """Edge numbers of the paths through a matrix of edges, ``[rows * columns, length]``, the owning edge first."""
    rows, columns = numbers.shape
    before = prefix.expand(rows, *prefix.shape)
    after = suffix.unsqueeze(1).expand(rows, columns, -1)
    return torch.cat([numbers.unsqueeze(-1), before, after], dim=-1).flatten(0, 1)
