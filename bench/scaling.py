"""How fast stacks of replicas train: sequences per second and memory, against nn.RNN one run after another."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import nan
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt

from bench import environment, registry
from bench.device import calls, out_of_memory
from bench.models import Network, relu
from bench.replicas import Stack, at_rates
from bench.schema import Strict, known
from bench.spaces import Problem
from bench.stack import CAPTURABLE
from bench.workloads import interleaved, optimizer_step, ratio, update

ALONE, PROCESSES = "nn.RNN, one by one", "nn.RNN, in processes"
OPTIMIZERS = ("SGD foreach", "SGD fused", "Adam foreach", "Adam fused")
"""What a step in path space is compared with."""
_OUTPUTS = 10
Sizes = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class Grid(Strict):
    """Sizes to time.

    Attributes:
        device: where; its rows are not measured where there is none.
        steps: length of the sequences.
        features: numbers per step.
        batch: sequences per replica and update.
        hidden: units.
        replicas: sizes of stacks.
    """

    device: Literal["cpu", "cuda"]
    steps: PositiveInt
    features: PositiveInt
    batch: PositiveInt
    hidden: Sizes
    replicas: Sizes


class OptimizerSteps(Strict):
    """Network and rounds for the optimizer's part of a step."""

    hidden: PositiveInt
    rounds: PositiveInt


class ScalingSuite(Strict):
    """What to time.

    Attributes:
        title: the question.
        rounds: how often each way is timed, in turns.
        spaces: names of the registry, with SGD in each.
        optimizers: the optimizer's part of a step.
        grids: sizes, by a name.
    """

    title: str
    rounds: PositiveInt
    spaces: Annotated[tuple[Annotated[str, known("space", registry.SPACES)], ...], Field(min_length=1)]
    optimizers: OptimizerSteps
    grids: Annotated[dict[str, Grid], Field(min_length=1)]


@dataclass(frozen=True)
class Scaling:
    """One way to train so many replicas.

    Attributes:
        grid: name of the grid.
        device: what the device calls itself; empty where there is none.
        steps: length of the sequences.
        hidden: units.
        batch: sequences per replica and update.
        replicas: how many replicas.
        way: the way; a stack by its space.
        samples: sequences per second of all replicas, from the median time; NaN where it was not measured.
        speed: median of the times of :data:`ALONE` for as many replicas, over those of this way; not for processes.
        memory: most memory beyond that before, in MiB; launched one by one.
        roof: sequences per second, if all products of the recurrence ran as fast as one large product.
    """

    grid: str
    device: str
    steps: int
    hidden: int
    batch: int
    replicas: int
    way: str
    samples: float
    speed: float
    memory: float
    roof: float


def measure(suite: ScalingSuite, name: str) -> Iterator[Scaling]:
    """Time the ways to train replicas, of the sizes of a grid.

    Args:
        suite: what to time.
        name: name of the grid.

    Yields:
        Rows; one without numbers per width where the device is not there, and where memory does not suffice.
    """
    torch.set_num_threads(1)
    grid = suite.grids[name]
    there = grid.device == "cpu" or torch.cuda.is_available()
    device = "" if not there else environment.name(torch.device(grid.device))
    peak = _peak(grid.device) if there else nan
    for hidden in grid.hidden:
        roof = peak / _operations(grid, hidden)
        row = partial(Scaling, name, device, grid.steps, hidden, grid.batch, roof=roof)
        if not there:
            yield row(0, "stack", nan, nan, nan)
            continue
        for replicas in grid.replicas:
            try:
                yield from _rows(suite, grid, hidden, replicas, row)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                yield row(replicas, "memory does not suffice", nan, nan, nan)
                break
        if grid.device == "cpu":
            processes = os.cpu_count() or 1
            yield row(processes, PROCESSES, _in_processes(grid, hidden, processes), nan, nan)


def _rows(
    suite: ScalingSuite, grid: Grid, hidden: int, replicas: int, row: Callable[..., Scaling]
) -> Iterator[Scaling]:
    ways = {ALONE: training(grid, hidden, 0, "weight")}
    ways |= {f"stack, {space} space": training(grid, hidden, replicas, space) for space in suite.spaces}
    memory = {way: _memory(function, grid.device) for way, function in ways.items()}
    seconds = interleaved(ways, suite.rounds, warmup=1 if grid.device == "cpu" else 3)  # then a GPU replays
    seconds[ALONE] = [replicas * each for each in seconds[ALONE]]
    for way, times in seconds.items():
        samples = replicas * grid.batch / median(times)
        yield row(replicas, way, samples, ratio(seconds, ALONE, over=way), memory[way])


