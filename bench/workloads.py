"""Workloads to time: the same definitions for pytest-benchmark and for other doors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import islice
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import pathrnn
from bench import registry
from bench.models import Network, relu
from bench.runs import Run
from bench.spaces import Problem, Step
from bench.stack import Training
from bench.train import task_of

BATCH = 128
"""Sequences per step."""

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
) -> Callable[[], Tensor]:
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
    settings = {"lr": 1e-5, **options}
    problem = Problem(model, registry.resolve(registry.OPTIMIZERS, name), settings, max_norm, steps=28)
    return update(model, inputs, labels, registry.resolve(registry.SPACES, space)(problem))


def update(model: nn.Module, inputs: Tensor, labels: Tensor, step: Step) -> Callable[[], Tensor]:
    """Build an update of a classifier, or of a stack of them: zero gradients, forward, backward, optimizer.

    Args:
        model: the network.
        inputs: its inputs.
        labels: of all its sequences, in one axis.
        step: takes a step once gradients are there.

    Returns:
        A function that takes one update, and returns the loss before it.
    """

    def run() -> Tensor:
        model.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(model(inputs).flatten(0, -2), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        step()
        return loss.detach()

    return run


def optimizer_step(name: str, hidden: int, layers: int, device: str = "cpu") -> Callable[[], Any]:
    """Build the optimizer's part of a step alone, with gradients that stay as they are.

    Args:
        name: ``"SGD"`` or ``"Adam"``, of torch, in weight space, and ``"foreach"`` or ``"fused"``; ``"path"``, SGD in
            path space.
        hidden: width.
        layers: depth.
        device: where.

    Returns:
        A function that takes one step.
    """
    model, inputs, labels = _network(hidden, layers)
    model.to(device)
    functional.cross_entropy(model(inputs.to(device)), labels.to(device)).backward()  # type: ignore[no-untyped-call]
    if name == "path":  # which like the others does not wait for a GPU
        rule: Any = torch.optim.SGD
        return pathrnn.PathSpace(model.parameters(), model.graph, rule, lr=1e-6, capturable=device != "cpu").step
    rule, kind = name.split()
    step: Callable[[], Any] = getattr(torch.optim, rule)(model.parameters(), lr=1e-6, **{kind: True}).step
    return step


def recurrence(name: str, steps: int, units: int) -> Callable[[], None]:
    """Build forward and backward pass of a layer: batch 128, 28 numbers a step where it has 28 steps, else one.

    Args:
        name: ``"nn.RNN"`` or ``"relu_scan"``.
        steps: length of the sequences.
        units: width.

    Returns:
        A function that makes all gradients.
    """
    layer = nn.RNN(28 if steps == 28 else 1, units, nonlinearity="relu")
    inputs = torch.rand(steps, BATCH, layer.input_size)

    def run() -> None:
        layer.zero_grad()
        if name == "nn.RNN":
            states = layer(inputs)[0]
        else:
            weight, recurrent, *biases = layer.all_weights[0]
            states = pathrnn.relu_scan(functional.linear(inputs, weight, biases[0] + biases[1]), recurrent)
        states[-1].sum().backward()

    return run


def harness_training(run: Run, updates: int) -> Callable[[], Any]:
    """Build training as the harness does it, its evaluations left out.

    Args:
        run: what to train, a ReLU network; its data are loaded at once.
        updates: so many make one call.

    Returns:
        A function that goes on with the training.
    """
    task = task_of(run.task)
    endless = run.model_copy(update={"updates": updates * 10_000, "evaluations": 10_000})
    progress = Training([endless], task).updates()
    return lambda: next(progress)


def bare_training(run: Run, updates: int) -> Callable[[], Any]:
    """Build the same training in plain torch: ReLU network, cross entropy of the last step, Adam, no clipping.

    Args:
        run: what to train.
        updates: so many make one call.

    Returns:
        A function that goes on with the training.
    """
    task = task_of(run.task)
    images, labels = task.encode(task.train.inputs), task.train.targets
    rnn = nn.RNN(images.shape[-1], run.task.hidden, nonlinearity="relu", batch_first=True)
    head = nn.Linear(run.task.hidden, 10)
    optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=run.lr)
    order = iter(torch.split(torch.randperm(len(images)).repeat(1_000), run.task.batch))

    def train() -> None:
        for chosen in islice(order, updates):
            loss = functional.cross_entropy(head(rnn(images[chosen])[0][:, -1]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return train


def _network(hidden: int, layers: int) -> tuple[Network, torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(relu(28, hidden, layers, True), 10), torch.rand(BATCH, 28, 28), torch.randint(10, (BATCH,))


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
