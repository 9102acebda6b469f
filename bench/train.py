"""One training run: from a fully resolved specification to a record."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import pathrnn
from bench import registry
from bench.environment import environment
from bench.errors import InputError
from bench.seeds import seed
from bench.suite import RECORD_VERSION, Run
from bench.tasks import Split, Task
from pathrnn.space import build_rule


class ReluRNN(nn.Module):
    """A ReLU RNN with a linear readout of the last step: ``[batch, steps, inputs]`` to ``[batch, outputs]``."""

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.rnn = nn.RNN(inputs, hidden, layers, nonlinearity="relu", bias=bias, batch_first=True)
        self.head = nn.Linear(hidden, outputs, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Read a batch of sequences."""
        return self.head(self.rnn(inputs)[0][:, -1])  # type: ignore[no-any-return]

    @property
    def graph(self) -> pathrnn.ReductionGraph:
        """The reduction graph."""
        return pathrnn.ReductionGraph(self.rnn, self.head)


class DivergedError(Exception):
    """The loss or a gradient is no longer finite: an outcome, not an error."""


Step = Callable[[], None]


Rule = Callable[..., torch.optim.Optimizer]


def weight_optimizer(model: ReluRNN, rule: Rule, max_norm: float | None, **options: Any) -> Step:
    """Let the rule see the weights; clip their gradient."""
    optimizer = build_rule(rule, model.parameters(), model.graph, **options)

    def step() -> None:
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()

    return step


def space_optimizer(space: Rule, model: ReluRNN, rule: Rule, max_norm: float | None, **options: Any) -> Step:
    """Let the rule see what a space shows it; clip the gradient there."""
    optimizer = space(model.parameters(), model.graph, rule, max_path_norm=max_norm, **options)

    def step() -> None:
        try:
            optimizer.step()
        except ValueError as error:
            raise DivergedError(str(error)) from error

    return step


gauge_optimizer = functools.partial(space_optimizer, pathrnn.GaugeFixed)
path_optimizer = functools.partial(space_optimizer, pathrnn.PathSpace)
path_index_optimizer = functools.partial(path_optimizer, skeleton="index")
path_normalised_optimizer = functools.partial(path_optimizer, coordinates="normalised")
path_raw_optimizer = functools.partial(path_optimizer, coordinates="raw", skeleton="index")


def path_unclipped_optimizer(model: ReluRNN, rule: Rule, max_norm: float | None, **options: Any) -> Step:
    """Path space without clipping, whatever the suite says."""
    return path_optimizer(model, rule, None, **options)


def path_unguarded_optimizer(model: ReluRNN, rule: Rule, max_norm: float | None, **options: Any) -> Step:
    """Normalised coordinates whose skeleton steps no guard holds back."""
    return path_normalised_optimizer(model, rule, max_norm, max_step_ratio=None, **options)


def path_frozen_optimizer(model: ReluRNN, rule: Rule, max_norm: float | None, **options: Any) -> Step:
    """Normalised coordinates whose skeleton paths stay as they are."""
    return path_normalised_optimizer(model, rule, max_norm, max_step_ratio=1e-9, **options)


def gauge_unclipped_optimizer(model: ReluRNN, rule: Rule, max_norm: float | None, **options: Any) -> Step:
    """Fixed gauge without clipping, whatever the suite says."""
    return gauge_optimizer(model, rule, None, **options)


def muon(params: Any, graph: pathrnn.ReductionGraph, lr: float, adam_share: float = 0.4) -> torch.optim.Optimizer:
    """Muon at a rate for matrices into hidden units, Adam at a share of it for the rest."""
    return pathrnn.muon(lr, adam_share * lr)(params, graph=graph)


def default_(graph: pathrnn.ReductionGraph) -> None:
    """Leave the network as torch initialises it."""


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
        task: Task = registry.resolve(registry.TASKS, name)(**json.loads(options))
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"task {name}: {error}") from None
    return task


def task_of(run: Run) -> Task:
    """Load the task of a run."""
    return load_task(run.task.task, json.dumps(run.task.options, sort_keys=True))


