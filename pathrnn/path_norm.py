"""The path norm of the unrolled network: what Path-SGD divides by, and the path-conditioned gauge."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pathrnn.gauge import balance_
from pathrnn.graph import BIAS, ReductionGraph, UnitValues, factors, flatten, incoming, outgoing, require_nonzero
from pathrnn.space import Space


class PathSGD(Space):
    r"""Path-SGD: steepest descent in the path norm, :math:`w_i \leftarrow w_i - \eta\, g_i / \kappa_i`.

    With ``gamma^2`` the sum of squared values of all paths, unrolled for ``steps`` steps and read at the last,
    ``kappa^(1)_i = d gamma^2 / d (w_i^2)``; the second term counts paths that use a weight twice. ``kappa = 0``: stays.

    Args:
        params, graph: as for :class:`pathrnn.PathSpace`.
        lr: learning rate, in units of (path value squared) per loss; positive.
        steps: length of the sequences, T.
        second_term: use ``kappa^(1) + kappa^(2)``, half the second derivative of ``gamma^2`` by ``w_i``.

    Raises:
        ValueError: ``lr <= 0``, ``steps < 1``; in ``step``, a gradient that is not finite.

    Source: Neyshabur, Wu, Salakhutdinov, Srebro 2016, "Path-Normalized Optimization of Recurrent Neural Networks with
    ReLU Activations", arXiv 1605.07154, sections 3 and 4.

    Example:
        >>> rnn, head = torch.nn.RNN(3, 8, nonlinearity="relu"), torch.nn.Linear(8, 2)
        >>> optimizer = PathSGD([*rnn.parameters(), *head.parameters()], ReductionGraph(rnn, head), lr=0.1, steps=5)
        >>> head(rnn(torch.randn(5, 4, 3))[0][-1]).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self, params: Any, graph: ReductionGraph, lr: float | Tensor, steps: int, second_term: bool = False
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        super().__init__(params, graph, torch.optim.SGD, None, {"lr": lr})
        self.steps, self.second_term = steps, second_term

    def _slopes(self, weights: Any, slopes: list[Tensor], whole: bool) -> tuple[list[Tensor], None]:
        totals = map(torch.add, *kappa(self.graph, self.steps, self.second_term))
        pairs = zip(slopes, totals, strict=True)
        return [torch.where(total > 0, slope / total, 0 * slope).to(slope.dtype) for slope, total in pairs], None


def path_condition_(graph: ReductionGraph, steps: int = 2) -> None:
    r"""Rescale the network, in place, to the path-conditioned gauge; its function does not change.

    With ``d = diag(dPhi^T dPhi)`` for the map ``Phi`` of weights to values of all paths, unrolled for so many steps,
    it brings ``d`` closest to a multiple of ones: the least :math:`m \log \sum_e d_e - \sum_e \log d_e`.

    Raises:
        ValueError: ``steps < 1``, a unit that is on no path of so many steps, or not reached or heard at all.

    Source: Lebeurrier, Vayer, Gribonval 2026, "Path-conditioned training", arXiv 2602.19799. Deviations: recurrent
    graphs; the convex problem is solved by L-BFGS from the balanced gauge instead of unit by unit.

    Example:
        >>> rnn, head = torch.nn.RNN(1, 1, nonlinearity="relu", bias=False), torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(rnn.weight_ih_l0, 8.0), torch.nn.init.constant_(head.weight, 2.0)
        >>> path_condition_(ReductionGraph(rnn, head))
        >>> rnn.weight_ih_l0.item(), head.weight.item()
        (4.0, 4.0)
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    balance_(graph)
    wiring, (first, second) = graph.wiring(), kappa(graph, steps, second_term=True)
    d = list(torch._foreach_add(first, second, alpha=0.5))
    for side in (outgoing, incoming):
        units = [side(d, wiring, layer) for layer in range(1, wiring[-1].head)]
        require_nonzero(f"weight of the {side.__name__} edges on paths of so many steps", units)
    logs = [torch.zeros_like(own).requires_grad_() for own in units]  # of phi squared
    solver = torch.optim.LBFGS(logs, 1, 1000, None, 1e-13, 0, line_search_fn="strong_wolfe")

    def misfit() -> Tensor:
        """Divide by m, so that the tolerance has the same meaning for any network."""
        solver.zero_grad()
        by = factors(wiring, [log.exp() for log in logs], [(-log).exp() for log in logs])
        wide = flatten([factor.expand_as(own) for factor, own in zip(by, d, strict=True)])
        loss = ((flatten(d) * wide).sum(-1).log() - wide.log().mean(-1)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(misfit)  # type: ignore[no-untyped-call]
    graph.rescale_([(log.detach() / 2).exp() for log in logs])


@torch.enable_grad()
def kappa(graph: ReductionGraph, steps: int, second_term: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Compute both terms of ``kappa`` (:class:`PathSGD`) for every weight, float64, one tensor per parameter."""
    # gamma^2 is the output on inputs of one with squared weights. By each squared weight it has the derivative
    # kappa^(1); since a weight stands at every step, twice the second derivative times the square is kappa^(2).
    wiring, squares = graph.wiring(), [t.detach().double().square().requires_grad_() for t in graph.parameters()]
    reach = {(0, t): torch.ones_like(squares[0][..., 0, :, None]) for t in range(steps)}  # [*R, n_l, 1]
    for layer in range(1, wiring[-1].head + 1):
        into = [(square, tail) for square, (tail, head) in zip(squares, wiring, strict=True) if head == layer]
        for t in range(steps):
            terms = [s.unsqueeze(-1) if tail == BIAS else s @ reach[tail, t] for s, tail in into if tail != layer]
            terms += [s @ reach[tail, t - 1] for s, tail in into if tail == layer and t]
            reach[layer, t] = torch.stack(terms).sum(0)
    by = partial(torch.autograd.grad, reach[layer, steps - 1].sum(), retain_graph=True, materialize_grads=True)
    second = [torch.zeros_like(square) for square in squares]
    for place, (tail, head) in enumerate(wiring):
        if second_term and tail == head:
            states = [reach[head, t] for t in range(steps)]
            second[place] = _twice(squares[place], states, by(states))
    return list(by(squares)), second


@torch.no_grad()
def _twice(matrix: Tensor, reach: UnitValues, lead: Sequence[Tensor]) -> Tensor:
    """Sum over pairs of steps the squared mass of paths that use an edge at both, four times, less one weight."""
    # An edge u -> v at step s and again gap steps later: into u before s, from v back to u in gap - 1 steps, on from v.
    total, power = torch.zeros_like(matrix), torch.eye(matrix.shape[-1]).to(matrix)
    for gap in range(1, len(reach) - 1):
        pairs = zip(reach[: -1 - gap], lead[1 + gap :], strict=True)
        total += torch.stack([after @ before.mT for before, after in pairs]).sum(0) * power.mT
        power = matrix @ power
    return 4 * matrix * total
