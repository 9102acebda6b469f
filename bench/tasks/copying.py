"""The copying problem: repeat ten symbols after a long pause (Hochreiter, Schmidhuber 1997; Arjovsky et al. 2016)."""

from __future__ import annotations

import functools
import math

import torch

from bench.tasks import Split, Task, check_at_least, drawn, one_hot, symbol_loss

SYMBOLS, LETTERS = 10, 8
"""Symbols to repeat, each one of so many letters."""


def copying(length: int = 20, train: int = 10_000, held_out: int = 1_000) -> Task:
    """Remember ten letters over a number of blanks.

    A sequence is ten letters out of eight, ``length - 1`` blanks, a delimiter, ten blanks: ``length + 20`` steps,
    one-hot in 10 inputs. Blank is to be predicted at every step but the last ten, which repeat the letters. A network
    that counts steps but has no memory of the letters scores a cross entropy of ``10 ln 8 / (length + 20)`` nats per
    step; the target is half of that.

    Args:
        length: steps from the last letter to the delimiter.
        train: training sequences.
        held_out: validation sequences, and as many test sequences.

    Returns:
        The task.

    Raises:
        InputError: a length below 1, or a split without sequences.
    """
    check_at_least("copying", 1, length=length)
    splits = drawn(functools.partial(_draw, length), train, held_out, ("copying", length))
    without_memory = SYMBOLS * math.log(LETTERS) / (length + 2 * SYMBOLS)
    return Task(
        LETTERS + 1,
        symbol_loss,
        symbol_loss,
        "cross entropy per step [nats]",
        False,
        without_memory / 2,
        *splits,
        every_step=True,
        encode=functools.partial(one_hot, symbols=LETTERS + 2),
    )


def _draw(length: int, count: int, generator: torch.Generator) -> Split:
    """Draw sequences of codes: 0 is blank, 1 to 8 are letters, 9 is the delimiter."""
    letters = torch.randint(1, LETTERS + 1, (count, SYMBOLS), generator=generator, dtype=torch.uint8)
    blanks = torch.zeros(count, length + SYMBOLS, dtype=torch.uint8)
    inputs, targets = torch.cat([letters, blanks], dim=1), torch.cat([blanks, letters], dim=1)
    inputs[:, SYMBOLS + length - 1] = LETTERS + 1
    return Split(inputs, targets)
