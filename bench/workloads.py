"""Workloads to time: the same definitions for pytest-benchmark and for other doors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from torch.nn import functional

import pathrnn
from bench import registry
from bench.train import ReluRNN

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "RMSprop": ("RMSprop", {}),
    "Adam": ("Adam", {}),
    "AdamW": ("AdamW", {}),
    "Muon": ("Muon", {}),
}
"""Every rule, by the name of its optimizer and with its settings."""


def training_step(
    space: str, rule: str = "SGD", max_norm: float | None = None, hidden: int = 128, layers: int = 1
) -> Callable[[], None]:
    """Build a training step (zero gradients, forward, backward, optimizer): batch 128, 28 steps of 28 numbers.

    Args:
        space: name of a space.
        rule: name in :data:`RULES`.
        max_norm: clip the gradient that the rule sees to this norm, in any space.
        hidden: width.
        layers: depth.

    Returns:
        A function that takes one step.
    """
    model, inputs, labels = _network(hidden, layers)
    name, options = RULES[rule]
    build = registry.resolve(registry.SPACES, space)
    step = build(model, registry.resolve(registry.OPTIMIZERS, name), max_norm=max_norm, lr=1e-5, **options)

    def run() -> None:
        model.zero_grad(set_to_none=True)
        functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        step()

    return run


def optimizer_step(name: str, hidden: int, layers: int) -> Callable[[], Any]:
    """Build the optimizer's part of a step alone, with gradients that stay as they are.

    Args:
        name: ``"SGD"`` or ``"Adam"``, of torch, ``foreach``, in weight space; ``"path"``, SGD in path space.
        hidden: width.
        layers: depth.

    Returns:
        A function that takes one step.
    """
    model, inputs, labels = _network(hidden, layers)
    functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
    if name == "path":
        return pathrnn.PathSpace(model.parameters(), model.graph, torch.optim.SGD, lr=1e-6).step
    step: Callable[[], Any] = getattr(torch.optim, name)(model.parameters(), lr=1e-6, foreach=True).step
    return step


def _network(hidden: int, layers: int) -> tuple[ReluRNN, torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ReluRNN(28, hidden, layers, 10, bias=True), torch.rand(128, 28, 28), torch.randint(10, (128,))


def interleaved(
    functions: Mapping[str, Callable[[], Any]], rounds: int, calls: int = 1, warmup: int = 2
) -> dict[str, list[float]]:
    """Time functions in turns, in alternating order, so that a change of the machine's pace meets all of them.

    Args:
        functions: what to time.
        rounds: how often.
        calls: so many calls make one time, so that work done once in a while is in each.
        warmup: rounds before, not counted.

    Returns:
        Seconds per round and function.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warmup + rounds):
        for name in list(functions)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            for _ in range(calls):
                functions[name]()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], of: str, over: str) -> float:
    """Compute the median over rounds of ``of / over``."""
    return median(a / b for a, b in zip(seconds[of], seconds[over], strict=True))
