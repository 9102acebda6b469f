"""What a CUDA graph does, on a CPU: operations are recorded once, then run again on the same memory, without Python."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Recording = tuple[Tensor, Callable[[], None]]
WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Tape(TorchDispatchMode):
    """Records all operations on tensors; refuses those whose result Python would have to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        indexes = "aten.index" in str(function)
        masks = [own for own in tree_leaves(args[1:2]) if isinstance(own, Tensor) and own.dtype == torch.bool]
        if (indexes and masks) or (not indexes and WAITS & set(function.tags)):
            raise RuntimeError(f"{function} waits for the device, which a recording must not")
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result

    @property
    def launches(self) -> list[str]:
        """Operations that do something: no views, no allocations."""
        named = [(str(function), args, result) for function, args, _, result in self.calls]
        named = [call for call in named if call[0].startswith("aten.") and "empty" not in call[0]]
        return [name for name, args, result in named if not is_view(name, args, result)]

    @torch.no_grad()
    def replay(self) -> None:
        for function, args, kwargs, recorded in self.calls:
            result = function(*args, **kwargs)
            for old, new in zip(tree_leaves(recorded), tree_leaves(result), strict=True):
                if isinstance(old, Tensor) and "empty" not in str(function) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@contextmanager
def rules_capturable_on_a_cpu() -> Iterator[None]:
    """Let rules of torch take capturable=True on a CPU, too: their steps then are those of a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("torch.optim.adam", "torch.optim.rmsprop"):
            patch.setattr(sys.modules[name], "_get_capturable_supported_devices", lambda *_, **__: ["cpu"])
        yield


def is_view(name: str, args: Any, result: Any) -> bool:
    """Whether the result is memory of an argument, which nobody has written to."""
    in_place = name.split(".")[1].endswith("_") or "out" in name.split(".")[2]
    given = {own.untyped_storage().data_ptr() for own in tree_leaves(args) if isinstance(own, Tensor)}
    made = {own.untyped_storage().data_ptr() for own in tree_leaves(result) if isinstance(own, Tensor)}
    return not in_place and bool(made) and made <= given


def record(function: Callable[[], Tensor]) -> Recording:
    """Record a call; say where its result is, and what replays it: at first nothing, as this call is made already."""
    with Tape() as tape:
        result = function()
    replays = itertools.chain([lambda: None], itertools.repeat(tape.replay))
    return result, lambda: next(replays)()
