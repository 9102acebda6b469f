"""One training run: from a fully resolved specification to a record."""

from __future__ import annotations

import copy
import functools
import json
import math
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from bench import registry
from bench.checkpoints import Checkpoint, kept_of, put_back, resumed
from bench.entries import TaskEntry
from bench.errors import CheckFailedError, InputError, in_a_line
from bench.log import Log, Progress
from bench.models import Network
from bench.runs import Run, described, named
from bench.seeds import seed
from bench.spaces import DivergedError, Problem, Step
from bench.tasks import Split, Task
from pathrnn import ReductionGraph
from pathrnn.space import Rule


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
    model = start(run, task)
    return model, optimizer(run, task, model, rule_of(run))


def rule_of(run: Run) -> Rule:
    """Import the rule of a run."""
    rule: Rule = registry.resolve(registry.OPTIMIZERS, run.rule.optimizer)
    return rule


def optimizer(run: Run, task: Task, model: Network, rule: Rule, capturable: bool = False) -> Step:
    """Build the optimizer of a model.

    Args:
        run: the specification.
        task: its task.
        model: the model.
        rule: the rule of the specification, or what stands for it.
        capturable: whether a CUDA graph is to hold the step.

    Returns:
        A function that takes one step once gradients are there.

    Raises:
        InputError: a setting that the optimizer refuses.
    """
    settings, steps = {"lr": run.lr, **run.rule.options}, task.train.inputs.shape[1]
    options = {name: None if value == "none" else value for name, value in run.space.options.items()}
    try:
        space = registry.configured("space", run.space.space, options)
        step: Step = space(Problem(model, rule, settings, run.max_norm, steps, capturable))
    except Exception as error:  # a setting that does not fit, or whatever foreign code raises
        raise InputError(_refusal(run, error)) from error
    if not isinstance(step, Step):
        raise InputError(f"space {run.space.space} must return a bench.spaces.Step, got {type(step).__name__}")
    return step


def start(run: Run, task: Task) -> Network:
    """Build the network as it starts; one of other units than ReLU as torch initialises it.

    Args:
        run: the specification.
        task: its task.

    Returns:
        The network, where the data are.

    Raises:
        InputError: a setting that the init refuses.
    """
    entry = run.task
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed(run.study, entry.task, "init", run.role, run.index))
        try:
            layers = registry.resolve(registry.MODELS, run.space.model)
            body = layers(task.inputs, entry.hidden, entry.layers, entry.bias)
            model = Network(body, task.outputs, task.every_step)
            if run.space.model == "relu":
                _init(entry, model.graph)
        except Exception as error:  # a setting that does not fit, or whatever foreign code raises
            raise InputError(_refusal(run, error)) from error
    return model.to(task.device)


def _init(entry: TaskEntry, graph: ReductionGraph) -> None:
    registry.configured("init", entry.init, entry.init_options)(graph)
    if entry.rescale:
        normal = [torch.randn(width) for width in graph.widths[1:-1]]
        graph.rescale_([torch.exp(entry.rescale * each) for each in normal])


def _refusal(run: Run, error: Exception) -> str:
    return f"rule {run.rule_name} in {run.space_name} space on {run.name} (init {run.task.init}): {in_a_line(error)}"


