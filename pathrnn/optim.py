"""Optimizers in path space: a space times a rule, where the rule is any torch optimizer class."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pathrnn.basis import choose, from_choice, prefixes, put_, read, skeleton_flows, suffixes, without
from pathrnn.gauge import balanced, balancing, sweep
from pathrnn.graph import BIAS, ReductionGraph, UnitValues, factors, require_nonzero, scale_factors
from pathrnn.space import Optimizer, Rule, Space

_DEGREES = {"step": 0, "mu_product": 0, "momentum_buffer": 1, "exp_avg": 1, "grad_avg": 1, "exp_inf": 1}
_DEGREES |= {"exp_avg_sq": 2, "max_exp_avg_sq": 2, "square_avg": 2, "sum": 2}
_COORDINATES = ["relative", "normalised", "raw"]


class PathSpace(Space):
    r"""Run any torch optimizer on the path-space coordinates of a ReLU network: ``c <- rule(c, dL/dc)``.

    A basis path has the value ``v_e = p(u) w_e q(v)``: skeleton edges to ``u``, the edge ``e = (u -> v)``, skeleton
    edges on from ``v``; it owns a coordinate. Networks that differ by a positive rescaling of hidden units have the
    same coordinates and so the same training run. The weights stay as they are until the first step, which writes them
    in the gauge where out-skeleton weights have their balanced magnitude (raw: 1), and they keep it for good. A weight
    without gradient stays too, and with it all skeleton paths that have coordinates.

    Args:
        params: parameters or groups, all weights of the graph among them; others get the rule as it is.
        graph: the network.
        rule: optimizer class, called as ``rule(params, **rule_kwargs)``, or :func:`pathrnn.muon`.
        coordinates: ``"relative"``, ``v_e`` over the value of the skeleton path by ``u``, a weight in the gauge above;
            ``"normalised"``, ``v_e`` over invariants of the initial weights, so that skeleton paths start at 1, others
            as weights; ``"raw"``, ``v_e``, up to sign. In the last two, skeleton paths do not decay.
        skeleton: ``"magnitude"``, the largest weights in the balanced gauge, or ``"index"``, the seed's rule.
        max_path_norm: clip ``dL/dc`` to this Euclidean norm, per replica, over all coordinates of the graph; or None.
        max_step_ratio: ``delta``; a step keeps new over old of each skeleton path value in ``[1 - delta, 1 + delta]``,
            so that none changes sign, and ``guard_count``, a tensor, counts what it held back; None: no guard.
        capturable: as in :class:`torch.optim.Adam`, and given to a rule that has it: steps but the first never wait for
            the device, so that a CUDA graph can hold them. They refuse nothing. Replays keep what Python had, such as a
            rate that is no tensor. Weights that others change bring steps back to the gauge if torch counts the change;
            otherwise, by ``.data`` or between replays, out-skeleton weights are overwritten.
        **rule_kwargs: arguments of the rule. ``lr`` has the unit of (coordinate squared) per loss.

    Raises:
        ValueError: ``lr <= 0``, a bad option, a graph weight that is not in ``params``, a zero skeleton weight; in
            ``step``, a gradient that is not finite.

    Source: ours, after the seed paper (ICLR 2020 submission, see README), of which only the abstract is public;
    ``rule=torch.optim.SGD, coordinates="raw", skeleton="index"`` is nearest. Deviations: all other options.

    Example:
        >>> rnn, head = nn.RNN(3, 8, nonlinearity="relu", batch_first=True), nn.Linear(8, 2)
        >>> params, graph = [*rnn.parameters(), *head.parameters()], ReductionGraph(rnn, head)
        >>> optimizer = PathSpace(params, graph, torch.optim.SGD, lr=0.01, momentum=0.9)
        >>> head(rnn(torch.randn(16, 5, 3))[0]).square().mean().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Any,
        graph: ReductionGraph,
        rule: Rule,
        *,
        coordinates: str = "relative",
        skeleton: str = "magnitude",
        max_path_norm: float | None = 1.0,
        max_step_ratio: float | None = 0.5,
        capturable: bool = False,
        **rule_kwargs: Any,
    ) -> None:
        if coordinates not in _COORDINATES:
            raise ValueError(f"coordinates must be one of {_COORDINATES}, got {coordinates!r}")
        if max_step_ratio is not None and not 0 < max_step_ratio < 1:
            raise ValueError(f"max_step_ratio must lie between 0 and 1, or be None, got {max_step_ratio}")
        self.capturable = capturable
        super().__init__(params, graph, rule, max_path_norm, rule_kwargs)
        self.coordinates, self.max_step_ratio, self.guard_count = coordinates, max_step_ratio, torch.tensor(0)
        self._name, self.skeleton, self._fresh = f"PathSpace with {coordinates} coordinates", skeleton, True
        self._kept = ("_choice", "_units", "_fresh", "guard_count")
        self._choose()

    def _choose(self) -> None:
        self._skeleton = choose(self.graph, self.skeleton)
        self._require_nonzero()
        weights = [torch.ones_like(w) for w in self._tensors] if self.coordinates == "raw" else balanced(self.graph)
        self._choice = [[own.squeeze(side.dim) for own in side.units] for side in self._skeleton[:2]]
        self._units = [list(map(torch.abs, read(weights, side))) for side in self._skeleton[:2]]
        self._settle()

    def _settle(self) -> None:
        like = self._tensors[0]  # a checkpoint may have brought constants of another type or device
        self._choice = [[own.to(like.device) for own in side] for side in self._choice]
        self._units = [[unit.to(like) for unit in side] for side in self._units]
        self._skeleton, self._settled = from_choice(self._wiring, *self._choice), self._units
        self.guard_count = torch.tensor(int(self.guard_count), device=like.device)
        masks = without([torch.ones_like(own) for own in self._tensors], self._skeleton.outs)
        self._masks = [mask if place in self._skeleton.outs.places else None for place, mask in enumerate(masks)]

    def _scale(self) -> list[Tensor] | None:
        if self._fresh:  # weights may have been loaded since
            self._choose()
            self._fresh = False
        unit, like = self._units[1][0], self._tensors[0]
        if self._settled is not self._units or (unit.dtype, unit.device) != (like.dtype, like.device):
            self._settle()
        if self.capturable and self._untouched():
            return None
        outs = read(self._tensors, self._skeleton.outs)
        if not self.capturable and all(map(torch.equal, outs, self._units[1])):
            return None
        self._require_nonzero()
        ratios = [(out / unit).abs() for out, unit in zip(outs, self._units[1], strict=True)]
        self._units[1] = list(map(torch.copysign, self._units[1], outs))
        return scale_factors(self._wiring, suffixes(ratios, self._skeleton))

    def _slopes(self, weights: Sequence[Tensor], slopes: list[Tensor], whole: bool) -> tuple[list[Tensor], Any]:
        slopes = [own if mask is None else own * mask for own, mask in zip(slopes, self._masks, strict=True)]
        if self.coordinates == "relative":
            return slopes, ([], [])
        self._require_nonzero()
        ins = read(weights, self._skeleton.ins)
        p = prefixes([own.abs() / unit for own, unit in zip(ins, self._units[0], strict=True)], self._skeleton)
        flows = skeleton_flows(weights, slopes, self._wiring, self._skeleton)
        slopes = list(torch._foreach_div(slopes, self._by_tail(p)))
        put_(slopes, self._skeleton.ins, [flow / own * whole for flow, own in zip(flows, p, strict=True)])
        return slopes, (p, ins)

    def _enter(self, at: Any) -> None:
        p, ins = at  # prefix products in the units of the coordinates, in-skeleton weights
        if self.coordinates != "relative":  # skeleton coordinates as changes: no decay of what they start from
            torch._foreach_mul_(self._tensors, self._by_tail(p))
            put_(self._tensors, self._skeleton.ins, [torch.zeros_like(own) for own in ins])

    def _leave(self, at: Any, whole: bool) -> None:
        (old, ins), chosen, units = at, self._skeleton, self._units
        if self.coordinates != "relative":
            changes = zip(old, read(self._tensors, chosen.ins), chosen.free, strict=True)
            wanted = [p * self._guarded(1 + whole * change / p, free) for p, change, free in changes]
            p = prefixes([own.abs() / unit for own, unit in zip(ins, units[0], strict=True)], chosen, wanted)
            put_(self._tensors, chosen.ins, list(map(torch.mul, p, map(torch.copysign, units[0], ins))))
            torch._foreach_div_(self._tensors, self._by_tail(p))
        put_(self._tensors, chosen.outs, units[1])

    def _by_tail(self, values: UnitValues) -> list[Tensor]:
        return factors(self._wiring, values, [values[0].new_ones(())] * len(values))

    def _guarded(self, ratio: Tensor, free: Tensor) -> Tensor:
        """Hold new over old skeleton path values within the allowed ratio; count where that was needed."""
        if self.max_step_ratio is None:
            return ratio
        held = ratio.clamp(1 - self.max_step_ratio, 1 + self.max_step_ratio)
        self.guard_count += ((held != ratio) & free).sum()
        return held

    def _require_nonzero(self) -> None:
        if self.capturable and not self._fresh:
            return
        if self.coordinates != "relative":
            require_nonzero("in-skeleton weight", read(self._tensors, self._skeleton.ins))
        require_nonzero("out-skeleton weight", read(self._tensors, self._skeleton.outs))


