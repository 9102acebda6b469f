"""The core of every optimizer here: a torch optimizer as a rule that sees other tensors than the weights."""

import inspect
import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from pathrnn.graph import ReductionGraph, ReplicaError, flatten

Rule = Callable[..., torch.optim.Optimizer]


class Optimizer(torch.optim.Optimizer):
    """What all optimizers here share: the closure, and copies without the step that a scheduler has wrapped."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step, which writes parameters and state alone, and return what the closure returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step()
        return loss

    def _step(self) -> None: ...

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in {"step", "_versions"}}


class Space(Optimizer):
    """Run a rule, whose groups and state these are, on what a subclass makes of weights of a graph and gradients."""

    _kept: tuple[str, ...] = ()  # attributes that a checkpoint needs
    _versions: list[int] | None = None  # torch's counters of changes, when the last step had been taken
    capturable = False  # see PathSpace

    def __init__(
        self, params: Any, graph: ReductionGraph, rule: Rule, max_path_norm: float | None, rule_kwargs: dict[str, Any]
    ) -> None:
        if not isinstance(graph, ReductionGraph):
            raise TypeError(f"graph must be a ReductionGraph, got {type(graph).__name__}")
        if max_path_norm is not None and not max_path_norm > 0:
            raise ValueError(f"max_path_norm must be positive or None, got {max_path_norm}")
        _require_positive_rate(rule_kwargs)
        self.graph, self.max_path_norm = graph, max_path_norm
        self._tensors, self._wiring = graph.parameters(), graph.wiring()  # Parameters, as every torch optimizer holds
        self.rule = build_rule(rule, params, graph, self.capturable, **rule_kwargs)
        super().__init__(self.rule.param_groups, self.rule.defaults)
        self._name, self.state, self.param_groups = type(self).__name__, self.rule.state, self.rule.param_groups
        given = {id(tensor) for group in self.param_groups for tensor in group["params"]}
        if missing := [name for name, t in zip(graph.names(), self._tensors, strict=True) if id(t) not in given]:
            raise ValueError(f"params must hold every weight of the graph, got none for {missing[0]}")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters outside the graph, as to any torch optimizer."""
        _require_positive_rate(param_group)
        if "_name" in self.__dict__:
            self.rule.add_param_group(param_group)
        else:  # the constructor of torch lists the groups of the rule
            super().add_param_group(param_group)

    def _step(self) -> None:
        self.rule.state = self.state  # which some replace, to forget
        grads = [tensor.grad for tensor in self._tensors]
        if all(grad is None for grad in grads):
            self.rule.step()
            return
        whole, weights = all(grad is not None for grad in grads), self._tensors
        slopes = [torch.zeros_like(w) if grad is None else grad for grad, w in zip(grads, weights, strict=True)]
        scale = self._scale()
        if scale is not None:
            weights, slopes = list(torch._foreach_mul(weights, scale)), list(torch._foreach_div(slopes, scale))
        slopes, at = self._slopes(weights, slopes, whole)
        slopes = self._clipped(slopes)
        still = [(tensor, tensor.clone()) for tensor, grad in zip(self._tensors, grads, strict=True) if grad is None]
        try:
            if scale is not None:
                torch._foreach_mul_(self._tensors, scale)
            self._enter(at)
            for tensor, grad, slope in zip(self._tensors, grads, slopes, strict=True):
                tensor.grad = None if grad is None else slope
            self.rule.step()
        finally:
            for tensor, grad in zip(self._tensors, grads, strict=True):
                tensor.grad = grad
            self._leave(at, whole)
            if still and scale is not None:
                torch._foreach_div_(self._tensors, scale)
            for tensor, before in still:
                tensor.copy_(before)
            self._versions = [tensor._version for tensor in self._tensors]

    def state_dict(self) -> dict[str, Any]:
        """Return groups, the rule's state, and the constants of the space; its hooks are those of ``rule``."""
        space = {"name": self._name, **{name: deepcopy(getattr(self, name)) for name in self._kept}}
        return {**self.rule.state_dict(), "space": space}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue, bit by bit, from the :meth:`state_dict` of this class for the same network, rule and groups."""
        space = state_dict.get("space", {})
        if (name := space.get("name", "a torch optimizer")) != self._name:
            raise ValueError(f"state_dict must come from {self._name}, got that of {name}")
        self.rule.load_state_dict({key: value for key, value in state_dict.items() if key != "space"})
        self.state, self.param_groups, self._versions = self.rule.state, self.rule.param_groups, None
        for name in self._kept:
            setattr(self, name, space[name])

    def _clipped(self, slopes: list[Tensor]) -> list[Tensor]:
        """Bound the Euclidean norm over all entries of all slopes, per replica; refuse what is not finite."""
        replicas, limit = self._tensors[0].dim() - 2, self.max_path_norm or math.inf
        if self.capturable:
            norm = torch.linalg.vector_norm(flatten(slopes), dim=-1, dtype=torch.float64)
            return _shortened(slopes, limit / norm)
        for dtype in (None, torch.float64):  # the second where only a sum of squares has overflown
            parts = flatten(slopes) if replicas else torch.stack(torch._foreach_norm(slopes, 2, dtype))
            norm = torch.linalg.vector_norm(parts, dim=-1, dtype=dtype)
            largest = float(norm.max() if replicas else norm)
            if math.isfinite(largest):
                break
        else:
            for name, tensor in zip(self.graph.names(), self._tensors, strict=True):
                if tensor.grad is not None and len(bad := (~torch.isfinite(tensor.grad)).nonzero()):
                    rule = f"the gradient of {name} must be finite, got {tensor.grad[tuple(bad[0])].item()}"
                    raise ReplicaError(f"{rule}; lower lr or max_path_norm", bad[0, :replicas].tolist())
            text = f"path gradients must be finite, got an overflow of {slopes[0].dtype}"
            raise ReplicaError(text, (~torch.isfinite(norm)).nonzero()[0].tolist())
        if largest <= limit:
            return slopes
        if not replicas:  # the usual case, with one call and a number
            return list(torch._foreach_mul(slopes, limit / largest))
        return _shortened(slopes, limit / norm)

    def _untouched(self) -> bool:
        """Tell, without a look at weights, whether nobody has changed them since the last step, ``.data`` aside."""
        return self._versions == [tensor._version for tensor in self._tensors]

    def _scale(self) -> list[Tensor] | None:
        """Return factors that bring the weights to the gauge in which the rule works; None where they are."""

    def _slopes(self, weights: Sequence[Tensor], slopes: list[Tensor], whole: bool) -> tuple[list[Tensor], Any]:
        """Return what the rule shall see as gradients, and what :meth:`_enter` and :meth:`_leave` need."""
        return slopes, None

    def _enter(self, at: Any) -> None:
        """Turn weights in the gauge, in place, into what the rule shall see."""

    def _leave(self, at: Any, whole: bool) -> None:
        """Turn them back into weights, in place; ``whole`` if none was without gradient."""


def build_rule(
    rule: Rule, params: Any, graph: ReductionGraph, captured: bool = False, **settings: Any
) -> torch.optim.Optimizer:
    """Build a rule in weight space; it is given the graph (:func:`pathrnn.muon`) and ``capturable``, if it has them."""
    if not callable(rule):
        raise TypeError(f"rule must be an optimizer class, or a function that returns one, got {type(rule).__name__}")
    taken, wanted = inspect.signature(rule).parameters, {"graph": graph} | ({"capturable": True} if captured else {})
    return rule(params, **{**{name: value for name, value in wanted.items() if name in taken}, **settings})


def _shortened(slopes: list[Tensor], factor: Tensor) -> list[Tensor]:
    """Multiply by a factor per replica, but by no more than 1."""
    factor = factor.clamp(max=1.0).to(slopes[0].dtype)
    if not factor.dim():
        return list(torch._foreach_mul(slopes, factor))
    return [slope * factor[(...,) + (None,) * (slope.dim() - factor.dim())] for slope in slopes]


def _require_positive_rate(settings: dict[str, Any]) -> None:
    rate = settings.get("lr", 1.0)
    if not rate > 0:
        raise ValueError(f"lr must be positive, got {float(rate)}")
