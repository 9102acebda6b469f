"""The embedded Reber grammar: predict which symbols may come next (Hochreiter and Schmidhuber 1997)."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bench.tasks import Split, Task, drawn, one_hot

SYMBOLS = "BTPSXVE"
ARCS = ({"B": 1}, {"T": 2, "P": 3}, {"S": 2, "X": 4}, {"T": 3, "V": 5}, {"X": 3, "S": 6}, {"P": 4, "V": 6}, {"E": 7})
"""What may follow at each place of the Reber grammar, and the place it leads to; place 7 is the end."""


def reber(train: int = 3_000, held_out: int = 1_000) -> Task:
    """Predict which symbols may come next in words of the embedded Reber grammar.

    A word is B, then T or P, a word of the Reber grammar, the same T or P, and E; each fork is taken with probability
    1/2, so that words have 12 symbols in the mean. At each step the network reads a symbol, one-hot in 7 inputs, and
    predicts the next one; targets ``[sequences, steps, 7]`` are its probabilities by the grammar, rows of zeros after
    the end. Short words are frequent, so that splits share words: what can be learned is the grammar.

    The metric is the share of words in which, at every step, each symbol that may follow has a higher output than each
    that may not. A network that forgets the second symbol cannot tell T from P near the end, and gets at most about
    half of the words; the target is 95 %.

    Args:
        train: training sequences.
        held_out: validation sequences, and as many test sequences.

    Returns:
        The task.

    Raises:
        InputError: a split without sequences.
    """
    return Task(
        len(SYMBOLS),
        _loss,
        _predicted,
        "sequences fully predicted [%]",
        True,
        95.0,
        *drawn(_draw, train, held_out, ("reber",)),
        every_step=True,
        encode=functools.partial(one_hot, symbols=len(SYMBOLS)),
    )


def _draw(count: int, generator: torch.Generator) -> Split:
    words = [_word(generator) for _ in range(count)]
    codes = [torch.tensor([SYMBOLS.index(symbol) for symbol, _ in word[:-1]], dtype=torch.uint8) for word in words]
    targets = [torch.tensor([_probabilities(legal) for _, legal in word[1:]]) for word in words]
    return Split(pad_sequence(codes, batch_first=True), pad_sequence(targets, batch_first=True))


def _word(generator: torch.Generator) -> list[tuple[str, str]]:
    """Draw a word: each symbol, with all that were legal in its place."""
    side = _choose("TP", generator)
    word, place = [("B", "B"), (side, "TP")], 0
    while place < len(ARCS):
        legal = "".join(ARCS[place])
        symbol = _choose(legal, generator)
        word.append((symbol, legal))
        place = ARCS[place][symbol]
    return [*word, (side, side), ("E", "E")]


def _choose(legal: str, generator: torch.Generator) -> str:
    return legal[int(torch.randint(len(legal), (), generator=generator))]


def _probabilities(legal: str) -> list[float]:
    return [(symbol in legal) / len(legal) for symbol in SYMBOLS]


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    padding = ~targets.any(-1, keepdim=True)
    logarithms = outputs.masked_fill(padding, 0).log_softmax(-1)
    return -(targets * logarithms).sum() / (~padding).sum()


def _predicted(outputs: Tensor, targets: Tensor) -> Tensor:
    legal = targets > 0
    lowest = outputs.masked_fill(~legal, math.inf).amin(-1)
    highest = outputs.masked_fill(legal, -math.inf).amax(-1)
    return 100 * ((lowest > highest) | ~legal.any(-1)).all(-1).double().mean()
