"""What training has to know of devices: how to launch a whole update as one, and whether memory ran out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bench.errors import in_a_line

_LOG = logging.getLogger(__name__)
_WARM = 3
"""Calls before the recording; they make what lives on: gradients, what rules keep, compiled kernels."""


def out_of_memory(error: Exception) -> bool:
    """Tell whether memory ran out: a CPU has no error of its own for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def calls(function: Callable[[], Tensor], record: bool) -> Iterator[Tensor]:
    """Call a function for ever, and yield what it returns.

    Args:
        function: reads and writes tensors that are always the same ones, and does not wait for the device.
        record: whether to record in a CUDA graph, after a few calls, what it launches, and to replay that from then on.
            A function that cannot be recorded is called as before, after a line in the log.

    Yields:
        The result of each call; its own copy, if it is of a replay.
    """
    for _ in range(_WARM if record else 0):
        yield _aside(function)
    recorded = _recorded(function) if record else None
    while recorded is None:
        yield function()
    result, replay = recorded
    while True:
        replay()
        yield result.clone()


def _aside(function: Callable[[], Tensor]) -> Tensor:
    """Call it on another stream than the usual one, as torch demands of calls before a recording."""
    usual, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(usual)
    with torch.cuda.stream(aside):
        result = function()
    usual.wait_stream(aside)
    return result


def _recorded(function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]] | None:
    """Return where the result will be, and what replays the call; None where that fails."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            result = function()
    except Exception as error:  # of whatever waits for the device: a rule, a task
        if out_of_memory(error):
            raise
        _LOG.warning("no CUDA graph, launching one by one: %s", in_a_line(error))
        return None
    return result, graph.replay