def orders(count: int, size: int, seed_: int) -> Iterator[Tensor]:
    """Yield the indices of shuffled batches for ever, pass after pass over so many sequences."""
    generator = torch.Generator().manual_seed(seed_)
    size = min(size, count)
    while True:
        yield from torch.split(torch.randperm(count, generator=generator)[: count // size * size], size)


def order_of(run: Run, task: Task) -> Iterator[Tensor]:
    """Yield the indices of the batches of a run; the seed depends on study, kind of task, role and index."""
    seed_ = seed(run.study, run.task.task, "batches", run.role, run.index)
    return orders(len(task.train.inputs), run.task.batch, seed_)


def stops(run: Run) -> set[int]:
    """Tell after which updates a run is evaluated: evenly spaced, the last one among them."""
    return {round(run.updates * part / run.evaluations) for part in range(1, run.evaluations + 1)}


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
    return score(
        task, torch.cat([model(task.encode(part)) for part in torch.split(split.inputs, 1_000)]), split.targets
    )


def score(task: Task, outputs: Tensor, targets: Tensor) -> float:
    """Compute the metric of outputs; DivergedError where one is not finite."""
    if not bool(torch.isfinite(outputs).all()):
        raise DivergedError(f"an output is {outputs[~torch.isfinite(outputs)][0].item()} at an evaluation")
    return float(task.metric(outputs, targets))


def train(run: Run, device: str = "cpu", checkpoint: Checkpoint | None = None) -> dict[str, Any]:
    """Train once, with the recurrent layers of torch.

    Args:
        run: the specification.
        device: where to train.
        checkpoint: where the run is kept while it is in progress, and goes on from, if it was; None for nowhere.

    Returns:
        The record: outcome, curves, first losses, timing, specification and environment. A test run uses the test data
        once, with the weights at the end or at the best validation point, as the suite says; a tuning run never.

    Raises:
        CheckFailedError: an optimizer, a loss or the machine failed, which is no divergence.
    """
    task = task_of(run.task).to(device)
    training = resumed(lambda: _Alone(run, task, checkpoint), checkpoint, task.device)
    model, log = training.model, training.log
    try:
        for at in training.updates():
            if log.note(at, evaluate(model, task, task.validation)):
                training.kept = copy.deepcopy(model) if run.test_at == "best" else model
        if run.role == "test":
            log.test = evaluate(training.kept, task, task.test)
    except DivergedError as error:
        log.diverge(str(error))
    except Exception as error:  # whatever an optimizer, a loss or memory that runs out raises
        raise CheckFailedError(failure(run, error)) from error
    return log.record(recurrence="torch", stack=1)


def failure(run: Run, error: Exception) -> str:
    """Say which run an error is of that is no divergence."""
    return f"{described(named(run))}: {in_a_line(error)}"


class _Alone:
    """A run in training, of which a checkpoint can be made."""

    def __init__(self, run: Run, task: Task, checkpoint: Checkpoint | None) -> None:
        self.run, self.task, self.checkpoint, self.log = run, task, checkpoint, Log(run, task)
        self.model, self.step = build(run, task)
        self.kept = self.model  # with which to use the test data
        self.update, self.seconds, self.losses = 0, 0.0, list[float]()

    def state(self) -> dict[str, Any]:
        """Return what :meth:`go_on` needs."""
        own = {name: getattr(self, name) for name in ("update", "seconds", "losses")}
        models = {"model": self.model.state_dict(), "kept": self.kept.state_dict()}
        return {**own, **models, **kept_of(self.step, self.task.device), "log": self.log.state()}

    def go_on(self, state: dict[str, Any]) -> None:
        """Go on from a state, bit for bit."""
        for name in ("update", "seconds", "losses"):
            setattr(self, name, state[name])
        self.kept = copy.deepcopy(self.model) if self.run.test_at == "best" else self.model
        self.kept.load_state_dict(state["kept"])
        self.model.load_state_dict(state["model"])
        put_back(state, self.step, self.task.device)
        self.log.go_on(state["log"])

    def updates(self) -> Iterator[Progress]:
        """Train; stop at each of the evenly spaced evaluations; DivergedError where the loss is no longer finite."""
        task, model, evaluations, began = self.task, self.model, stops(self.run), time.perf_counter()
        for chosen in islice(order_of(self.run, task), self.update, self.run.updates):
            places = chosen.to(task.device)
            batch = Split(task.train.inputs[places], task.train.targets[places])
            loss = task.loss(model(task.encode(batch.inputs)), batch.targets)
            self.losses.append(loss.item())
            self.update += 1
            if not math.isfinite(self.losses[-1]):
                raise DivergedError(f"the training loss is {self.losses[-1]} at update {self.update}")
            model.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.step()
            if self.update in evaluations:
                self.seconds += time.perf_counter() - began
                yield Progress(self.update, self.losses, self.seconds)
                self.losses, began = [], time.perf_counter()
            if self.checkpoint is not None and self.checkpoint.due:
                self.seconds += time.perf_counter() - began
                self.checkpoint.save(self.state(), task.device)
                began = time.perf_counter()
