"""Small float64 networks of any widths for the tests, with a forward pass written out from the definition."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from pathrnn.graph import Edges, ReductionGraph

WIDTHS = [(3, 5, 2), (2, 4, 4, 4, 3), (3, 5, 3, 2), (3, 3, 5, 2), (2, 4, 2, 5, 3), (1, 6, 2, 6, 1)]


class AnyWidths(ReductionGraph):
    """A reduction graph over bare parameters: nn.RNN cannot give each layer a width of its own."""

    def __init__(self, layers: list[Edges]) -> None:
        self.layers = layers

    def edges(self) -> list[Edges]:
        return self.layers

    def names(self) -> list[str]:
        return [f"tensor {place}" for place, _ in enumerate(self.parameters())]


def forward(edges: list[Edges], inputs: Tensor) -> Tensor:
    """Outputs ``[time, batch, n_{L+1}]`` for inputs ``[time, batch, n_0]``, straight from the definition."""
    sequence = list(inputs)
    for layer in edges[:-1]:
        state = torch.zeros(inputs.shape[1], layer.forward.shape[0], dtype=inputs.dtype)
        outputs = []
        for x in sequence:
            state = torch.relu(x @ layer.forward.T + state @ layer.recurrent.T + sum(layer.biases))
            outputs.append(state)
        sequence = outputs
    return torch.stack([x @ edges[-1].forward.T + sum(edges[-1].biases) for x in sequence])


def network(widths: tuple[int, ...], bias: bool, generator: torch.Generator) -> AnyWidths:
    """Draw weights of magnitude 0.2 to 1, recurrent ones smaller, of random sign."""

    def draw(*shape: int) -> nn.Parameter:
        magnitude = 0.2 + 0.8 * torch.rand(shape, generator=generator, dtype=torch.float64)
        return nn.Parameter(magnitude * (2 * torch.randint(0, 2, shape, generator=generator) - 1))

    layers = []
    for before, width in pairwise(widths[:-1]):
        recurrent = nn.Parameter(draw(width, width).detach() / width)
        layers.append(Edges(draw(width, before), recurrent, (draw(width), draw(width)) if bias else ()))
    layers.append(Edges(draw(widths[-1], widths[-2]), None, (draw(widths[-1]),) if bias else ()))
    return AnyWidths(layers)


@dataclass(frozen=True)
class Case:
    """A network with data to run it on: inputs and targets ``[time, batch, features]``, scales per hidden layer."""

    graph: AnyWidths
    inputs: Tensor
    targets: Tensor
    scales: list[Tensor]

    def loss(self, graph: ReductionGraph | None = None) -> Tensor:
        return (forward((graph or self.graph).edges(), self.inputs) - self.targets).square().mean()

    def backward(self, graph: ReductionGraph | None = None) -> None:
        for parameter in (graph or self.graph).parameters():
            parameter.grad = None
        self.loss(graph).backward()


def case(widths: tuple[int, ...], bias: bool, seed: int, steps: int = 4, sigma: float = 1.0) -> Case:
    generator = torch.Generator().manual_seed(seed)
    graph = network(widths, bias, generator)
    inputs = torch.randn(steps, 6, widths[0], generator=generator, dtype=torch.float64)
    targets = torch.randn(steps, 6, widths[-1], generator=generator, dtype=torch.float64)
    normal = [torch.randn(width, generator=generator, dtype=torch.float64) for width in widths[1:-1]]
    return Case(graph, inputs, targets, [torch.exp(sigma * n) for n in normal])


cases = st.builds(
    case,
    st.lists(st.integers(1, 5), min_size=3, max_size=5).map(tuple),
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
)
