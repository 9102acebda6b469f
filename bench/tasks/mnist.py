"""MNIST of LeCun, Cortes and Burges, read from a local folder."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import torch
from torch import Tensor

from bench.errors import InputError, MissingDataError
from bench.seeds import seed
from bench.tasks import Split, Task, classification, shuffled

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""Digests of the decompressed files."""


def mnist_rows() -> Task:
    """Build the task: read an image row by row, 28 steps of 28 pixels.

    Returns:
        The task: 50,000 images to learn from, 10,000 for validation (of a fixed shuffle), 10,000 for the test.

    Raises:
        MissingDataError: a file is not there.
        InputError: a file cannot be read, or is not the file it should be.
    """
    whole, test = _split("train"), _split("t10k")
    train, validation = shuffled(whole, [50_000, 10_000], seed("mnist", "validation"))
    return classification(10, train, validation, test)


def _split(part: str) -> Split:
    images, labels = _read(f"{part}-images-idx3-ubyte"), _read(f"{part}-labels-idx1-ubyte")
    return Split(images[16:].reshape(-1, 28, 28).float() / 255, labels[8:].long())


def _read(name: str) -> Tensor:
    """Return the bytes of a file, gzipped or not, after checking its digest; headers included."""
    folder = os.environ.get("PATHRNN_DATA")
    paths = [Path(folder, "mnist", file) for file in (f"{name}.gz", name)] if folder else []
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        where = f"PATHRNN_DATA is {folder}" if folder else "PATHRNN_DATA is not set"
        raise MissingDataError(
            f"MNIST file {name} not found ({where}); set PATHRNN_DATA to a folder that holds mnist/{name}.gz, "
            "as distributed by LeCun, Cortes and Burges"
        )
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: the file must be a complete gzip file, got: {error}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256[name]:
        raise InputError(f"{path}: the SHA-256 of its content must be {SHA256[name]}, got {found}; fetch it again")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
