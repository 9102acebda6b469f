"""What training has to know of devices: how to launch a whole update as one, and whether memory ran out."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bench.errors import in_a_line

_LOG = logging.getLogger(__name__)
_WARM = 3
"""Calls before the recording; they make what lives on: gradients, what rules keep, compiled kernels."""
_WAITS = "called a synchronizing CUDA operation"
"""What torch says of one, if it is asked to warn."""
_FAILED: list[torch.cuda.CUDAGraph] = []
"""Graphs whose recording failed: the allocator may still ask them."""


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
        result, waits = _aside(function)
        yield result
    if record and waits:
        _say("an update waits for the device")
    recorded = _recorded(function) if record and not waits else None
    while recorded is None:
        yield function()
    result, replay = recorded
    while True:
        replay()
        yield result.clone()


@functools.cache
def _stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


def _aside(function: Callable[[], Tensor]) -> tuple[Tensor, bool]:
    """Call it on another stream than the usual one, as torch demands before a recording; tell whether it waits."""
    usual, aside, mode = torch.cuda.current_stream(), _stream(), torch.cuda.get_sync_debug_mode()
    aside.wait_stream(usual)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with torch.cuda.stream(aside), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = function()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    usual.wait_stream(aside)
    for each in caught:
        if _WAITS not in str(each.message):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    return result, any(_WAITS in str(each.message) for each in caught)


def _recorded(function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]] | None:
    """Return where the result will be, and what replays the call; None where that fails."""
    graph, usual = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            result = function()
    except Exception as error:
        if out_of_memory(error):
            raise
        torch.cuda.set_stream(usual)  # torch leaves it, if the end of a recording fails too
        _FAILED.append(graph)
        _say(in_a_line(error.__context__ or error))
        return None
    return result, graph.replay


def _say(reason: str) -> None:
    _LOG.warning("no CUDA graph, launching one by one: %s", reason)
