"""Workloads to time: the same definitions for pytest-benchmark and for other doors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch.nn import functional

from bench import registry
from bench.train import ReluRNN


def training_step(
    space: str,
    optimizer: str = "SGD",
    max_norm: float | None = None,
    lr: float = 0.01,
    hidden: int = 128,
    layers: int = 1,
    batch: int = 128,
) -> Callable[[], None]:
    """Build a training step (zero gradients, forward, backward, optimizer) on sequences of 28 steps of 28 numbers.

    Args:
        space: name of a space.
        optimizer: name of a torch optimizer.
        max_norm: clip the gradient that the optimizer sees to this norm, in either space.
        lr: learning rate.
        hidden: width.
        layers: depth.
        batch: sequences.

    Returns:
        A function that takes one step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ReluRNN(28, hidden, layers, 10, bias=True)
        inputs, labels = torch.rand(batch, 28, 28), torch.randint(10, (batch,))
    rule = registry.resolve(registry.OPTIMIZERS, optimizer)
    step = registry.resolve(registry.SPACES, space)(model, rule, max_norm=max_norm, lr=lr)

    def run() -> None:
        model.zero_grad(set_to_none=True)
        functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        step()

    return run


def interleaved(functions: Mapping[str, Callable[[], None]], rounds: int, warmup: int = 20) -> dict[str, list[float]]:
    """Time functions in turns, in alternating order, so that a change of the machine's pace meets all of them.

    Args:
        functions: what to time.
        rounds: how often.
        warmup: rounds before, not counted.

    Returns:
        Seconds per round and function.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warmup + rounds):
        for name in list(functions)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            functions[name]()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def overhead(seconds: Mapping[str, list[float]], of: str, over: str) -> float:
    """Compute the median over rounds of ``of / over - 1``."""
    return median(a / b for a, b in zip(seconds[of], seconds[over], strict=True)) - 1
