"""The core of every optimizer here: a torch optimizer as a rule that sees other tensors than the weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pathrnn.coordinates import clip
from pathrnn.graph import ReductionGraph, tensors_of


class Space(torch.optim.Optimizer):
    """Run a rule on what a subclass makes of the weights of a graph and of their gradients.

    ``param_groups``, ``state`` and ``defaults`` are the rule's own, so schedulers see what they expect. Parameters
    outside the graph get the rule as it is.
    """

    def __init__(
        self,
        params: Any,
        graph: ReductionGraph,
        rule: Callable[..., torch.optim.Optimizer],
        max_path_norm: float | None,
        rule_kwargs: dict[str, Any],
    ) -> None:
        if not isinstance(graph, ReductionGraph):
            raise TypeError(f"graph must be a ReductionGraph, got {type(graph).__name__}")
        if max_path_norm is not None and not max_path_norm > 0:
            raise ValueError(f"max_path_norm must be positive or None, got {max_path_norm}")
        _require_positive_rate(rule_kwargs)
        self.graph = graph
        self.max_path_norm = max_path_norm
        self._edges = graph.edges()  # the Parameters, as every torch optimizer holds them; values are read at each step
        self._tensors = tensors_of(self._edges)
        self.rule = build_rule(rule, params, graph, **rule_kwargs)
        super().__init__(self.rule.param_groups, self.rule.defaults)
        self._share()
        given = {id(tensor) for group in self.param_groups for tensor in group["params"]}
        for name, tensor in zip(graph.names(), self._tensors, strict=True):
            if id(tensor) not in given:
                raise ValueError(f"params must hold every weight of the graph, got none for {name}")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters outside the graph, as to any torch optimizer."""
        if self.param_groups is not self.rule.param_groups:  # the constructor of torch lists the groups of the rule
            super().add_param_group(param_group)
        else:
            _require_positive_rate(param_group)
            self.rule.add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step. Reads ``.grad``, writes parameters and state, nothing else.

        Args:
            closure: evaluates the model and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError: a gradient is not finite, or a weight that coordinates are divided by has become zero; no weight
                has been changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        grads = [tensor.grad for tensor in self._tensors]
        if all(grad is None for grad in grads):
            self._rule_step()
            return loss
        slopes, at = self._slopes(grads)
        slopes = self._bounded(slopes)
        self._enter(at)
        moved = [(tensor, grad, slope) for tensor, grad, slope in zip(self._tensors, grads, slopes, strict=True)]
        moved = [each for each in moved if each[1] is not None]
        try:
            for tensor, _, slope in moved:
                tensor.grad = slope
            self._rule_step()
        finally:
            for tensor, grad, _ in moved:
                tensor.grad = grad
            self._leave(at)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return groups, the rule's state, and the constants of the space."""
        return {**self.rule.state_dict(), "space": {"name": type(self).__name__, **self._constants()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue, bit by bit, from the :meth:`state_dict` of this class for the same network, rule and groups."""
        own, space = type(self).__name__, state_dict.get("space", {})
        if space.get("name") != own:
            raise ValueError(f"state_dict must come from {own}, got {space.get('name', 'that of a torch optimizer')}")
        self.rule.load_state_dict({key: value for key, value in state_dict.items() if key != "space"})
        self._share()
        self._load_constants(space)

    def __getstate__(self) -> dict[str, Any]:
        """Give deepcopy and pickle everything but the step that a scheduler has wrapped."""
        return {key: value for key, value in self.__dict__.items() if key != "step"}

    def _rule_step(self) -> None:
        step = type(self.rule).step
        getattr(step, "__wrapped__", step)(self.rule)  # without torch's profiling of a step, which our own has already

    def _share(self) -> None:
        self.param_groups, self.state, self.defaults = self.rule.param_groups, self.rule.state, self.rule.defaults

    def _bounded(self, slopes: list[Tensor]) -> list[Tensor]:
        """Clip; refuse what is not finite."""
        largest, replicas = self.max_path_norm or math.inf, self._tensors[0].dim() - 2
        bounded = clip(slopes, replicas, largest)
        if bounded is None:
            self._require_finite(slopes)  # where all entries are finite, only their norm has overflown
            wide = clip([slope.double() for slope in slopes], replicas, largest) or slopes
            bounded = [slope.to(self._tensors[0].dtype) for slope in wide]
        return bounded

    def _require_finite(self, slopes: list[Tensor]) -> None:
        for name, tensor in zip(self.graph.names(), self._tensors, strict=True):
            if tensor.grad is not None and not bool(torch.isfinite(tensor.grad).all()):
                value = tensor.grad[~torch.isfinite(tensor.grad)][0].item()
                raise ValueError(f"the gradient of {name} must be finite, got {value}; lower lr or max_path_norm")
        if not all(bool(torch.isfinite(slope).all()) for slope in slopes):
            raise ValueError(f"path gradients must be finite, got an overflow of {slopes[0].dtype}")

    def _slopes(self, grads: list[Tensor | None]) -> tuple[list[Tensor], Any]:
        """Return what the rule shall see as gradients, one tensor per parameter, and what the other hooks need."""
        raise NotImplementedError

    def _enter(self, at: Any) -> None:
        """Turn weights, in place, into what the rule shall see."""

    def _leave(self, at: Any) -> None:
        """Turn them back into weights, in place."""

    def _constants(self) -> dict[str, Any]:
        return {}

    def _load_constants(self, constants: dict[str, Any]) -> None:
        """Take over what :meth:`_constants` gave."""


def build_rule(
    rule: Callable[..., torch.optim.Optimizer], params: Any, graph: ReductionGraph, **settings: Any
) -> torch.optim.Optimizer:
    """Build a rule in weight space; one that has a parameter ``graph`` (:func:`pathrnn.muon`) is given the graph."""
    wanted = {"graph": graph} if "graph" in inspect.signature(rule).parameters else {}
    return rule(params, **wanted, **settings)


def fill(grads: list[Tensor | None], like: list[Tensor]) -> list[Tensor]:
    """Put zeros in the place of gradients that are missing."""
    return [torch.zeros_like(t) if grad is None else grad for grad, t in zip(grads, like, strict=True)]


def _require_positive_rate(settings: dict[str, Any]) -> None:
    rate = settings.get("lr", 1.0)
    if not rate > 0:
        raise ValueError(f"lr must be positive, got {float(rate)}")
