"""Every optimizer of the package, by name, and a model that has all a graph can have around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lion_pytorch import Lion
from torch import Tensor, nn

import pathrnn

Build = Callable[..., torch.optim.Optimizer]

RULES: dict[str, Build] = {
    "sgd": partial(torch.optim.SGD, lr=0.05),
    "momentum": partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=0.01),
    "nesterov": partial(torch.optim.SGD, lr=0.02, momentum=0.9, nesterov=True),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.003, momentum=0.5, centered=True),
    "adam": partial(torch.optim.Adam, lr=0.01, amsgrad=True),
    "adamw": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "muon": pathrnn.muon(0.01, 0.01, weight_decay=0.1),
    "lion": partial(Lion, lr=0.001),
}
SPACES: dict[str, Build] = {
    "relative": pathrnn.PathSpace,
    "relative, index": partial(pathrnn.PathSpace, skeleton="index"),
    "normalised": partial(pathrnn.PathSpace, coordinates="normalised"),
    "gauge": pathrnn.GaugeFixed,
}
ARMS: dict[str, Build] = {
    f"{space} {rule}": partial(SPACES[space], rule=RULES[rule]) for space in SPACES for rule in RULES
} | {
    # raw path values need small steps: they grow with 1 / p^2
    "raw sgd": partial(
        pathrnn.PathSpace,
        rule=partial(torch.optim.SGD, lr=1e-3),
        coordinates="raw",
        skeleton="index",
        max_path_norm=0.1,
    ),
    "raw adam": partial(pathrnn.PathSpace, rule=RULES["adam"], coordinates="raw", max_path_norm=0.1),
    "path-sgd": partial(pathrnn.PathSGD, lr=0.05, steps=5),
    "path-sgd, second term": partial(pathrnn.PathSGD, lr=0.05, steps=5, second_term=True),
}


class Model(nn.Module):
    """An embedding outside the graph, a ReLU RNN of two layers and a readout."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.rnn = nn.RNN(3, 5, 2, nonlinearity="relu", batch_first=True, **options)
        self.head = nn.Linear(5, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.rnn(self.embedding(tokens))[0][:, -1])

    @property
    def graph(self) -> pathrnn.ReductionGraph:
        return pathrnn.ReductionGraph(self.rnn, self.head)

    def loss(self, tokens: Tensor | None = None) -> Tensor:
        tokens = torch.arange(40).reshape(8, 5) % 7 if tokens is None else tokens
        return (self(tokens).float() - 1).square().mean()

    def backward(self) -> Tensor:
        self.zero_grad()
        loss = self.loss()
        loss.backward()
        return loss

    def optimizer(self, arm: str, **options: Any) -> torch.optim.Optimizer:
        return ARMS[arm](self.parameters(), self.graph, **options)

    def step(self, optimizer: torch.optim.Optimizer, times: int = 5) -> None:
        for _ in range(times):
            self.backward()
            optimizer.step()


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def twins(**options: Any) -> tuple[Model, Model]:
    """Two models with the same weights."""
    model, other = Model(**options), Model(**options)
    other.load_state_dict(model.state_dict())
    return model, other
