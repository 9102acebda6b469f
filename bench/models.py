"""Networks that suites train: recurrent layers of torch with a linear readout of the last step or of every step."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

import pathrnn

Layers = Callable[[int, int, int, bool], nn.RNNBase]
"""Recurrent layers, batch first, from the numbers of inputs, units and layers, and whether they have biases."""


def relu(inputs: int, hidden: int, layers: int, bias: bool) -> nn.RNN:
    """Simple recurrent network with ReLU units: the network of path space."""
    return nn.RNN(inputs, hidden, layers, nonlinearity="relu", bias=bias, batch_first=True)


def tanh(inputs: int, hidden: int, layers: int, bias: bool) -> nn.RNN:
    """Simple recurrent network with tanh units (Elman 1990)."""
    return nn.RNN(inputs, hidden, layers, nonlinearity="tanh", bias=bias, batch_first=True)


def gru(inputs: int, hidden: int, layers: int, bias: bool) -> nn.GRU:
    """Gated recurrent units (Cho et al. 2014): three times the weights of a simple network."""
    return nn.GRU(inputs, hidden, layers, bias=bias, batch_first=True)


def lstm(inputs: int, hidden: int, layers: int, bias: bool) -> nn.LSTM:
    """Long short-term memory (Hochreiter, Schmidhuber 1997): four times the weights of a simple network."""
    return nn.LSTM(inputs, hidden, layers, bias=bias, batch_first=True)


class Network(nn.Module):
    """Recurrent layers and readout: ``[batch, steps, inputs]`` to ``[batch, outputs]``, or ``[batch, steps, outputs]``.

    Args:
        layers: recurrent layers, batch first.
        outputs: outputs of a step.
        every_step: read out every step, or the last alone.
    """

    def __init__(self, layers: nn.RNNBase, outputs: int, every_step: bool = False) -> None:
        super().__init__()
        self.rnn, self.every_step = layers, every_step
        self.head = nn.Linear(layers.hidden_size, outputs, bias=layers.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Read a batch of sequences."""
        states = self.rnn(inputs)[0]
        return self.head(states if self.every_step else states[:, -1])  # type: ignore[no-any-return]

    @property
    def graph(self) -> pathrnn.ReductionGraph:
        """The reduction graph; ValueError for other units than ReLU."""
        return pathrnn.ReductionGraph(self.rnn, self.head)  # type: ignore[arg-type]  # it refuses other layers itself
