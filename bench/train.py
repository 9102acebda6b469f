"""One training run: from a fully resolved specification to a record."""

from __future__ import annotations

import copy
import functools
import json
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from bench import registry
from bench.entries import TaskEntry
from bench.environment import environment
from bench.errors import CheckFailedError, InputError, in_a_line
from bench.models import Network
from bench.runs import RECORD_VERSION, Run, columns, labels
from bench.seeds import seed
from bench.spaces import DivergedError, Problem, Step
from bench.tasks import Split, Task

OPENING = 3
"""Training losses that a record keeps from the start of its run, before other rounding has grown."""


@functools.cache
def load_task(name: str, options: str) -> Task:
    """Load a task once per process.

    Args:
        name: name in the registry.
        options: its options, as JSON.

    Returns:
        The task.

    Raises:
        InputError: data that are missing or wrong, or an option that the task does not have.
    """
    try:
        task: Task = registry.configured("task", name, json.loads(options))()
    except InputError:
        raise
    except Exception as error:  # an option that does not fit, or whatever foreign code raises
        raise InputError(f"task {name} with options {options}: {in_a_line(error)}") from error
    if not isinstance(task, Task):
        raise InputError(f"task {name}: {registry.TASKS[name]} must return a Task, got {task!r}")
    return task


def task_of(entry: TaskEntry) -> Task:
    """Load the task of an entry."""
    return load_task(entry.task, json.dumps(entry.options, sort_keys=True))


def build(run: Run, task: Task) -> tuple[Network, Step]:
    """Build model and optimizer; the seed depends on study, kind of task and index, not on the arm.

    Args:
        run: the specification.
        task: its task.

    Returns:
        The model, and a function that takes one step once gradients are there.

    Raises:
        InputError: a setting that the init or the optimizer refuses.
    """
    entry, space = run.task, run.space
    options = {name: None if value == "none" else value for name, value in space.options.items()}
    try:
        model = _start(run, task)
        problem = Problem(
            model=model,
            rule=registry.resolve(registry.OPTIMIZERS, run.rule.optimizer),
            settings={"lr": run.lr, **run.rule.options},
            max_norm=run.max_norm,
            steps=task.train.inputs.shape[1],
        )
        return model, registry.configured("space", space.space, options)(problem)
    except Exception as error:  # a setting that does not fit, or whatever foreign code raises
        place = f"rule {run.rule_name} in {run.space_name} space on {run.name} (init {entry.init})"
        raise InputError(f"{place}: {in_a_line(error)}") from error


def _start(run: Run, task: Task) -> Network:
    """Build the network as it starts; one of other units than ReLU as torch initialises it."""
    entry = run.task
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed(run.study, entry.task, "init", run.role, run.index))
        layers = registry.resolve(registry.MODELS, run.space.model)
        body = layers(task.inputs, entry.hidden, entry.layers, entry.bias)
        model = Network(body, task.outputs, task.every_step)
        if run.space.model == "relu":
            registry.configured("init", entry.init, entry.init_options)(model.graph)
            if entry.rescale:
                normal = [torch.randn(width) for width in model.graph.widths[1:-1]]
                model.graph.rescale_([torch.exp(entry.rescale * each) for each in normal])
    return model


def batches(split: Split, size: int, seed_: int) -> Iterator[Split]:
    """Yield shuffled batches for ever, pass after pass over the data."""
    generator = torch.Generator().manual_seed(seed_)
    size = min(size, len(split.inputs))
    while True:
        order = torch.randperm(len(split.inputs), generator=generator)
        for chosen in torch.split(order[: len(order) // size * size], size):
            yield Split(split.inputs[chosen], split.targets[chosen])


@torch.no_grad()
def evaluate(model: Network, task: Task, split: Split) -> float:
    """Compute the metric of a split.

    Args:
        model: the network.
        task: its task.
        split: one of the splits.

    Returns:
        The metric.

    Raises:
        DivergedError: an output is not finite.
    """
    outputs = torch.cat([model(task.encode(part)) for part in torch.split(split.inputs, 1_000)])
    if not bool(torch.isfinite(outputs).all()):
        raise DivergedError(f"an output is {outputs[~torch.isfinite(outputs)][0].item()} at an evaluation")
    return float(task.metric(outputs, split.targets))


class Progress(NamedTuple):
    """Where a run is at one of its evaluations.

    Attributes:
        update: updates so far.
        losses: training losses of the updates since the evaluation before.
        seconds: time spent on training so far, evaluations apart.
    """

    update: int
    losses: list[float]
    seconds: float


def train(run: Run) -> dict[str, Any]:
    """Train once.

    Args:
        run: the specification.

    Returns:
        The record: outcome, curves, first losses, timing, specification and environment. A test run uses the test data
        once, with the weights at the end or at the best validation point, as the suite says; a tuning run never.

    Raises:
        CheckFailedError: an optimizer, a loss or the machine failed, which is no divergence.
    """
    task = task_of(run.task)
    model, step = build(run, task)
    curves: dict[str, list[float]] = {"update": [], "train_loss": [], "validation": [], "seconds": []}
    start, status, reason, test = time.perf_counter(), "finished", "", math.nan
    best, kept, opening = math.nan, model, list[float]()
    try:
        for at in updates(run, task, model, step):
            validation = evaluate(model, task, task.validation)
            mean = sum(at.losses) / len(at.losses)
            for name, value in zip(curves, (at.update, mean, validation, at.seconds), strict=True):
                curves[name].append(value)
            opening = opening or at.losses[:OPENING]
            if run.test_at == "end":
                best = validation
            elif math.isnan(best) or (validation > best if task.higher_is_better else validation < best):
                best, kept = validation, copy.deepcopy(model)
        test = evaluate(kept, task, task.test) if run.role == "test" else math.nan
    except DivergedError as error:
        status, reason, best = "diverged", str(error), math.nan
    except Exception as error:  # whatever an optimizer, a loss or memory that runs out raises
        place = f"{run.rule_name} in {run.space_name} space on {run.name}, seed {run.index}, rate {run.lr:g}"
        raise CheckFailedError(f"{place}: {in_a_line(error)}") from error
    return {
        "version": RECORD_VERSION,
        "key": run.key,
        **labels(run),
        **columns(run),
        "specification": run.specification,
        "status": status,
        "reason": reason,
        "metric": task.metric_name,
        "higher_is_better": task.higher_is_better,
        "target": task.target,
        "validation": best,
        "test": test,
        **{f"curve_{name}": values for name, values in curves.items()},
        "opening": opening,
        "seconds": time.perf_counter() - start,
        "environment": json.dumps(environment(), sort_keys=True),
    }


def updates(run: Run, task: Task, model: Network, step: Step) -> Iterator[Progress]:
    """Train; stop at each of the evenly spaced evaluations.

    Args:
        run: the specification.
        task: its task.
        model: the network, changed in place.
        step: takes a step once gradients are there.

    Yields:
        How far the run is.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    stream = batches(task.train, run.task.batch, seed(run.study, run.task.task, "batches", run.role, run.index))
    stops = {round(run.updates * part / run.evaluations) for part in range(1, run.evaluations + 1)}
    losses: list[float] = []
    seconds, start = 0.0, time.perf_counter()
    for update in range(1, run.updates + 1):
        batch = next(stream)
        loss = task.loss(model(task.encode(batch.inputs)), batch.targets)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise DivergedError(f"the training loss is {losses[-1]} at update {update}")
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        step()
        if update in stops:
            seconds += time.perf_counter() - start
            yield Progress(update, losses, seconds)
            losses = []
            start = time.perf_counter()
