"""Polyphonic music: predict the notes of each frame of a piano roll (Boulanger-Lewandowski et al. 2012)."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import torch
from scipy.io import loadmat
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from bench import data
from bench.tasks import Split, Task, check_at_least

NOTES = 88
PADDING = -1


def jsb_chorales(steps: int = 160) -> Task:
    """Predict each frame of Bach's chorales: 229 pieces to learn from, 76 for validation, 77 for the test.

    The network reads the frame before, silence at the start, and predicts which of 88 notes sound: outputs are logits,
    targets ``[sequences, steps, 88]`` are 1, 0, or -1 after the end. The metric is the negative log-likelihood of a
    frame, summed over notes and averaged over frames, whatever the piece; a fair coin for each note scores 88 ln 2,
    61.0 nats. The target, 8.8 nats, is a little above what a plain RNN scored there, 8.71.

    Args:
        steps: pieces that are longer are cut in windows of so many frames; each starts from a state of zero, but reads
            the frame before its first. No piece has more than 160.

    Returns:
        The task.

    Raises:
        MissingDataError: the file is not there.
        InputError: the file is not the one it should be, or steps are below 1.
    """
    check_at_least("jsb_chorales", 1, steps=steps)
    return _task("polyphonic/JSB_Chorales.mat", steps, 8.8)


def nottingham(steps: int = 200) -> Task:
    """Predict each frame of Nottingham's folk tunes: 694 pieces to learn from, 173 for validation, 170 for the test.

    All else is as in :func:`jsb_chorales`. Two of the pieces to learn from occur again, one in each other split, as
    published. The target, 4.5 nats, is a little above what a plain RNN scored there, 4.46.

    Args:
        steps: pieces that are longer are cut in windows of so many frames. The longest has 1,793 and most have more
            than 200, which keeps padding and memory small.

    Returns:
        The task.

    Raises:
        MissingDataError: the file is not there.
        InputError: the file is not the one it should be, or steps are below 1.
    """
    check_at_least("nottingham", 1, steps=steps)
    return _task("polyphonic/Nottingham.mat", steps, 4.5)


def _task(file: str, steps: int, target: float) -> Task:
    matlab = loadmat(BytesIO(data.read(file)))
    splits = [_split(matlab[part][0], steps) for part in ("traindata", "validdata", "testdata")]
    name = "negative log-likelihood per frame [nats]"
    return Task(NOTES, _error, _error, name, False, target, *splits, every_step=True, encode=Tensor.float)


def _split(rolls: Iterable[Any], steps: int) -> Split:
    pieces = [torch.from_numpy(roll).to(torch.int8) for roll in rolls]
    before = [functional.pad(piece[:-1], (0, 0, 1, 0)) for piece in pieces]
    return Split(_windows(before, steps, 0), _windows(pieces, steps, PADDING))


def _windows(pieces: list[Tensor], steps: int, padding: int) -> Tensor:
    windows = [window for piece in pieces for window in torch.split(piece, steps)]
    return pad_sequence(windows, batch_first=True, padding_value=padding)


def _error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum the cross entropies of the notes; average over frames. At padding, outputs count as 0 with weight 0."""
    padding = targets == PADDING
    errors = functional.binary_cross_entropy_with_logits(
        outputs.masked_fill(padding, 0),
        targets.masked_fill(padding, 0).to(outputs.dtype),
        weight=(~padding).to(outputs.dtype),
        reduction="sum",
    )
    return errors / (~padding[..., 0]).sum()
