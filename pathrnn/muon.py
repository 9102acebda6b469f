"""Muon as a rule: torch's Muon for the matrices into hidden units, torch's Adam for everything else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pathrnn.graph import ReductionGraph


def muon(lr: float, adam_lr: float, *, weight_decay: float = 0.0) -> Callable[..., torch.optim.Optimizer]:
    """Make a rule of :class:`torch.optim.Muon` and :class:`torch.optim.Adam`, for any space.

    Muon (momentum 0.95, Nesterov, five Newton-Schulz steps, step times ``sqrt(max(1, rows / columns))``) gets ``W^l``
    and ``U^l`` of the hidden layers, Adam the readout, biases and parameters outside the graph. In weight space call the
    rule itself: ``muon(lr, adam_lr)(params, graph=graph)``. A parameter group may set ``lr``, ``adam_lr`` and
    ``weight_decay`` of its own; in ``param_groups`` it stands as two groups.

    Args:
        lr: rate of Muon, the spectral norm of a step; positive.
        adam_lr: rate of Adam; positive.
        weight_decay: decoupled, in both.

    Returns:
        A rule for :class:`pathrnn.PathSpace` and :class:`pathrnn.GaugeFixed`.

    Raises:
        ValueError: a rate that is not positive.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".

    Example:
        >>> import pathrnn
        >>> rnn, head = nn.RNN(3, 8, nonlinearity="relu", batch_first=True), nn.Linear(8, 2)
        >>> params = [*rnn.parameters(), *head.parameters()]
        >>> optimizer = pathrnn.PathSpace(params, ReductionGraph(rnn, head), muon(lr=0.005, adam_lr=0.002))
        >>> [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]
        [(2, 0.005), (4, 0.002)]
    """
    for name, rate in (("lr", lr), ("adam_lr", adam_lr)):
        if not rate > 0:
            raise ValueError(f"{name} must be positive, got {float(rate)}")
    return partial(_MuonAndAdam, muon_lr=lr, adam_lr=adam_lr, weight_decay=weight_decay)


class _MuonAndAdam(torch.optim.Optimizer):
    """Two torch optimizers on the groups and the state of one; each group says whose it is."""

    def __init__(self, params: Any, graph: ReductionGraph, muon_lr: float, adam_lr: float, weight_decay: float) -> None:
        self._graph = graph
        own = {"weight_decay": weight_decay}
        some = [nn.Parameter(torch.empty(1, 1))]  # torch refuses to build an optimizer of nothing
        self._rules = {
            "muon": torch.optim.Muon(some, lr=muon_lr, **own),
            "adam": torch.optim.Adam(some, lr=adam_lr, decoupled_weight_decay=True, **own),
        }
        super().__init__(params, {})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Split a group by whose its parameters are."""
        settings = dict(param_group)
        items, rates = settings.pop("params"), {"muon": settings.pop("lr", None), "adam": settings.pop("adam_lr", None)}
        items = [items] if isinstance(items, Tensor) else list(items)
        hidden = self._graph.edges()[:-1]
        matrices = {id(matrix) for layer in hidden for matrix in (layer.forward, layer.recurrent)}
        for name, rule in self._rules.items():
            tensors = [
                item
                for item in items
                if (id(item[1] if isinstance(item, tuple) else item) in matrices) == (name == "muon")
            ]
            if tensors:
                rate = {} if rates[name] is None else {"lr": rates[name]}
                super().add_param_group({**rule.defaults, **settings, **rate, "params": tensors, "rule": name})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Let both take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for name, rule in self._rules.items():
            rule.state, rule.param_groups = self.state, [group for group in self.param_groups if group["rule"] == name]
            rule.step()
        return loss

    def __getstate__(self) -> dict[str, Any]:
        """Give deepcopy and pickle everything but the step that a scheduler has wrapped."""
        return {key: value for key, value in self.__dict__.items() if key != "step"}
