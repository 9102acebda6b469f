"""Optimizers in path space: a space times a rule, where the rule is any torch optimizer class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pathrnn import gauge, path_norm
from pathrnn import skeleton as skeletons
from pathrnn.coordinates import Coordinates, Frame
from pathrnn.graph import ReductionGraph, factors
from pathrnn.space import Space, fill


class _Place(NamedTuple):
    """Where a step starts: the frame, and the parameters that have a gradient, by number."""

    frame: Frame
    moved: list[int]


class _Move(NamedTuple):
    """What a step does to the gauge: whether it may, and the factors of the weights before the rule sees them."""

    whole: bool
    scale: list[Tensor] | None


class PathSpace(Space):
    r"""Run any torch optimizer on the path-space coordinates of a ReLU recurrent network.

    With ``p`` and ``q`` the products of skeleton weights that lead to a unit and on from it, and ``Q`` for ``q`` in
    units of constants, each edge ``e = (u -> v)`` that is not the out-skeleton edge of its tail has the coordinate

    .. math:: c_e = w_e\, |Q(v) / Q(u)|, \qquad c \leftarrow \mathrm{rule}(c, \partial L / \partial c),

    the value of its basis path over that of the skeleton path to ``u``. Two networks that differ by a positive rescaling
    of hidden units have the same coordinates and so the same training run. Building the optimizer leaves the weights as
    they are. The first step writes them in the gauge where weights are their own coordinates and out-skeleton weights
    stay for good; from then on a step costs little more than the rule's. ``param_groups`` and ``state`` are the rule's.
    Parameters outside the graph get the rule as it is. A weight without gradient stays (and with it, in raw and
    normalised coordinates, all skeleton paths).

    Args:
        params: parameters or groups, as for any torch optimizer; all weights of the graph must be among them.
        graph: the network.
        rule: optimizer class, called as ``rule(params, **rule_kwargs)``, or :func:`pathrnn.muon`.
        coordinates: ``"relative"``, as above; ``"normalised"``, path values over invariants of the initial weights, or
            ``"raw"``, plain path values: in both, coordinates of skeleton paths are not subject to weight decay, and
            the out-skeleton weights stay at each step.
        skeleton: ``"magnitude"``, the largest weights in the balanced gauge, or ``"index"``, the seed's rule.
        max_path_norm: clip ``dL/dc`` to this Euclidean norm, per replica, over all coordinates of the graph; None does
            not clip, and SGD then diverges on long sequences, as it does in weight space.
        max_step_ratio: ``delta``; a step keeps new over old of each skeleton path value in ``[1 - delta, 1 + delta]``,
            so that none changes sign. None switches the guard off. Relative coordinates need none.
        **rule_kwargs: arguments of the rule. ``lr`` has the unit of (coordinate squared) per loss.

    Attributes:
        guard_count: how many steps of single skeleton coordinates the guard has held back so far.

    Raises:
        ValueError: ``lr <= 0``, a bad option, a graph weight that is not in ``params``, a zero skeleton weight; in
            ``step``, a gradient that is not finite.

    Source: ours, after "Path Space for Recurrent Neural Networks with ReLU Activations" (ICLR 2020 submission), of
    which only the abstract is public; ``rule=torch.optim.SGD, coordinates="raw", skeleton="index"`` is nearest to it.
    Deviations: relative and normalised coordinates, guard, clipping in path space and magnitude skeleton are ours.

    Example:
        >>> from torch import nn
        >>> rnn, head = nn.RNN(3, 8, nonlinearity="relu", batch_first=True), nn.Linear(8, 2)
        >>> params = [*rnn.parameters(), *head.parameters()]
        >>> optimizer = PathSpace(params, ReductionGraph(rnn, head), torch.optim.SGD, lr=0.01, momentum=0.9)
        >>> x, y = torch.randn(16, 5, 3), torch.randn(16, 2)
        >>> losses = []
        >>> for _ in range(20):
        ...     loss = (head(rnn(x)[0][:, -1]) - y).square().mean()
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        ...     losses.append(loss.item())
        >>> losses[-1] < losses[0]
        True
    """

    def __init__(
        self,
        params: Any,
        graph: ReductionGraph,
        rule: Callable[..., torch.optim.Optimizer],
        *,
        coordinates: str = "relative",
        skeleton: str = "magnitude",
        max_path_norm: float | None = 1.0,
        max_step_ratio: float | None = 0.5,
        **rule_kwargs: Any,
    ) -> None:
        if max_step_ratio is not None and not 0 < max_step_ratio < 1:
            raise ValueError(f"max_step_ratio must lie between 0 and 1, or be None, got {max_step_ratio}")
        super().__init__(params, graph, rule, max_path_norm, rule_kwargs)
        self.max_step_ratio = max_step_ratio
        self.guard_count = 0
        self._coordinates = Coordinates(self._edges, coordinates, skeleton)

    def _slopes(self, grads: list[Tensor | None]) -> tuple[list[Tensor], _Place]:
        moved = [place for place, grad in enumerate(grads) if grad is not None]
        at = self._coordinates.frame(self._edges, self._tensors)
        filled, whole = fill(grads, self._tensors), len(moved) == len(grads)
        return self._coordinates.gradients(self._tensors, filled, at, whole), _Place(at, moved)

    def _require_finite(self, slopes: list[Tensor]) -> None:
        self._coordinates.require_nonzero(self._tensors)
        super()._require_finite(slopes)

    def _enter(self, at: _Place) -> None:
        if at.frame.factors is not None:
            for place in at.moved:
                self._tensors[place].mul_(at.frame.factors[place])
        if self._coordinates.kind != "relative":  # skeleton coordinates as changes: no decay of what they start from
            skeletons.put_in_(self._tensors, self._coordinates.skeleton, list(map(torch.zeros_like, at.frame.paths)))

    def _leave(self, at: _Place) -> None:
        chosen, frame, whole = self._coordinates.skeleton, at.frame, len(at.moved) == len(self._tensors)
        relative = self._coordinates.kind == "relative"
        changes = [] if relative else skeletons.read_in(self._tensors, chosen)
        if frame.factors is not None and not (relative and whole):
            for place in at.moved:
                self._tensors[place].div_(frame.factors[place])
        if not relative:
            kept = [torch.ones_like(path) for path in frame.paths]
            ratios = list(map(torch.addcdiv, kept, changes, frame.paths)) if whole else kept
            self._coordinates.allocate_(self._tensors, self._guarded(ratios), frame)
        elif frame.factors is None or not whole:
            skeletons.put_out_(self._tensors, chosen, frame.outs)
        else:  # all weights can be left as coordinates: a gauge of the same network in which the next step is free
            skeletons.put_out_(self._tensors, chosen, list(map(torch.copysign, self._coordinates.units[1], frame.outs)))

    def _guarded(self, ratios: list[Tensor]) -> list[Tensor]:
        """Hold new over old skeleton path values within the allowed ratio; count where that was needed."""
        if self.max_step_ratio is None:
            return ratios
        held = [ratio.clamp(1 - self.max_step_ratio, 1 + self.max_step_ratio) for ratio in ratios]
        for before, after, free in zip(ratios, held, self._coordinates.skeleton.free, strict=True):
            if not torch.equal(before, after):
                self.guard_count += int(((before != after) & free).sum())
        return held

    def _constants(self) -> dict[str, Any]:
        return {**self._coordinates.state(), "guard_count": self.guard_count}

    def _load_constants(self, constants: dict[str, Any]) -> None:
        self._coordinates.load(self._edges, constants)
        self.guard_count = constants["guard_count"]


class GaugeFixed(Space):
    """Run any torch optimizer on the weights of the balanced gauge, to which the first step brings them.

    The balanced gauge is the one representative of all networks that differ by a positive rescaling of hidden units
    whose total squared norm is least (:func:`pathrnn.balance_`); so they all train alike. Each step ends with a sweep
    that restores the gauge, and state follows the weights: with a weight times ``r``, a mean of gradients goes times
    ``1 / r`` and a mean of their squares times ``1 / r**2``. While a weight has no gradient, the gauge is left to drift.

    Args:
        params: parameters or groups, as for any torch optimizer; all weights of the graph must be among them.
        graph: the network.
        rule: optimizer class, called as ``rule(params, **rule_kwargs)``, or :func:`pathrnn.muon`.
        max_path_norm: clip the gradient in the balanced gauge, which rescaling cannot change, to this Euclidean norm,
            per replica, over all weights of the graph; None does not clip.
        **rule_kwargs: arguments of the rule; ``lr`` has its unit of weight space.

    Raises:
        ValueError: ``lr <= 0``, a graph weight that is not in ``params``, a unit without incoming or outgoing weight;
            in ``step``, a gradient that is not finite, or state of a rule that this class does not know how to move.

    Source: ours.

    Example:
        >>> from torch import nn
        >>> rnn, head = nn.RNN(3, 8, nonlinearity="relu", batch_first=True), nn.Linear(8, 2)
        >>> params = [*rnn.parameters(), *head.parameters()]
        >>> optimizer = GaugeFixed(params, ReductionGraph(rnn, head), torch.optim.AdamW, lr=1e-3)
        >>> head(rnn(torch.randn(4, 5, 3))[0]).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Any,
        graph: ReductionGraph,
        rule: Callable[..., torch.optim.Optimizer],
        *,
        max_path_norm: float | None = 1.0,
        **rule_kwargs: Any,
    ) -> None:
        super().__init__(params, graph, rule, max_path_norm, rule_kwargs)
        gauge.balancing(self._edges)  # refuses networks that have no balanced gauge
        self._balanced = False

    def _slopes(self, grads: list[Tensor | None]) -> tuple[list[Tensor], _Move]:
        filled, whole, scale = fill(grads, self._tensors), all(grad is not None for grad in grads), None
        if whole and not self._balanced:
            scale = self._scale(gauge.balancing(self._edges))
            filled = list(torch._foreach_div(filled, scale))
        return filled, _Move(whole, scale)

    def _enter(self, at: _Move) -> None:
        if at.scale is not None:
            self._rescale_(at.scale)
            self._balanced = True

    def _leave(self, at: _Move) -> None:
        if at.whole:
            self._rescale_(self._scale(gauge.sweep(self._edges)))

    def _scale(self, phi: list[Tensor]) -> list[Tensor]:
        phi = [own.to(self._tensors[0].dtype) for own in phi]
        return factors(self._edges, [1 / own for own in phi], phi)

    def _rescale_(self, scale: list[Tensor]) -> None:
        """Multiply weights by factors, and move state with them."""
        torch._foreach_mul_(self._tensors, scale)
        moves = [
            (value, factor, degree)
            for tensor, factor in zip(self._tensors, scale, strict=True)
            for value, degree in _degrees(self.state.get(tensor, {}))
        ]
        for power in (1, 2):
            if again := [(value, factor) for value, factor, degree in moves if degree >= power]:
                torch._foreach_div_(*map(list, zip(*again, strict=True)))

    def _constants(self) -> dict[str, Any]:
        return {"balanced": self._balanced}

    def _load_constants(self, constants: dict[str, Any]) -> None:
        self._balanced = constants["balanced"]


