"""Training of many replicas of one arm at once: seeds and learning rates of an arm, as one stacked network."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.checkpoints import Checkpoint, Checkpoints, kept_of, put_back, resumed
from bench.device import calls, out_of_memory
from bench.errors import CheckFailedError, InputError
from bench.groups import CHUNK
from bench.log import Log, Progress
from bench.replicas import Stack, at_rates
from bench.runs import Run
from bench.spaces import DivergedError, Step
from bench.tasks import Split, Task
from bench.train import failure, optimizer, order_of, rule_of, score, start, stops, task_of

_LOG = logging.getLogger(__name__)
CAPTURABLE = {"weight", "path"}, {"SGD", "Adam", "AdamW", "RMSprop", "Muon"}
"""Spaces and rules whose steps do the same on the device each time, and nothing of account on the host."""
_AT_ONCE = 64
"""Updates whose sequences are named to the device at a time."""


def train_stack(
    runs: Sequence[Run], device: str = "cpu", checkpoints: Checkpoints | None = None
) -> list[dict[str, Any]]:
    """Train runs of one kind (:mod:`bench.groups`) together, each with the seed, data order and rate that it has alone.

    A replica that diverges stays where it began from then on, and the others do not notice. On a CPU the outcome of a
    run is the same bit for bit, whatever the others are. Where the memory is too small, the stack is halved.

    Args:
        runs: the specifications.
        device: where to train.
        checkpoints: where runs are kept while they are in progress, and go on from, if they were; None for nowhere.

    Returns:
        Their records; ``seconds`` are the share of a replica.

    Raises:
        InputError: a setting that the init or the optimizer refuses.
        CheckFailedError: an optimizer, a loss or the machine failed, which is no divergence.
    """
    order = sorted(range(len(runs)), key=lambda place: runs[place].lr)  # neighbours of one rate share a rule
    try:
        ordered = [runs[place] for place in order]
        records = _train(ordered, device, checkpoints and checkpoints.of(ordered))
    except InputError:
        raise
    except Exception as error:  # whatever an optimizer, a loss or memory that runs out raises
        if len(runs) == 1 or not out_of_memory(error):
            raise CheckFailedError(failure(runs[0], error)) from error
    else:
        return [records[order.index(place)] for place in range(len(runs))]
    half = len(runs) // 2  # outside of the handler, which keeps what the stack had in memory
    _LOG.warning("memory does not suffice for %d replicas of %s; going on with %d", len(runs), runs[0].name, half)
    torch.cuda.empty_cache()
    return [*train_stack(runs[:half], device, checkpoints), *train_stack(runs[half:], device, checkpoints)]


def _train(runs: Sequence[Run], device: str, checkpoint: Checkpoint | None) -> list[dict[str, Any]]:
    task = task_of(runs[0].task).to(device)
    training, test = resumed(lambda: Training(runs, task, checkpoint), checkpoint, task.device), runs[0].role == "test"
    for progress in training.updates():
        for replica, validation in training.evaluate(task.validation):
            if training.logs[replica].note(progress[replica], validation):
                training.keep(replica)
    if test:
        training.return_to_kept()
        for replica, metric in training.evaluate(task.test):
            training.logs[replica].test = metric
    return [log.record("relu_scan", len(runs)) for log in training.logs]


class Training:
    """A stack in training.

    Args:
        runs: the specifications, of one :func:`bench.groups.kind`; those of one rate are neighbours.
        task: their task, whose data are where to train.
        checkpoint: where they are kept while they are in progress, and go on from, if they were; None for nowhere.
    """

    def __init__(self, runs: Sequence[Run], task: Task, checkpoint: Checkpoint | None = None) -> None:
        self.runs, self.task, self.logs = runs, task, [Log(run, task) for run in runs]
        self.checkpoint, self.update, self.seconds, self.losses = checkpoint, 0, 0.0, list[Tensor]()
        self.model = Stack([start(run, task) for run in runs]).to(task.device)
        rule = rule_of(runs[0])
        if runs[0].space.space != "path_sgd":
            rule = at_rates(rule, self.model, [run.lr for run in runs])
        kinds = zip((runs[0].space.space, runs[0].rule.optimizer), CAPTURABLE, strict=True)
        self.capturable = self.recorded and all(own in known for own, known in kinds)
        self.step: Step = optimizer(runs[0], task, self.model, rule, self.capturable)
        self.orders = [order_of(run, task) for run in runs]
        self.alive = torch.ones(len(runs), dtype=torch.bool, device=task.device)
        self.parameters = list(self.model.parameters())
        self.initial = [parameter.detach().clone() for parameter in self.parameters]
        self.kept = [parameter.detach().clone() for parameter in self.parameters]
        size = len(runs) * min(runs[0].task.batch, len(task.train.inputs))
        self.chosen = torch.zeros(size, dtype=torch.int64, device=task.device)

    @property
    def recorded(self) -> bool:
        """Whether updates are recorded in a CUDA graph; in others than :data:`CAPTURABLE`, all but the step."""
        return self.task.device.type == "cuda"

    def updates(self) -> Iterator[list[Progress]]:
        """Train; stop at each of the evenly spaced evaluations, and when all replicas have diverged.

        Yields:
            How far each replica is.
        """
        began, evaluations, steps = time.perf_counter(), stops(self.runs[0]), self.steps()
        while self.update < self.runs[0].updates:
            self.losses.append(next(steps))
            self.update += 1
            if self.update in evaluations:
                curves = torch.stack(self.losses, 1).tolist()
                self._note_diverged(self.update, curves)
                if all(log.diverged for log in self.logs):
                    return
                self.seconds += (time.perf_counter() - began) / len(self.runs)
                yield [Progress(self.update, curve, self.seconds) for curve in curves]
                self.losses, began = [], time.perf_counter()
            if self.checkpoint is not None and self.checkpoint.due:
                self.seconds += (time.perf_counter() - began) / len(self.runs)
                self.checkpoint.save(self.state(), self.task.device)
                began = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """Return what :meth:`go_on` needs."""
        losses = torch.stack(self.losses) if self.losses else torch.empty(0)
        own = {"update": self.update, "seconds": self.seconds, "losses": losses, "alive": self.alive}
        weights = {"weights": [own.detach() for own in self.parameters], "kept": self.kept}
        return {**own, **weights, **kept_of(self.step, self.task.device), "logs": [log.state() for log in self.logs]}

    def go_on(self, state: dict[str, Any]) -> None:
        """Go on from a state, bit for bit."""
        self.update, self.seconds, self.losses = state["update"], state["seconds"], list(state["losses"].unbind())
        self.orders = [itertools.islice(order, self.update, None) for order in self.orders]
        self.alive.copy_(state["alive"])
        for own, weights in ((self.parameters, state["weights"]), (self.kept, state["kept"])):
            for tensor, value in zip(own, weights, strict=True):
                tensor.data.copy_(value)
        put_back(state, self.step, self.task.device)
        for log, own_state in zip(self.logs, state["logs"], strict=True):
            log.go_on(own_state)

    def steps(self) -> Iterator[Tensor]:
        """Take an update of all replicas at a time, for ever; yield the losses before each, ``[R]``."""
        launched = calls(self._whole if self.capturable else self._slopes, self.recorded)
        for chosen in self._batches():
            self.chosen.copy_(chosen)
            losses = next(launched)
            if not self.capturable:
                self._step()
            yield losses

    def _batches(self) -> Iterator[Tensor]:
        """Yield the indices of the sequences of an update, all replicas' in turn."""
        while True:
            several = itertools.islice(zip(*self.orders, strict=True), _AT_ONCE)
            yield from torch.stack([torch.cat(update) for update in several]).to(self.task.device)

    def _whole(self) -> Tensor:
        losses = self._slopes()
        self._step()
        return losses

    def _slopes(self) -> Tensor:
        """Compute losses and gradients; notice replicas that diverge, and keep them where they began."""
        shape, train = (len(self.runs), -1), self.task.train
        inputs, targets = self.task.encode(train.inputs[self.chosen]), train.targets[self.chosen]
        outputs = self.model(inputs.reshape(*shape, *inputs.shape[1:]))
        pairs = zip(outputs, targets.reshape(*shape, *targets.shape[1:]), strict=True)
        losses = torch.stack([self.task.loss(*both) for both in pairs])
        self.model.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        grads = [own.grad for own in self.parameters if own.grad is not None]
        largest = torch.stack([grad.abs().flatten(1).amax(1) for grad in grads]).amax(0)
        self.alive &= torch.isfinite(losses.detach()) & torch.isfinite(largest)
        self._freeze()
        return losses.detach()

    def _step(self) -> None:
        while True:
            try:
                return self.step()
            except DivergedError as error:
                if self.logs[error.replica].diverged:
                    raise
                self._diverge(error.replica, str(error))

    def _diverge(self, replica: int, reason: str) -> None:
        self.logs[replica].diverge(reason)
        self.alive[replica] = False
        self._freeze()

    def _freeze(self) -> None:
        """Let replicas that have diverged stay where they began, with gradients of zero."""
        if not self.recorded and bool(self.alive.all()):
            return
        for own, initial in zip(self.parameters, self.initial, strict=True):
            alive = self.alive.reshape(-1, *[1] * (own.dim() - 1))
            own.data.copy_(own.data.where(alive, initial))  # .data: no news to optimizers that watch for changes
            if own.grad is not None:
                own.grad.masked_fill_(~alive, 0)  # in place, where a replay writes

    def _note_diverged(self, update: int, curves: Sequence[Sequence[float]]) -> None:
        for replica, alive in enumerate(self.alive.tolist()):
            if not alive and not self.logs[replica].diverged:
                first = update - len(curves[replica]) + 1
                bad = [(at, loss) for at, loss in enumerate(curves[replica], first) if not math.isfinite(loss)]
                at, loss = bad[0] if bad else (update, math.nan)
                text = (
                    f"the training loss is {loss} at update {at}"
                    if bad
                    else f"a gradient is not finite at update {update} or before"
                )
                self.logs[replica].diverge(text)

    @torch.no_grad()
    def evaluate(self, split: Split) -> Iterator[tuple[int, float]]:
        """Compute the metric of a split for every replica that has not diverged; notice those that have."""
        parts = [self.task.encode(part) for part in torch.split(split.inputs, CHUNK)]
        outputs = torch.cat([self.model(part.expand(len(self.runs), *part.shape)) for part in parts], 1)
        for replica, (own, log) in enumerate(zip(outputs, self.logs, strict=True)):
            if log.diverged:
                continue
            try:
                metric = score(self.task, own, split.targets)
            except DivergedError as error:
                self._diverge(replica, str(error))
            else:
                yield replica, metric

    def keep(self, replica: int) -> None:
        """Keep the weights of now of a replica for the test data."""
        for kept, own in zip(self.kept, self.parameters, strict=True):
            kept[replica] = own[replica].detach()

    def return_to_kept(self) -> None:
        """Return to the weights that were kept."""
        for kept, own in zip(self.kept, self.parameters, strict=True):
            own.data.copy_(kept)
