"""Optimizers in path space: a space times a rule, where the rule is any torch optimizer class."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pathrnn import coordinates
from pathrnn import skeleton as skeletons
from pathrnn.coordinates import Frame, Scales
from pathrnn.graph import Edges, ReductionGraph, layers_of, tensors_of

_CLIP_EPSILON = 1e-6
"""Keeps the clipping factor finite; the constant of ``torch.nn.utils.clip_grad_norm_``."""

_OWNER = "skeleton_of"
"""Key that marks a group of skeleton coordinates in the rule, with the number of the group whose settings it takes."""

_OWN_SETTINGS = ("params", "param_names", "weight_decay")
"""What a group of skeleton coordinates keeps to itself."""


class PathSpace(torch.optim.Optimizer):
    r"""Run any torch optimizer on the path-space coordinates of a ReLU recurrent network.

    At every step, for each edge ``e = (u -> v)`` that owns a basis path,

    .. math:: c_e = p(u)\, w_e\, q(v) / s_e, \qquad c \leftarrow \mathrm{rule}(c, \partial L / \partial c),

    and the weights become those that have the new coordinates, with out-skeleton weights left as they are. Two networks
    that differ by a positive rescaling of hidden units have the same coordinates and so the same training run.
    Building the optimizer leaves the weights as they are.

    While the rule runs, each parameter of the graph holds its coordinates (skeleton entries have zero gradient and are
    not used), and one extra vector per hidden layer holds the coordinates of its skeleton paths, without weight decay.
    Parameters outside the graph get the rule as it is. ``param_groups`` and ``state`` are the rule's own, so schedulers
    see what they expect; the groups of the skeleton coordinates follow those of their ``weight_ih``.

    Where a weight of the graph has no gradient it stays, and so do all skeleton coordinates, because moving those
    would move it.

    Args:
        params: parameters or groups, as for any torch optimizer; all weights of the graph must be among them.
        graph: the network.
        rule: optimizer class, called as ``rule(groups, **rule_kwargs)``.
        coordinates: ``"normalised"`` divides path values by invariants of the initial weights, so coordinates start as
            the weights of the balanced gauge and skeleton coordinates at +1 or -1; ``"raw"`` is the plain path values.
        skeleton: ``"magnitude"``, the largest weights in the balanced gauge, or ``"index"``, the seed's rule.
        max_path_norm: clip ``dL/dc`` to this Euclidean norm, per replica, over all coordinates; None does not clip.
        max_step_ratio: ``delta``; a step keeps new over old of each skeleton path value in ``[1 - delta, 1 + delta]``,
            so that none changes sign. None switches the guard off.
        **rule_kwargs: arguments of the rule. ``lr`` has the unit of (coordinate squared) per loss.

    Raises:
        ValueError: ``lr <= 0``, a bad option, a graph weight that is not in ``params``, a zero skeleton weight; in
            ``step``, a gradient that is not finite.

    Source: ours, after "Path Space for Recurrent Neural Networks with ReLU Activations" (ICLR 2020 submission), of
    which only the abstract is public; ``rule=torch.optim.SGD, coordinates="raw", skeleton="index"`` is nearest to it.

    Deviations: normalised coordinates, the guard, clipping by the norm in path space and the magnitude skeleton are
    ours.

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
        coordinates: str = "normalised",
        skeleton: str = "magnitude",
        max_path_norm: float | None = None,
        max_step_ratio: float | None = 0.5,
        **rule_kwargs: Any,
    ) -> None:
        _require_options(max_path_norm, max_step_ratio)
        edges = graph.edges()
        self.graph = graph
        self._edges = edges  # the Parameters, as every torch optimizer holds them; their values are read at each step
        self.max_path_norm = max_path_norm
        self.max_step_ratio = max_step_ratio
        self._skeleton = skeletons.choose(edges, skeleton)
        self._tensors = tensors_of(edges)
        self._scales = _scales(edges, self._skeleton, coordinates)
        self._guarded = 0
        self._paths = [nn.Parameter(torch.ones_like(layer.forward[..., 0])) for layer in edges[:-1]]
        super().__init__(params, rule_kwargs)
        self._require_all_weights()
        self.rule = rule([*self.param_groups, *self._path_groups()], **rule_kwargs)
        self.defaults = self.rule.defaults
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters outside the graph, as to any torch optimizer.

        Args:
            param_group: parameters and their settings.

        Raises:
            ValueError: ``lr <= 0``, or what the rule refuses.
        """
        super().add_param_group(param_group)
        rate = self.param_groups[-1].get("lr", 1.0)
        if not rate > 0:
            raise ValueError(f"lr must be positive, got {float(rate)}")
        if hasattr(self, "rule"):
            self.rule.add_param_group(self.param_groups[-1])
            self._share()

    @property
    def guard_count(self) -> int:
        """How many steps of single skeleton coordinates the step-ratio guard has held back so far."""
        return self._guarded

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step: gradients to coordinates, the rule, weight allocation.

        Reads ``.grad``, writes parameters and state, nothing else.

        Args:
            closure: evaluates the model and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError: a gradient is not finite, or a skeleton weight has become zero; no weight has been changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._settle_paths()
        self._follow()
        edges, tensors = self._edges, self._tensors
        grads = [tensor.grad for tensor in tensors]
        moved = [place for place, grad in enumerate(grads) if grad is not None]
        if not moved:
            self._rule_step(self.rule)
            return loss
        at = coordinates.frame(edges, self._skeleton, self._scales)
        slopes = self._slopes(edges, grads, at)
        try:
            self._enter_(tensors, moved, slopes, at)
            self._rule_step(self.rule)
        finally:
            for tensor, grad in zip(tensors, grads, strict=True):
                tensor.grad = grad
            coordinates.allocate_(edges, moved, self._ratios(at), at)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return groups, the rule's state, and the constants of the coordinates."""
        constants = {
            "source": self._skeleton.source,
            "target": self._skeleton.target,
            "scales": None if self._scales is None else tuple(self._scales),
            "guard_count": self.guard_count,
        }
        return {**self.rule.state_dict(), "path_space": constants}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`, bit by bit.

        Args:
            state_dict: what a PathSpace of the same network, rule and groups returned.

        Raises:
            ValueError: the state of another kind of optimizer, or other groups.
        """
        if "path_space" not in state_dict:
            raise ValueError(f"state_dict must come from a PathSpace, got only the keys {sorted(state_dict)}")
        self.rule.load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self._share()
        constants, like = state_dict["path_space"], self._tensors[0]
        source, target = ([index.to(like.device) for index in constants[key]] for key in ("source", "target"))
        self._skeleton = skeletons.from_choice(self._edges, source, target)
        self._scales = None if constants["scales"] is None else Scales(*constants["scales"])
        self._guarded = constants["guard_count"]

    def __getstate__(self) -> dict[str, Any]:
        """Copy everything, so that deepcopy and pickle give a working optimizer."""
        return self.__dict__.copy()

    def _require_all_weights(self) -> None:
        given = {id(parameter) for group in self.param_groups for parameter in group["params"]}
        for name, parameter in zip(self.graph.names(), self.graph.parameters(), strict=True):
            if id(parameter) not in given:
                raise ValueError(f"params must hold every weight of the graph, got none for {name}")

    def _path_groups(self) -> list[dict[str, Any]]:
        """Build a group of the rule for the skeleton coordinates of each layer, after the group of its ``W^l``."""
        groups = []
        for layer, (edges, path) in enumerate(zip(self.graph.edges(), self._paths, strict=False), start=1):
            owner = next(
                i for i, group in enumerate(self.param_groups) if any(p is edges.forward for p in group["params"])
            )
            group = {**self.param_groups[owner], "weight_decay": 0.0, "params": [path], _OWNER: owner}
            if "param_names" in group:
                group["param_names"] = [f"skeleton paths of hidden layer {layer}"]
            groups.append(group)
        return groups

    def _share(self) -> None:
        """Make groups and state those of the rule, but for the groups of the skeleton coordinates."""
        self.param_groups = [group for group in self.rule.param_groups if _OWNER not in group]
        self._path_settings = [
            (group, self.param_groups[group[_OWNER]], {key: group[key] for key in _OWN_SETTINGS if key in group})
            for group in self.rule.param_groups
            if _OWNER in group
        ]
        self.state = self.rule.state
        step = type(self.rule).step
        # torch wraps the step of every optimizer class in hooks and profiling, which our own step has already
        self._rule_step: Callable[..., Any] = getattr(step, "__wrapped__", step) if hasattr(step, "hooked") else step

    def _follow(self) -> None:
        """Move the constants to where the weights are now."""
        like, skeleton, scales = self._tensors[0], self._skeleton, self._scales
        if skeleton.source[0].device != like.device:
            self._skeleton = skeleton.to(like.device)
        if scales is not None and (scales.ins[0].device != like.device or scales.ins[0].dtype != like.dtype):
            self._scales = scales.to(like)

    def _settle_paths(self) -> None:
        """Give the skeleton coordinates the settings of their groups, which a scheduler may have changed."""
        for group, owner, own in self._path_settings:
            group.update(owner)
            group.update(own)

    def _slopes(self, edges: list[Edges], grads: list[Tensor | None], at: Frame) -> list[Tensor]:
        """Gradients by the coordinates of each parameter, then by the skeleton coordinates of each layer, clipped."""
        filled = [torch.zeros_like(self._tensors[place]) if grad is None else grad for place, grad in enumerate(grads)]
        layers = layers_of(filled, edges)
        slopes = coordinates.gradients(layers, at) + coordinates.skeleton_gradients(edges, layers, at)
        if self.max_path_norm is None:
            if not _all_finite(slopes):
                self._require_finite(edges)
            return slopes
        replicas = edges[0].forward.dim() - 2
        norm = _norm(slopes, replicas)
        if not _all_finite([norm]):
            self._require_finite(edges)
            norm = _norm([slope.double() for slope in slopes], replicas).to(norm)
        factor = (self.max_path_norm / (norm + _CLIP_EPSILON)).clamp(max=1.0)
        return [slope * factor.reshape(factor.shape + (1,) * (slope.dim() - replicas)) for slope in slopes]

    def _enter_(self, tensors: list[Tensor], moved: list[int], slopes: list[Tensor], at: Frame) -> None:
        """Turn weights into coordinates, in place, and gradients into those by the coordinates."""
        torch._foreach_mul_([tensors[place] for place in moved], [at.factors[place] for place in moved])
        for place in moved:
            tensors[place].grad = slopes[place]
        complete = len(moved) == len(tensors)
        for parameter, path, slope in zip(self._paths, at.paths, slopes[len(tensors) :], strict=True):
            parameter.data = path.clone()
            parameter.grad = slope if complete else None

    def _ratios(self, at: Frame) -> list[Tensor]:
        """New over old skeleton path values, held within the allowed ratio; count where that was needed."""
        ratios = [new / old for new, old in zip(self._paths, at.paths, strict=True)]
        for parameter in self._paths:
            parameter.grad = None
        if self.max_step_ratio is None:
            return ratios
        held = [ratio.clamp(1 - self.max_step_ratio, 1 + self.max_step_ratio) for ratio in ratios]
        for before, after, free in zip(ratios, held, at.skeleton.free, strict=True):
            if not torch.equal(before, after):
                self._guarded += int(((before != after) & free).sum())
        return held

    def _require_finite(self, edges: list[Edges]) -> None:
        """Say which of its possible causes made a path gradient or a norm overflow."""
        names = self.graph.names()
        for name, tensor in zip(names, tensors_of(edges), strict=True):
            if tensor.grad is not None and not bool(torch.isfinite(tensor.grad).all()):
                value = tensor.grad[~torch.isfinite(tensor.grad)][0].item()
                raise ValueError(f"the gradient of {name} must be finite, got {value}; lower lr or set max_path_norm")
        skeletons.require_nonzero(edges, self._skeleton)


def _scales(edges: Sequence[Edges], skeleton: skeletons.Skeleton, kind: str) -> Scales | None:
    if kind == "raw":
        return None
    if kind == "normalised":
        return coordinates.normalised(edges, skeleton).to(edges[0].forward)
    raise ValueError(f"coordinates must be 'normalised' or 'raw', got {kind!r}")


def _all_finite(tensors: list[Tensor]) -> bool:
    """Check in one pass, with the routine that GradScaler uses; multiplies by one, in place."""
    one = _one(tensors[0].device)
    found = torch.zeros_like(one)
    torch._amp_foreach_non_finite_check_and_unscale_(tensors, found, one)
    return not found.item()


@functools.cache
def _one(device: torch.device) -> Tensor:
    return torch.ones((), device=device)


def _norm(tensors: list[Tensor], replicas: int) -> Tensor:
    """Euclidean norm over all entries of all tensors, ``[*R]``."""
    norms = [torch.linalg.vector_norm(tensor.flatten(replicas), dim=-1) for tensor in tensors]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return total


def _require_options(max_path_norm: float | None, max_step_ratio: float | None) -> None:
    if max_path_norm is not None and not max_path_norm > 0:
        raise ValueError(f"max_path_norm must be positive or None, got {max_path_norm}")
    if max_step_ratio is not None and not 0 < max_step_ratio < 1:
        raise ValueError(f"max_step_ratio must lie between 0 and 1, or be None, got {max_step_ratio}")
