"""Reference scores: on every task, models whose score is known without our code must reach it, and not beat it by much.

Bugs of loaders flip benchmarks: shuffled labels, a test set among the training data, inputs that contain their targets.
Each band has two sides wherever a score can be too good. The loop is this file's own, on one thread, of fixed seeds.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import loadmat
from torch import Tensor, nn

from bench import data
from bench.tasks import Task
from bench.tasks.adding import adding
from bench.tasks.copying import copying
from bench.tasks.digits import digits
from bench.tasks.mnist import mnist_permuted, mnist_pixels, mnist_rows
from bench.tasks.polyphonic import jsb_chorales, nottingham
from bench.tasks.reber import reber
from bench.tasks.text import characters
from tests.bench.conftest import needs_data


class Recurrent(nn.Module):
    """Recurrent layer and readout."""

    def __init__(self, layer: type[nn.GRU] | type[nn.LSTM], task: Task, hidden: int) -> None:
        super().__init__()
        self.rnn = layer(task.inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, task.outputs)
        self.every_step = task.every_step

    def forward(self, inputs: Tensor) -> Tensor:
        states = self.rnn(inputs)[0]
        return self.head(states if self.every_step else states[:, -1])


def linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def softmax_regression(task: Task) -> nn.Module:
    steps = task.train.inputs.shape[1]
    return nn.Sequential(nn.Flatten(), linear(steps * task.inputs, task.outputs))


def fit(task: Task, model: nn.Module, updates: int, rate: float, batch: int = 64) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(updates):
        chosen = torch.randint(len(task.train.inputs), (batch,))
        loss = task.loss(model(task.encode(task.train.inputs[chosen])), task.train.targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def score(task: Task, model: nn.Module) -> float:
    outputs = [model(task.encode(part)) for part in torch.split(task.test.inputs, 500)]
    return float(task.metric(torch.cat(outputs), task.test.targets))


def nearest_neighbour(task: Task, test: Tensor) -> Tensor:
    """Labels of the images to learn from that are nearest to some test images."""
    known, images = (task.encode(inputs).flatten(1) for inputs in (task.train.inputs, test))
    distances = [(known**2).sum(1) - 2 * part @ known.T for part in torch.split(images, 200)]
    return task.train.targets[torch.cat([each.argmin(1) for each in distances])]


@needs_data
@pytest.mark.parametrize("build", [mnist_rows, mnist_pixels, mnist_permuted])
def test_mnist_is_as_hard_for_a_linear_classifier_as_ever(build: Callable[[], Task]) -> None:
    """A linear classifier has 88 % (LeCun et al. 1998), softmax regression 92 to 92.7 %, in any order of pixels."""
    task = build()
    assert 91.5 < score(task, fit(task, softmax_regression(task), 2_000, 0.001, 100)) < 93.0


@needs_data
def test_mnist_is_as_hard_for_nearest_neighbours_as_ever() -> None:
    """96.9 % by 60,000 images (an error of 3.09 % on LeCun's page); 100 % if test images were among them."""
    task = mnist_rows()
    found = nearest_neighbour(task, task.test.inputs[::5])
    assert 95.5 < float(100 * (found == task.test.targets[::5]).double().mean()) < 97.5


def test_digits_are_as_hard_for_nearest_neighbours_as_ever() -> None:
    """98.3 to 99.3 % by scikit-learn on ten splits of these sizes; 100 % if test images were among them."""
    task = digits()
    found = nearest_neighbour(task, task.test.inputs)
    assert 97.5 < float(100 * (found == task.test.targets).double().mean()) < 99.7


@pytest.mark.parametrize("steps", [8, 64])
def test_digits_are_as_hard_for_a_linear_classifier_as_ever(steps: int) -> None:
    """95.3 to 97.7 % by logistic regression of scikit-learn on ten splits of these sizes."""
    task = digits(steps)
    assert 94.5 < score(task, fit(task, softmax_regression(task), 800, 0.01)) < 98


def test_adding_scores_its_closed_form_by_linear_regression() -> None:
    """Without products of number and mark, a half's number is found by 1 in T/2: 1/6 - 1/(3 T) is left."""
    task = adding(length=10, held_out=20_000)
    inputs, test_inputs = (
        torch.cat([split.inputs.flatten(1), torch.ones(len(split.inputs), 1)], dim=1).double()
        for split in (task.train, task.test)
    )
    weights = torch.linalg.pinv(inputs) @ task.train.targets.double()
    error = float(task.metric(test_inputs @ weights, task.test.targets.double()))
    assert error == pytest.approx(1 / 6 - 1 / 30, rel=0.03)


def test_adding_is_learned_by_gated_units() -> None:
    """Solved, but not exactly: always 1 scores 0.167, linear regression 0.150."""
    task = adding(length=20, train=10_000)
    assert 1e-6 < score(task, fit(task, Recurrent(nn.GRU, task, 32), 600, 0.01)) < 0.02


class Clock(nn.Module):
    """Logits that depend on the step and on its inputs, but on none before."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(task.train.inputs.shape[1], task.outputs))
        self.now = linear(task.inputs, task.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.steps + self.now(inputs)


def test_copying_scores_its_closed_form_without_memory() -> None:
    """Ten letters of eight kinds cannot be told from the step and its inputs: less than chance would be a leak."""
    task = copying(length=5)
    assert score(task, fit(task, Clock(task), 600, 0.03)) == pytest.approx(10 * math.log(8) / 25, rel=0.01)


def test_copying_is_learned_by_gated_units() -> None:
    """Half of what is left without memory, at the latest; in so short a time not all."""
    task = copying(length=1)
    found = score(task, fit(task, Recurrent(nn.GRU, task, 128), 900, 0.01))
    assert 0.01 < found < 0.5 * 10 * math.log(8) / 21


def test_reber_is_learned_by_gated_units() -> None:
    """As Hochreiter and Schmidhuber (1997) found; at best, the loss is that of 7 forks in 11 steps."""
    task = reber()
    model = fit(task, Recurrent(nn.LSTM, task, 32), 400, 0.01)
    assert score(task, model) >= 95
    loss = float(task.loss(model(task.encode(task.test.inputs)), task.test.targets).detach())
    assert loss == pytest.approx(7 * math.log(2) / 11, abs=0.02)


@functools.cache
def text() -> Task:
    return characters()


@functools.cache
def bigram_score() -> float:
    """Bits per character by counts of pairs in the training text, one added to each, straight from the file."""
    content = data.read("tinyshakespeare/input.txt").decode()
    alphabet = {character: code for code, character in enumerate(sorted(set(content)))}
    codes = np.array([alphabet[character] for character in content])
    train, test = codes[: len(codes) * 90 // 100], codes[len(codes) * 95 // 100 :]
    counts = np.ones((len(alphabet), len(alphabet)))
    np.add.at(counts, (train[:-1], train[1:]), 1)
    probabilities = counts / counts.sum(1, keepdims=True)
    return float(-np.log2(probabilities[test[:-1], test[1:]]).mean())


@needs_data
def test_characters_score_what_counting_does_by_the_character_before() -> None:
    task = text()
    found = score(task, fit(task, linear(task.inputs, task.outputs), 600, 0.03))
    assert found == pytest.approx(bigram_score(), abs=0.03)


@needs_data
def test_characters_are_learned_by_gated_units() -> None:
    """More context must help; but large networks that train for hours stay above 2 bits."""
    task = text()
    found = score(task, fit(task, Recurrent(nn.GRU, task, 64), 200, 0.02, 16))
    assert 2.6 < found < bigram_score() - 0.4


# Published by Boulanger-Lewandowski et al. 2012: how often each note sounds ("note 1-gram"), and a plain RNN.
MUSIC = [
    pytest.param(jsb_chorales, "JSB_Chorales", 11.06, 8.71, id="jsb_chorales"),
    pytest.param(nottingham, "Nottingham", 10.25, 4.46, id="nottingham"),
]


def music(file: str) -> tuple[NDArray[np.float64], ...]:
    """Frames before and frames, of training and test, straight from the file."""
    content = loadmat(io.BytesIO(data.read(f"polyphonic/{file}.mat")))
    sides = []
    for part in ("traindata", "testdata"):
        pieces = [piece.astype(float) for piece in content[part][0]]
        sides += [
            np.concatenate([np.vstack([np.zeros((1, 88)), piece[:-1]]) for piece in pieces]),
            np.concatenate(pieces),
        ]
    return tuple(sides)


def note_by_note(probabilities: NDArray[np.float64], frames: NDArray[np.float64]) -> float:
    return float(-np.log(np.where(frames > 0, probabilities, 1 - probabilities)).sum(1).mean())


def shares(frames: NDArray[np.float64], where: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often each note sounds where it should be counted, one added to both outcomes."""
    return ((frames * where).sum(0) + 1) / (where.sum(0) + 2)


@needs_data
@pytest.mark.parametrize(("build", "file", "single_notes", "network"), MUSIC)
def test_music_scores_what_is_published_for_single_notes(
    build: Callable[[], Task], file: str, single_notes: float, network: float
) -> None:
    task = build()
    _, train, _, test = music(file)
    probabilities = shares(train, np.ones_like(train))
    logits = torch.tensor(np.log(probabilities / (1 - probabilities)))
    found = float(task.metric(logits.expand(task.test.targets.shape), task.test.targets))
    assert found == pytest.approx(note_by_note(probabilities, test), rel=1e-9)
    assert found == pytest.approx(single_notes, abs=0.01)


@needs_data
@pytest.mark.parametrize(("build", "file", "single_notes", "network"), MUSIC)
def test_music_is_learned_from_the_frame_before(
    build: Callable[[], Task], file: str, single_notes: float, network: float
) -> None:
    """Logistic regression knows much more than how often a note follows itself, and less than a network with memory."""
    task = build()
    before, train, test_before, test = music(file)
    note_by_itself = np.where(test_before > 0, shares(train, before), shares(train, 1 - before))
    found = score(task, fit(task, linear(88, 88), 600, 0.1, 16))
    assert network < found < 0.93 * note_by_note(note_by_itself, test) < 0.93 * single_notes