class GaugeFixed(Space):
    """Run SGD, RMSprop, Adam and its kin, Adagrad, Lion or Muon on the weights of the balanced gauge.

    Of all networks that differ by a positive rescaling of hidden units, it is the one with the least total squared norm
    (:func:`pathrnn.balance_`); so they all train alike. The first step goes there, and the first after weights were
    changed from outside; every few steps a sweep restores it, and state follows: with a weight times ``r``, means of
    gradients go times ``1 / r``, of squares times ``1 / r**2``. While a weight has no gradient, the gauge may drift.

    Args:
        params, graph, rule, max_path_norm: as for :class:`PathSpace`.
        every: number of steps from one sweep to the next.
        **rule_kwargs: arguments of the rule; ``lr`` has its unit of weight space.

    Raises:
        ValueError: as for :class:`PathSpace`; no balanced gauge; in ``step``, state that it cannot move.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> optimizer = GaugeFixed(net.parameters(), ReductionGraph(net), torch.optim.AdamW, lr=1e-3)
        >>> net(torch.randn(4, 3)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Any,
        graph: ReductionGraph,
        rule: Rule,
        *,
        max_path_norm: float | None = 1.0,
        every: int = 10,
        **rule_kwargs: Any,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        super().__init__(params, graph, rule, max_path_norm, rule_kwargs)
        balancing(graph)  # refuses networks that have no balanced gauge
        self._kept, self.every, self._count = ("_phi", "_count"), every, 0  # count of steps in the gauge
        self._phi: UnitValues | None = None

    def _scale(self) -> list[Tensor] | None:
        if self._versions and not self._untouched():
            self._count, self._phi = 0, None  # somebody else has changed weights
        if self._count:
            return None
        self._phi = self._phi or balancing(self.graph)
        return scale_factors(self._wiring, [own.to(self._tensors[0]) for own in self._phi])

    def _leave(self, at: Any, whole: bool) -> None:
        self._count += whole
        if whole and (self._count - 1) % self.every == 0:
            scale, moves = scale_factors(self._wiring, sweep(self.graph)), []
            for tensor, factor in zip(self._tensors, scale, strict=True):
                moves += [(value, factor**degree) for value, degree in _degrees(self.state.get(tensor, {}))]
            torch._foreach_mul_(self._tensors, scale)
            for value, factor in moves:
                value.div_(factor)


def _degrees(state: dict[str, Any]) -> Iterator[tuple[Tensor, int]]:
    """Tell how often each piece of state is divided by the factor of its weight when that is rescaled."""
    for name, value in state.items():
        if name not in _DEGREES:
            raise ValueError(f"GaugeFixed must know how the state of its rule scales, got {name!r}: use PathSpace")
        if _DEGREES[name] and value is not None and (name != "momentum_buffer" or "square_avg" not in state):
            yield value, _DEGREES[name]  # but for the momentum of RMSprop, which has no unit


def muon(lr: float, adam_lr: float, *, weight_decay: float = 0.0) -> Rule:
    """Make a rule of :class:`torch.optim.Muon` and :class:`torch.optim.Adam`, for any space.

    Muon (momentum 0.95, Nesterov, five Newton-Schulz steps, step times ``sqrt(max(1, rows / columns))``) gets ``W^l``
    and ``U^l`` of the hidden layers; Adam the readout, biases and parameters outside the graph. In weight space, call
    it as ``muon(lr, adam_lr)(params, graph=graph)``. A parameter group may set ``lr`` (Adam's, if it has no matrix),
    ``adam_lr`` and ``weight_decay`` of its own; in ``param_groups`` it stands as two groups.

    Args:
        lr: rate of Muon, the spectral norm of a step; positive.
        adam_lr: rate of Adam; positive.
        weight_decay: decoupled, in both.

    Returns:
        A rule. Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".

    Raises:
        ValueError: a rate that is not positive.

    Example:
        >>> rnn, head = nn.RNN(3, 8, nonlinearity="relu", batch_first=True), nn.Linear(8, 2)
        >>> params, graph = [*rnn.parameters(), *head.parameters()], ReductionGraph(rnn, head)
        >>> optimizer = PathSpace(params, graph, muon(lr=0.005, adam_lr=0.002))
        >>> [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]
        [(2, 0.005), (4, 0.002)]
    """
    for name, rate in (("lr", lr), ("adam_lr", adam_lr)):
        if not rate > 0:
            raise ValueError(f"{name} must be positive, got {float(rate)}")
    decay = {"weight_decay": weight_decay}
    return partial(_MuonAndAdam, muon={"lr": lr, **decay}, adam={"lr": adam_lr, **decay})


class _MuonAndAdam(Optimizer):
    """Two torch optimizers on the groups and the state of one; each group says whose it is."""

    def __init__(
        self, params: Any, graph: ReductionGraph, muon: dict[str, Any], adam: dict[str, Any], capturable: bool = False
    ) -> None:
        pairs, last = zip(graph.parameters(), graph.wiring(), strict=True), len(graph.widths) - 1
        self._matrices = {id(tensor) for tensor, (tail, head) in pairs if tail != BIAS and head < last}
        some = [nn.Parameter(torch.empty(1, 1))]  # torch refuses to build an optimizer of nothing
        adam = adam | {"decoupled_weight_decay": True, "capturable": capturable}
        self._rules = {"muon": torch.optim.Muon(some, **muon), "adam": torch.optim.Adam(some, **adam)}
        super().__init__(params, {})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Split a group by whose its parameters are."""
        own, parts = dict(param_group), {"muon": list[Any](), "adam": list[Any]()}
        lr, adam_lr, items = own.pop("lr", None), own.pop("adam_lr", None), own.pop("params")
        for item in [items] if isinstance(items, Tensor) else items:
            matrix = id(item[1] if isinstance(item, tuple) else item) in self._matrices
            parts["muon" if matrix else "adam"].append(item)
        if extra := sorted(set(own) - {"weight_decay"}):
            raise ValueError(f"a group of muon may set lr, adam_lr and weight_decay, got {extra}")
        rates = {"muon": lr, "adam": adam_lr if parts["muon"] else adam_lr or lr}
        for name, rule in self._rules.items():
            if parts[name]:
                own["lr"] = rates[name] or rule.defaults["lr"]
                super().add_param_group({**rule.defaults, **own, "params": parts[name], "rule": name})

    def _step(self) -> None:
        for name, rule in self._rules.items():
            rule.state, rule.param_groups = self.state, [group for group in self.param_groups if group["rule"] == name]
            rule.step()
