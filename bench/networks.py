"""Small float64 networks of any widths, with a forward pass written out from the definition, to try theorems on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from pathrnn.graph import BIAS, ReductionGraph, Wire


class AnyWidths(ReductionGraph):
    """A reduction graph over bare parameters: nn.RNN cannot give each layer a width of its own."""

    def __init__(self, tensors: list[Tensor], wiring: list[Wire]) -> None:
        self.tensors = tensors
        self.wires = wiring

    def parameters(self) -> list[Tensor]:
        """Return the parameters."""
        return self.tensors

    def wiring(self) -> list[Wire]:
        """Return where they lead."""
        return self.wires

    def names(self) -> list[str]:
        """Number the parameters."""
        return [f"tensor {place}" for place, _ in enumerate(self.tensors)]


def forward(graph: ReductionGraph, inputs: Tensor) -> Tensor:
    """Outputs ``[time, batch, n_{L+1}]`` for inputs ``[time, batch, n_0]``, straight from the definition."""
    edges = list(zip(graph.parameters(), graph.wiring(), strict=True))
    sequence = list(inputs)
    for layer, width in enumerate(graph.widths[1:], 1):
        state = torch.zeros(inputs.shape[1], width, dtype=inputs.dtype)
        outputs = []
        for x in sequence:
            total = torch.zeros_like(state)
            for weight, (tail, head) in edges:
                if head == layer:
                    total = total + (weight if tail == BIAS else (state if tail == head else x) @ weight.T)
            state = total if layer == len(graph.widths) - 1 else torch.relu(total)
            outputs.append(state)
        sequence = outputs
    return torch.stack(sequence)


def network(widths: Sequence[int], bias: bool, generator: torch.Generator, recurrent: bool = True) -> AnyWidths:
    """Draw weights of magnitude 0.2 to 1, recurrent ones smaller, of random sign."""

    def draw(*shape: int) -> nn.Parameter:
        magnitude = 0.2 + 0.8 * torch.rand(shape, generator=generator, dtype=torch.float64)
        return nn.Parameter(magnitude * (2 * torch.randint(0, 2, shape, generator=generator) - 1))

    tensors: list[Tensor] = []
    wiring: list[Wire] = []
    for head, (before, width) in enumerate(pairwise(widths), 1):
        last = head == len(widths) - 1
        tensors.append(draw(width, before))
        wiring.append(Wire(head - 1, head))
        if recurrent and not last:
            tensors.append(nn.Parameter(draw(width, width).detach() / width))
            wiring.append(Wire(head, head))
        for _ in range(bias * (2 - last)):
            tensors.append(draw(width))
            wiring.append(Wire(BIAS, head))
    return AnyWidths(tensors, wiring)


@dataclass(frozen=True)
class Case:
    """A network with data to run it on: inputs and targets ``[time, batch, features]``, scales per hidden layer."""

    graph: AnyWidths
    inputs: Tensor
    targets: Tensor
    scales: list[Tensor]

    def outputs(self, graph: ReductionGraph | None = None) -> Tensor:
        """Run the network, or another of its shape, on the data."""
        return forward(graph or self.graph, self.inputs)

    def loss(self, graph: ReductionGraph | None = None) -> Tensor:
        """Compute the mean squared error."""
        return (self.outputs(graph) - self.targets).square().mean()

    def backward(self, graph: ReductionGraph | None = None) -> None:
        """Put the gradients of the loss in place."""
        for parameter in (graph or self.graph).parameters():
            parameter.grad = None
        self.loss(graph).backward()  # type: ignore[no-untyped-call]


def case(
    widths: Sequence[int], bias: bool, seed: int, steps: int = 4, sigma: float = 1.0, recurrent: bool = True
) -> Case:
    """Draw a network, data for it, and scales ``exp(sigma N(0, 1))`` for its hidden units."""
    generator = torch.Generator().manual_seed(seed)
    graph = network(widths, bias, generator, recurrent)
    inputs = torch.randn(steps, 6, widths[0], generator=generator, dtype=torch.float64)
    targets = torch.randn(steps, 6, widths[-1], generator=generator, dtype=torch.float64)
    normal = [torch.randn(width, generator=generator, dtype=torch.float64) for width in widths[1:-1]]
    return Case(graph, inputs, targets, [torch.exp(sigma * n) for n in normal])
