"""Optimizers in path space: a space times a rule, where the rule is any torch optimizer class."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from pathrnn import coordinates
from pathrnn import skeleton as skeletons
from pathrnn.coordinates import Frame, Scales, scales
from pathrnn.graph import ReductionGraph, tensors_of

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

    Where a weight of the graph has no gradient it stays, and so do all skeleton coordinates, which would move it.

    Args:
        params: parameters or groups, as for any torch optimizer; all weights of the graph must be among them.
        graph: the network.
        rule: optimizer class, called as ``rule(groups, **rule_kwargs)``; LBFGS and Muon refuse such groups.
        coordinates: ``"normalised"`` divides path values by invariants of the initial weights, so coordinates start as
            the weights of the balanced gauge and skeleton coordinates at +1 or -1; ``"raw"`` is the plain path values.
        skeleton: ``"magnitude"``, the largest weights in the balanced gauge, or ``"index"``, the seed's rule.
        max_path_norm: clip ``dL/dc`` to this Euclidean norm, per replica, over all coordinates of the graph; None does
            not clip, and SGD then diverges on long sequences, as it does in weight space.
        max_step_ratio: ``delta``; a step keeps new over old of each skeleton path value in ``[1 - delta, 1 + delta]``,
            so that none changes sign. None switches the guard off.
        **rule_kwargs: arguments of the rule. ``lr`` has the unit of (coordinate squared) per loss.

    Attributes:
        guard_count: how many steps of single skeleton coordinates the guard has held back so far.

    Raises:
        ValueError: ``lr <= 0``, a bad option, a graph weight that is not in ``params``, a zero skeleton weight; in
            ``step``, a gradient that is not finite.

    Source: ours, after "Path Space for Recurrent Neural Networks with ReLU Activations" (ICLR 2020 submission), of
    which only the abstract is public; ``rule=torch.optim.SGD, coordinates="raw", skeleton="index"`` is nearest to it.
    Deviations: normalised coordinates, guard, clipping by the norm in path space and magnitude skeleton are ours.

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
        max_path_norm: float | None = 1.0,
        max_step_ratio: float | None = 0.5,
        **rule_kwargs: Any,
    ) -> None:
        if not isinstance(graph, ReductionGraph):
            raise TypeError(f"graph must be a ReductionGraph, got {type(graph).__name__}")
        if max_path_norm is not None and not max_path_norm > 0:
            raise ValueError(f"max_path_norm must be positive or None, got {max_path_norm}")
        if max_step_ratio is not None and not 0 < max_step_ratio < 1:
            raise ValueError(f"max_step_ratio must lie between 0 and 1, or be None, got {max_step_ratio}")
        self.graph = graph
        self.max_path_norm = max_path_norm
        self.max_step_ratio = max_step_ratio
        self.guard_count = 0
        self._edges = graph.edges()  # the Parameters, as every torch optimizer holds them; values are read at each step
        self._tensors = tensors_of(self._edges)
        self._skeleton = skeletons.choose(self._edges, skeleton)
        skeletons.require_nonzero(self._tensors, self._skeleton)
        self._scales = scales(self._edges, self._skeleton, coordinates)
        self._paths = [nn.Parameter(torch.ones_like(layer.forward[..., 0])) for layer in self._edges[:-1]]
        super().__init__(params, rule_kwargs)
        self.rule = rule([*self.param_groups, *self._path_groups()], **rule_kwargs)
        self.defaults = self.rule.defaults
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters outside the graph, as to any torch optimizer."""
        super().add_param_group(param_group)
        rate = self.param_groups[-1].get("lr", 1.0)
        if not rate > 0:
            raise ValueError(f"lr must be positive, got {float(rate)}")
        if hasattr(self, "rule"):
            self.rule.add_param_group(self.param_groups[-1])
            self._share()

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
        self._follow()
        grads = [tensor.grad for tensor in self._tensors]
        moved = [place for place, grad in enumerate(grads) if grad is not None]
        at = coordinates.frame(self._edges, self._tensors, self._skeleton, self._scales)
        slopes = self._slopes(grads, at)
        for place in moved:
            self._tensors[place].mul_(at.factors[place])
        try:
            for place in moved:
                self._tensors[place].grad = slopes[place]
            for vector, path, slope in zip(self._paths, at.paths, slopes[len(grads) :] or repeat(None), strict=False):
                vector.copy_(path)
                vector.grad = slope
            self._rule_step(self.rule)
        finally:
            for place in moved:
                self._tensors[place].grad = grads[place]
                self._tensors[place].div_(at.factors[place])
            coordinates.allocate_(self._tensors, self._ratios(at), at)
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
        """Continue, bit by bit, from the :meth:`state_dict` of a PathSpace of the same network, rule and groups."""
        if "path_space" not in state_dict:
            raise ValueError(f"state_dict must come from a PathSpace, got only the keys {sorted(state_dict)}")
        self.rule.load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self._share()
        constants, like = state_dict["path_space"], self._tensors[0]
        source, target = ([index.to(like.device) for index in constants[key]] for key in ("source", "target"))
        self._skeleton = skeletons.from_choice(self._edges, source, target)
        self._scales = None if constants["scales"] is None else Scales(*constants["scales"]).to(like)
        self.guard_count = constants["guard_count"]

    def __getstate__(self) -> dict[str, Any]:
        """Give deepcopy and pickle all but the bare step of the rule, which pickle cannot find by its name."""
        return {key: value for key, value in self.__dict__.items() if key != "_rule_step"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`__getstate__`."""
        super().__setstate__(state)
        self._share()

    def _path_groups(self) -> list[dict[str, Any]]:
        """Build a group of the rule for the skeleton coordinates of each layer, with the settings of its ``W^l``."""
        owners = {id(tensor): number for number, group in enumerate(self.param_groups) for tensor in group["params"]}
        for name, tensor in zip(self.graph.names(), self._tensors, strict=True):
            if id(tensor) not in owners:
                raise ValueError(f"params must hold every weight of the graph, got none for {name}")
        groups = []
        for layer, path in enumerate(self._paths):
            owner = owners[id(self._edges[layer].forward)]
            own = {"params": [path], "weight_decay": 0.0, _OWNER: owner}
            if "param_names" in self.param_groups[owner]:
                own["param_names"] = [f"skeleton paths of hidden layer {layer + 1}"]
            groups.append({**self.param_groups[owner], **own})
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
        # torch wraps the step of every optimizer class in hooks and profiling, and those of its own classes in a switch
        # of grad mode too, which our own step has already
        own = type(self.rule).__module__.startswith("torch.optim.")
        self._rule_step: Callable[..., Any] = inspect.unwrap(step) if own else getattr(step, "__wrapped__", step)

    def _follow(self) -> None:
        """Follow what has changed since the last step: settings of groups (schedulers), type and device of weights."""
        for group, owner, own in self._path_settings:
            group.update(owner)
            group.update(own)
        path, like = self._paths[0], self._tensors[0]
        if path.dtype != like.dtype or path.device != like.device:
            self._skeleton = self._skeleton.to(like.device)
            self._scales = None if self._scales is None else self._scales.to(like)
            for path in self._paths:
                path.data = path.to(like)

    def _slopes(self, grads: list[Tensor | None], at: Frame) -> list[Tensor]:
        """Gradients by the coordinates of each parameter, then by the skeleton coordinates of each layer, clipped."""
        # Where a weight has no gradient, its slopes are zero and those of skeleton coordinates are left out.
        pairs = zip(self._tensors, grads, strict=True)
        filled = [torch.zeros_like(tensor) if grad is None else grad for tensor, grad in pairs]
        slopes = coordinates.gradients(filled, at)
        if all(grad is not None for grad in grads):
            slopes += coordinates.skeleton_gradients(self._tensors, filled, at)
        replicas = self._tensors[0].dim() - 2
        if not coordinates.clip_(slopes, replicas, self.max_path_norm or math.inf):
            self._require_finite(slopes)
            wide = [slope.double() for slope in slopes]
            coordinates.clip_(wide, replicas, self.max_path_norm or math.inf)
            slopes = [slope.to(self._tensors[0].dtype) for slope in wide]
        return slopes

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
                self.guard_count += int(((before != after) & free).sum())
        return held

    def _require_finite(self, slopes: list[Tensor]) -> None:
        """Say which path gradient is not finite, and why; a norm alone may overflow."""
        for name, tensor in zip(self.graph.names(), self._tensors, strict=True):
            if tensor.grad is not None and not bool(torch.isfinite(tensor.grad).all()):
                value = tensor.grad[~torch.isfinite(tensor.grad)][0].item()
                raise ValueError(f"the gradient of {name} must be finite, got {value}; lower lr or max_path_norm")
        skeletons.require_nonzero(self._tensors, self._skeleton)
        if not all(bool(torch.isfinite(slope).all()) for slope in slopes):
            raise ValueError(f"path gradients must be finite, got an overflow of {slopes[0].dtype}")