def build(run: Run, task: Task) -> tuple[ReluRNN, Step]:
    """Build model and optimizer; the seed depends on suite, kind of task and index, not on the arm.

    Args:
        run: the specification.
        task: its task.

    Returns:
        The model, and a function that takes one step once gradients are there.

    Raises:
        InputError: a setting that the optimizer refuses.
    """
    entry = run.task
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed(run.suite, entry.task, "init", run.role, run.index))
        model = ReluRNN(task.inputs, entry.hidden, entry.layers, task.outputs, entry.bias)
        registry.resolve(registry.INITS, entry.init)(model.graph)
        if entry.rescale:
            normal = [torch.randn(width) for width in model.graph.widths[1:-1]]
            model.graph.rescale_([torch.exp(entry.rescale * each) for each in normal])
    rule = registry.resolve(registry.OPTIMIZERS, run.rule.optimizer)
    space = registry.resolve(registry.SPACES, run.space)
    try:
        return model, space(model, rule, run.max_norm, lr=run.lr, **run.rule.options)
    except (TypeError, ValueError) as error:
        raise InputError(f"rule {run.rule_name} in {run.space} space on {run.name}: {error}") from None


def batches(split: Split, size: int, seed_: int) -> Iterator[Split]:
    """Yield shuffled batches for ever, pass after pass over the data."""
    generator = torch.Generator().manual_seed(seed_)
    size = min(size, len(split.inputs))
    while True:
        order = torch.randperm(len(split.inputs), generator=generator)
        for chosen in torch.split(order[: len(order) // size * size], size):
            yield Split(split.inputs[chosen], split.targets[chosen])


@torch.no_grad()
def evaluate(model: ReluRNN, task: Task, split: Split) -> float:
    """Compute the metric of a split."""
    outputs = torch.cat([model(part) for part in torch.split(split.inputs, 1_000)])
    return float(task.metric(outputs, split.targets))


def train(run: Run) -> dict[str, Any]:
    """Train once.

    Args:
        run: the specification.

    Returns:
        The record: outcome, curves, timing, specification and environment. Test data are used once, at the end.
    """
    task = task_of(run)
    model, step = build(run, task)
    curve: dict[str, list[float]] = {"update": [], "train_loss": [], "validation": []}
    start = time.perf_counter()
    status, reason, test = "finished", "", math.nan
    try:
        for update, loss in _updates(run, task, model, step):
            curve["update"].append(update)
            curve["train_loss"].append(loss)
            curve["validation"].append(evaluate(model, task, task.validation))
        test = evaluate(model, task, task.test)
    except DivergedError as error:
        status, reason = "diverged", str(error)
    return {
        "version": RECORD_VERSION,
        "key": run.key,
        **run.model_dump(include={"suite", "profile", "name", "space", "rule_name", "lr", "role", "index", "updates"}),
        "status": status,
        "reason": reason,
        "metric": task.metric_name,
        "higher_is_better": task.higher_is_better,
        "validation": curve["validation"][-1] if status == "finished" else math.nan,
        "test": test,
        **{f"curve_{name}": values for name, values in curve.items()},
        "seconds": time.perf_counter() - start,
        "specification": run.model_dump_json(),
        "environment": json.dumps(environment(), sort_keys=True),
    }


def _updates(run: Run, task: Task, model: ReluRNN, step: Step) -> Iterator[tuple[int, float]]:
    """Train; after each of the evenly spaced evaluations yield the update and the mean loss since the last."""
    stream = batches(task.train, run.task.batch, seed(run.suite, run.task.task, "batches", run.role, run.index))
    stops = {round(run.updates * part / run.evaluations) for part in range(1, run.evaluations + 1)}
    losses: list[float] = []
    for update in range(1, run.updates + 1):
        batch = next(stream)
        loss = task.loss(model(batch.inputs), batch.targets)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise DivergedError(f"the training loss is {losses[-1]} at update {update}")
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        step()
        if update in stops:
            yield update, sum(losses) / len(losses)
            losses.clear()
