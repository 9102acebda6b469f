"""A plug-in with a task whose training takes no time, so that what is left is the cost of the machinery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.registry import register

if TYPE_CHECKING:
    from bench.tasks import Task


def nothing() -> Task:
    """One sequence of one step, of one class; the main process, which only registers it, needs no torch."""
    import torch

    from bench.tasks import Split, classification

    one = Split(torch.zeros(1, 1, 1), torch.zeros(1, dtype=torch.int64))
    return classification(2, 99.0, one, one, one)


register("task", "nothing", f"{__name__}:nothing")
