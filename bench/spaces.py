"""Spaces: what a rule sees of a network. Each turns network and rule into a step that is taken once gradients exist."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import pathrnn
from bench.models import Network
from pathrnn.space import Rule, build_rule


class DivergedError(Exception):
    """The loss, a gradient or a weight is no longer finite: an outcome, not an error.

    Args:
        reason: what is not finite, and when.
        replica: which of the replicas that are trained together; 0, if it is alone.
    """

    def __init__(self, reason: str, replica: int = 0) -> None:
        super().__init__(reason)
        self.replica = replica


class Step:
    """Takes a step of an optimizer, once gradients are there.

    Args:
        optimizer: the optimizer; a checkpoint keeps its state.
        before: what to do to the gradients first.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, before: Callable[[], None] | None = None) -> None:
        self.optimizer, self.before = optimizer, before

    def __call__(self) -> None:
        """Take what pathrnn refuses as divergence: gradients that are not finite, skeleton weights that became zero."""
        if self.before is not None:
            self.before()
        try:
            self.optimizer.step()
        except ValueError as error:
            if _source(error).startswith("pathrnn."):
                raise DivergedError(str(error), *getattr(error, "replica", ())) from error
            raise


@dataclass(frozen=True)
class Problem:
    """What every space needs to know.

    Attributes:
        model: the network.
        rule: a torch optimizer class, or a function that makes an optimizer.
        settings: arguments of the rule, its learning rate among them.
        max_norm: clip what the rule sees as its gradient to this Euclidean norm, or None.
        steps: length of the sequences.
        capturable: whether a CUDA graph is to hold the step; it then must not wait for the device.
    """

    model: Network
    rule: Rule
    settings: dict[str, Any]
    max_norm: float | None
    steps: int
    capturable: bool = False


def weight(problem: Problem) -> Step:
    """Weights as they are; the gradient is clipped by its norm."""
    model, max_norm = problem.model, problem.max_norm
    graph = model.graph if getattr(model.rnn, "nonlinearity", "") == "relu" else None
    rule, captured, params = problem.rule, problem.capturable, model.parameters()
    optimizer = build_rule(rule, params, graph, captured, **problem.settings)  # type: ignore[arg-type]
    return Step(optimizer, partial(clip_, model, max_norm) if max_norm is not None else None)


def clip_(model: Network, max_norm: float) -> None:
    """Bound the Euclidean norm of all gradients of a network, per replica where it has several."""
    replicas = model.head.weight.shape[:-2]
    if not replicas:
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        return
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.cat([grad.flatten(1) for grad in grads], 1).norm(dim=1)
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # torch's own formula
    for grad in grads:
        grad.mul_(factor.reshape(-1, *[1] * (grad.dim() - 1)))


def path(
    problem: Problem,
    coordinates: str = "relative",
    skeleton: str = "magnitude",
    max_step_ratio: float | None = 0.5,
) -> Step:
    """Path space (pathrnn.PathSpace); the gradient is clipped by its norm there."""
    options = {"coordinates": coordinates, "skeleton": skeleton, "max_step_ratio": max_step_ratio}
    options["capturable"] = problem.capturable
    return _graph_step(pathrnn.PathSpace, problem, options)


def gauge(problem: Problem, every: int = 10) -> Step:
    """Fixed gauge (pathrnn.GaugeFixed): weights on the representative of least norm; clipped by their norm there."""
    return _graph_step(pathrnn.GaugeFixed, problem, {"every": every})


def path_sgd(problem: Problem, second_term: bool = False) -> Step:
    """Path-SGD of Neyshabur et al. (pathrnn.PathSGD), for plain SGD alone; never clipped."""
    if problem.rule is not torch.optim.SGD or set(problem.settings) != {"lr"}:
        raise ValueError("path_sgd is itself an optimizer: its rule must be SGD with no options but the rate")
    model = problem.model
    lr, steps = problem.settings["lr"], problem.steps
    return Step(pathrnn.PathSGD(model.parameters(), model.graph, lr, steps, second_term))


def _graph_step(space: Rule, problem: Problem, options: dict[str, Any]) -> Step:
    model = problem.model
    options |= {"max_path_norm": problem.max_norm, **problem.settings}
    return Step(space(model.parameters(), model.graph, problem.rule, **options))


def _source(error: BaseException) -> str:
    """Name the module that raised an error."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return str(frames[-1][0].f_globals.get("__name__", ""))


def muon(
    params: Any, graph: pathrnn.ReductionGraph, lr: float, adam_share: float = 0.4, capturable: bool = False
) -> torch.optim.Optimizer:
    """Muon at a rate for matrices into hidden units, Adam at a share of it for the rest."""
    if graph is None:
        raise ValueError("Muon here needs a ReLU network, which tells it the matrices into hidden units")
    return pathrnn.muon(lr, adam_share * lr)(params, graph=graph, capturable=capturable)
