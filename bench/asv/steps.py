"""Time and memory of a training step, and of the optimizer's part alone; one thread."""

from __future__ import annotations

import torch

from bench.workloads import RULES, optimizer_step, recurrence, training_step


class OptimizerStep:
    """The optimizer's part of a step: SGD in path space, beside rules of torch."""

    params = (("path", "SGD foreach", "Adam foreach"), (64, 128, 1024), (1, 4))
    param_names = ("optimizer", "units", "layers")

    def setup(self, name: str, units: int, layers: int) -> None:
        """Build it."""
        torch.set_num_threads(1)
        self.step = optimizer_step(name, units, layers)

    def time_step(self, name: str, units: int, layers: int) -> None:
        """Take a step."""
        self.step()


class TrainingStep:
    """A whole step: one layer of 128 units, 28 steps, batch 128."""

    params = (("weight", "path", "gauge"), tuple(sorted(RULES)))
    param_names = ("space", "rule")

    def setup(self, space: str, rule: str) -> None:
        """Build it."""
        torch.set_num_threads(1)
        self.step = training_step(space, rule, max_norm=1.0)

    def time_step(self, space: str, rule: str) -> None:
        """Take a step."""
        self.step()

    def peakmem_step(self, space: str, rule: str) -> None:
        """Take a step."""
        self.step()


class Recurrence:
    """Forward and backward pass of a layer of 128 units, batch 128."""

    params = (("nn.RNN", "relu_scan"), (28, 784))
    param_names = ("recurrence", "steps")

    def setup(self, name: str, steps: int) -> None:
        """Build it."""
        torch.set_num_threads(1)
        self.run = recurrence(name, steps, 128)

    def time_gradients(self, name: str, steps: int) -> None:
        """Make all gradients."""
        self.run()
