"""Basis paths of a reduction graph: values, gradients, weight allocation, incidence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pathrnn import skeleton as skeletons
from pathrnn.coordinates import Coordinates, Frame
from pathrnn.graph import ReductionGraph, flatten, unflatten


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
        self.coordinates = Coordinates(graph.edges(), "raw", skeleton)
        self._owns = self._owners()

    @property
    def count(self) -> int:
        """Number of basis paths, ``m - H``."""
        return self.graph.num_weights - self.graph.num_hidden

    @torch.no_grad()
    def values(self) -> Tensor:
        """Return the path values ``v_e = p(u) w_e q(v)``, ``[*R, m - H]``."""
        at = self._frame()
        return self._select(list(map(torch.mul, self.graph.parameters(), at.factors or [])))

    @torch.no_grad()
    def gradients(self) -> Tensor:
        """Return ``dL/dv``, ``[*R, m - H]``, from the ``.grad`` of the weights: the ``gamma`` of ``J^T gamma = g``."""
        # It exists only if the loss sees the weights through the network's function: no penalty on weights inside it.
        tensors, grads = self.graph.parameters(), self.graph.grads()
        return self._select(self.coordinates.gradients(tensors, grads, self._frame(), free=True))

    @torch.no_grad()
    def assign_(self, values: Tensor) -> None:
        """Write the weights that have the given path values (weight allocation); out-skeleton weights stay.

        Args:
            values: ``[*R, m - H]``; skeleton path values must be nonzero.

        Raises:
            ValueError: a wrong shape, a value that is not finite, or a skeleton path value of zero; nothing is written.
        """
        tensors, chosen, at = self.graph.parameters(), self.coordinates.skeleton, self._frame()
        if values.shape != (*self._owns.shape[:-1], self.count):
            expected = (*self._owns.shape[:-1], self.count)
            raise ValueError(f"values must have shape {expected}, one per basis path, got {tuple(values.shape)}")
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"values must be finite, got {values[~torch.isfinite(values)][0].item()}")
        new = unflatten(self.graph.weights().masked_scatter(self._owns, values.to(tensors[0])), tensors)
        ratios = [path / old for path, old in zip(skeletons.read_in(new, chosen), at.paths, strict=True)]
        for layer, (ratio, free) in enumerate(zip(ratios, chosen.free, strict=True), start=1):
            if bool((free & (ratio == 0)).any()):
                raise ValueError(
                    f"values of skeleton paths must be nonzero, got 0.0 for a path into hidden layer {layer}"
                )
        self.graph.write_(list(map(torch.div, new, at.factors or [])))
        self.coordinates.allocate_(tensors, ratios, at)

    def incidence(self) -> Tensor:
        """Count how often each path uses each edge: sparse int64 ``[m - H, m]``, columns in edge order."""
        # With weights of one, the derivative of a product by a weight is the number of times it is a factor.
        if self._owns.dim() != 1:
            raise ValueError(f"incidence needs a graph without replica axes, got axes {tuple(self._owns.shape[:-1])}")
        edges, tensors = self.graph.edges(), self.graph.parameters()

        def values(weights: Tensor) -> Tensor:
            own = unflatten(weights, tensors)
            at = self.coordinates.frame(edges, own)
            return self._select(list(map(torch.mul, own, at.factors or [])))

        ones = torch.ones(self.graph.num_weights, dtype=tensors[0].dtype, device=tensors[0].device)
        return torch.autograd.functional.jacobian(values, ones).long().to_sparse()  # type: ignore[no-untyped-call, no-any-return]

    def _frame(self) -> Frame:
        tensors = self.graph.parameters()
        self.coordinates.require_nonzero(tensors)
        return self.coordinates.frame(self.graph.edges(), tensors)

    def _owners(self) -> Tensor:
        """Mark the edges that own a basis path, bool ``[*R, m]``."""
        owns = [torch.ones_like(tensor, dtype=torch.bool) for tensor in self.graph.parameters()]
        skeletons.put_out_(
            owns, self.coordinates.skeleton, [torch.zeros_like(free) for free in self.coordinates.skeleton.free]
        )
        return flatten(owns, self._replicas)

    @property
    def _replicas(self) -> int:
        return self.coordinates.skeleton.source[0].dim() - 1

    def _select(self, tensors: Sequence[Tensor]) -> Tensor:
        return flatten(tensors, self._replicas)[self._owns].reshape(*self._owns.shape[:-1], self.count)
