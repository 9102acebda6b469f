"""Characters of a text: predict the next one."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from bench import data
from bench.errors import InputError
from bench.tasks import Split, Task, check_at_least, one_hot, symbol_loss


def characters(file: str = "tinyshakespeare/input.txt", sha256: str = "", steps: int = 100) -> Task:
    """Predict the next character of any text file.

    The alphabet is that of the whole file, characters in order of their code points, one-hot. The first 90 % of the
    text are for training, 5 % for validation and the last 5 % for the test. Each is cut in windows of ``steps``
    predictions, what is left at its end is not used; every window starts from a state of zero, so its first predictions
    know little of what came before. Always giving all characters the same probability scores log2 of the size of the
    alphabet; the target, 2.75 bits per character, is for English text.

    Args:
        file: a text in UTF-8, by its path in the data folder.
        sha256: digest of the file's decompressed bytes; empty for a file whose digest :mod:`bench.data` knows.
        steps: predictions per window.

    Returns:
        The task.

    Raises:
        MissingDataError: the file is not there.
        InputError: the file is not the one it should be, or not UTF-8; one character alone, or too few for a window in
            each split.
    """
    check_at_least("characters", 1, steps=steps)
    codes = _codes(file, data.read(file, sha256 or None))
    symbols = int(codes.max()) + 1
    return Task(
        symbols,
        symbol_loss,
        _bits,
        "bits per character",
        False,
        2.75,
        *_splits(file, codes, steps),
        every_step=True,
        encode=functools.partial(one_hot, symbols=symbols),
    )


def _codes(file: str, content: bytes) -> Tensor:
    """Number the characters of a text by their places in its alphabet."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: the text must be UTF-8, got: {error}") from None
    alphabet, codes = np.unique(np.frombuffer(text.encode("utf-32-le"), "<u4"), return_inverse=True)
    if len(alphabet) < 2:
        raise InputError(f"{file}: the text must have at least 2 distinct characters, got {len(alphabet)}")
    return torch.from_numpy(codes).to(torch.uint8 if len(alphabet) <= 256 else torch.int32)


def _splits(file: str, codes: Tensor, steps: int) -> list[Split]:
    count = len(codes)
    parts = torch.tensor_split(codes, (count * 90 // 100, count * 95 // 100))
    sizes = [len(part) for part in parts]
    if min(sizes) <= steps:
        raise InputError(
            f"{file}: each split must have more than {steps} characters, the steps of a window, got {sizes}"
        )
    return [_windows(part, steps) for part in parts]


def _windows(codes: Tensor, steps: int) -> Split:
    """Cut windows that overlap by one character: the last target of one is the first input of the next."""
    windows = codes.unfold(0, steps + 1, steps)
    return Split(windows[:, :-1], windows[:, 1:])


def _bits(outputs: Tensor, codes: Tensor) -> Tensor:
    return symbol_loss(outputs, codes) / math.log(2)
