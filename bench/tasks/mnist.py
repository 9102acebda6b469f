"""MNIST of LeCun, Cortes and Burges: rows, pixels, or pixels in another order."""

from __future__ import annotations

import torch
from torch import Tensor

from bench import data
from bench.seeds import seed
from bench.tasks import Split, Task, classification, shuffled


def mnist_rows() -> Task:
    """Classify MNIST images, read row by row, 28 steps of 28 pixels. The target is 90 %.

    Returns:
        The task: 50,000 images to learn from, 10,000 for validation (of a fixed shuffle), 10,000 for the test.

    Raises:
        MissingDataError: a file is not there.
        InputError: a file cannot be read, or is not the file it should be.
    """
    return _task((28, 28), torch.arange(784), 90.0)


def mnist_pixels() -> Task:
    """Classify MNIST images, read pixel by pixel, 784 steps of 1 (Le, Jaitly and Hinton 2015). The target is 90 %.

    Returns:
        The task, with the splits of :func:`mnist_rows`.

    Raises:
        MissingDataError: a file is not there.
        InputError: a file cannot be read, or is not the file it should be.
    """
    return _task((784, 1), torch.arange(784), 90.0)


def mnist_permuted() -> Task:
    """Classify MNIST images, read pixel by pixel in one fixed shuffled order. The target is 80 %.

    Returns:
        The task, with the splits of :func:`mnist_rows`.

    Raises:
        MissingDataError: a file is not there.
        InputError: a file cannot be read, or is not the file it should be.
    """
    generator = torch.Generator().manual_seed(seed("mnist", "permutation"))
    return _task((784, 1), torch.randperm(784, generator=generator), 80.0)


def _task(shape: tuple[int, int], order: Tensor, target: float) -> Task:
    whole, test = (_read(part, shape, order) for part in ("train", "t10k"))
    train, validation = shuffled(whole, [50_000, 10_000], seed("mnist", "validation"))
    return classification(10, target, train, validation, test, encode=_scaled)


def _read(part: str, shape: tuple[int, int], order: Tensor) -> Split:
    """Read images and labels, whose files have headers of 16 and of 8 bytes."""
    images, labels = (
        torch.frombuffer(bytearray(data.read(f"mnist/{part}-{kind}-ubyte")), dtype=torch.uint8)
        for kind in ("images-idx3", "labels-idx1")
    )
    return Split(images[16:].reshape(-1, 784)[:, order].reshape(-1, *shape), labels[8:].long())


def _scaled(bytes_: Tensor) -> Tensor:
    return bytes_.float() / 255
