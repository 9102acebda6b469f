"""The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from bench.errors import InputError
from bench.seeds import seed
from bench.tasks import Split, Task, check_at_least, classification, shuffled


def digits(steps: int = 8, copies: int = 1) -> Task:
    """Classify the 8 x 8 digits of scikit-learn, read in 8 steps of 8 pixels or in 64 of 1.

    Args:
        steps: 8 or 64.
        copies: give each pixel as so many equal features, over the square root of their number: the same information,
            and the same distribution of what a network at its start makes of it, by more edges.

    Returns:
        The task: 1,197 images to learn from, 300 for validation, 300 for the test.

    Raises:
        InputError: another number of steps, or of copies than 1 to 100.
    """
    if steps not in {8, 64}:
        raise InputError(f"steps of digits must be 8 or 64, got {steps}")
    check_at_least("digits", 1, copies=copies)
    if copies > 100:
        raise InputError(f"copies of digits must be 100 at most, got {copies}")
    images, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(images / 16.0, dtype=torch.float32).reshape(len(images), steps, -1)
    inputs = inputs.repeat(1, 1, copies) / copies**0.5
    whole = Split(inputs, torch.tensor(labels))
    return classification(10, 90.0, *shuffled(whole, [len(images) - 600, 300, 300], seed("digits", "splits")))