_DEGREES = {
    "momentum_buffer": 1,  # SGD, Muon
    "exp_avg": 1,  # Adam and its kin
    "grad_avg": 1,  # RMSprop, centred
    "exp_inf": 1,  # Adamax
    "exp_avg_sq": 2,
    "max_exp_avg_sq": 2,
    "square_avg": 2,  # RMSprop
    "sum": 2,  # Adagrad
}
"""How often state is divided by the factor of its weight when that is rescaled."""


def _degrees(state: dict[str, Any]) -> Iterable[tuple[Tensor, int]]:
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dim():
            if name not in _DEGREES:
                raise ValueError(f"GaugeFixed must know how the state of its rule scales, got {name!r}: use PathSpace")
            if name != "momentum_buffer" or "square_avg" not in state:  # that of RMSprop is free of units
                yield value, _DEGREES[name]


class PathSGD(Space):
    r"""Path-SGD: steepest descent in the path norm, :math:`w_i \leftarrow w_i - \eta\, g_i / \kappa_i`.

    With ``gamma^2`` the sum over all paths of the network, unrolled for ``steps`` steps and read at the last, of their
    squared values, ``kappa^(1)_i = d gamma^2 / d (w_i^2)``; the second term counts paths that use a weight twice. The
    step is invariant under rescaling. A weight that lies on no path (``kappa = 0``) stays.

    Args:
        params: parameters or groups; all weights of the graph must be among them.
        graph: the network.
        lr: learning rate, in units of (path value squared) per loss; positive.
        steps: length of the sequences, T.
        second_term: use ``kappa^(1) + kappa^(2)``, half the second derivative of ``gamma^2`` by ``w_i``.

    Raises:
        ValueError: ``lr <= 0``, ``steps < 1``; in ``step``, a gradient that is not finite.

    Source: Neyshabur, Wu, Salakhutdinov, Srebro 2016, "Path-Normalized Optimization of Recurrent Neural Networks with
    ReLU Activations", arXiv 1605.07154, sections 3 and 4.

    Example:
        >>> from torch import nn
        >>> rnn, head = nn.RNN(3, 8, nonlinearity="relu", batch_first=True), nn.Linear(8, 2)
        >>> optimizer = PathSGD([*rnn.parameters(), *head.parameters()], ReductionGraph(rnn, head), lr=0.1, steps=5)
        >>> head(rnn(torch.randn(4, 5, 3))[0][:, -1]).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self, params: Any, graph: ReductionGraph, lr: float | Tensor, steps: int, second_term: bool = False
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        super().__init__(params, graph, torch.optim.SGD, None, {"lr": lr})
        self.steps = steps
        self.second_term = second_term

    def _slopes(self, grads: list[Tensor | None]) -> tuple[list[Tensor], None]:
        first, second = path_norm.kappa(self._edges, self.steps, self.second_term)
        slopes = []
        for grad, one, two in zip(fill(grads, self._tensors), first, second, strict=True):
            total = one + two
            slopes.append(torch.where(total > 0, grad / total, 0.0).to(grad.dtype))
        return slopes, None