def training(grid: Grid, hidden: int, replicas: int, space: str) -> Callable[[], None]:
    """Build a training step with SGD, which waits for the device; of a stack on a GPU, after four calls, a replay.

    Args:
        grid: sizes.
        hidden: units.
        replicas: replicas of a stack; 0 for a network with the layers of torch.
        space: name of a space.

    Returns:
        A function that takes one step.
    """
    torch.manual_seed(0)
    models = [Network(relu(grid.features, hidden, 1, True), _OUTPUTS) for _ in range(max(1, replicas))]
    model = (Stack(models) if replicas else models[0]).to(grid.device)
    shape = (replicas, grid.batch) if replicas else (grid.batch,)
    inputs = torch.rand(*shape, grid.steps, grid.features, device=grid.device)
    labels = torch.randint(_OUTPUTS, (max(1, replicas) * grid.batch,), device=grid.device)
    rule: Any = torch.optim.SGD
    if isinstance(model, Stack):
        rule = at_rates(rule, model, [1e-6] * replicas)
    record = grid.device == "cuda" and replicas > 0 and space in CAPTURABLE[0]
    step = registry.resolve(registry.SPACES, space)(Problem(model, rule, {"lr": 1e-6}, 1.0, grid.steps, record))
    launched = calls(update(model, inputs, labels, step), record)
    return partial(_wait_for, partial(next, launched), grid.device)


def _wait_for(function: Callable[[], Any], device: str, times: int = 1) -> None:
    for _ in range(times):
        function()
    if device == "cuda":
        torch.cuda.synchronize()


def _operations(grid: Grid, hidden: int) -> float:
    """Count the operations of products per sequence of a training step: forward, and twice that on the way back."""
    return 3 * 2 * (grid.steps * hidden * (hidden + grid.features) + hidden * _OUTPUTS)


def _peak(device: str) -> float:
    """Measure the operations per second of a large product of float32, exact as those that it is compared with."""
    matrix, seconds = torch.rand(2048, 2048, device=device), []
    for _ in range(6):
        start = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        seconds.append(time.perf_counter() - start)
    return float(2 * 2048**3 / min(seconds))


def _memory(function: Callable[[], None], device: str) -> float:
    """Measure the most memory of a call beyond that before, in MiB; the first call, which allocates, is not it."""
    function()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # which else keeps what was freed
        Path("/proc/self/clear_refs").write_text("5")  # Linux then counts the peak anew
        before = _status("VmRSS")
        function()
        return (_status("VmHWM") - before) / 2**10
    except (OSError, AttributeError):  # no Linux, or another C library
        return nan


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def _in_processes(grid: Grid, hidden: int, processes: int) -> float:
    """Measure the sequences per second of runs with the layers of torch, each in a process of its own, all at once."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(processes), context.Queue()
    calls = min(max(5, int(2e9 / (_operations(grid, hidden) * grid.batch))), 1_000)
    workers = [context.Process(target=_run_alone, args=(grid, hidden, calls, barrier, queue)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    slowest = max(queue.get() for _ in workers)
    for worker in workers:
        worker.join()
    return float(processes * calls * grid.batch / slowest)


def _run_alone(grid: Grid, hidden: int, calls: int, barrier: Any, queue: Any) -> None:
    torch.set_num_threads(1)
    step = training(grid, hidden, 0, "weight")
    step()
    barrier.wait()
    start = time.perf_counter()
    for _ in range(calls):
        step()
    queue.put(time.perf_counter() - start)


def optimizer_steps(suite: ScalingSuite, device: str) -> dict[str, float]:
    """Time the optimizer's part of a step: SGD in path space, over rules of torch in weight space, in turns.

    Args:
        suite: what to time.
        device: where.

    Returns:
        Medians of ratios, by the name of the rule; NaN where there is no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        return dict.fromkeys(OPTIMIZERS, nan)
    torch.set_num_threads(1)
    steps = {name: optimizer_step(name, suite.optimizers.hidden, 1, device) for name in ("path", *OPTIMIZERS)}
    seconds = interleaved(
        {name: partial(_wait_for, step, device, times=10) for name, step in steps.items()}, suite.optimizers.rounds
    )
    return {name: ratio(seconds, "path", over=name) for name in OPTIMIZERS}
