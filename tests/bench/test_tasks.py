"""Tasks: shapes, splits, baselines, and files that are missing or wrong."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from pathlib import Path

import pytest
import torch

from bench.errors import InputError, MissingDataError
from bench.tasks.adding import adding
from bench.tasks.digits import digits
from bench.tasks.mnist import SHA256, mnist_rows


def test_adding_is_what_it_says() -> None:
    task = adding(length=50, train=300)
    numbers, marks = task.train.inputs.unbind(-1)
    assert task.train.inputs.shape == (300, 50, 2)
    assert torch.equal(marks[:, :25].sum(1), torch.ones(300))
    assert torch.equal(marks[:, 25:].sum(1), torch.ones(300))
    torch.testing.assert_close((numbers * marks).sum(1, keepdim=True), task.train.targets)
    assert float(task.metric(torch.ones_like(task.test.targets), task.test.targets)) == pytest.approx(1 / 6, rel=0.05)
    assert not torch.equal(task.validation.inputs, task.test.inputs)
    assert torch.equal(adding(length=50, train=300).train.inputs, task.train.inputs)


def test_adding_needs_two_steps() -> None:
    with pytest.raises(ValueError, match="length must be at least 2, one step for each half, got 1"):
        adding(length=1)


@pytest.mark.parametrize("steps", [8, 64])
def test_digits_are_split_without_overlap(steps: int) -> None:
    task = digits(steps)
    splits = [task.train, task.validation, task.test]
    assert [len(split.inputs) for split in splits] == [1197, 300, 300]
    assert task.train.inputs.shape[1:] == (steps, 64 // steps)
    assert task.train.targets[:8].tolist() == digits(8).train.targets[:8].tolist()
    assert float(torch.cat([s.inputs for s in splits]).double().mean()) == pytest.approx(4.8842 / 16, rel=1e-4)
    rows = {row.numpy().tobytes() for split in splits for row in split.inputs}
    assert len(rows) == 1797


def test_digits_have_two_layouts() -> None:
    with pytest.raises(InputError, match="steps of digits must be 8 or 64, got 7"):
        digits(7)
    with pytest.raises(InputError, match="copies of digits must be at least 1, got 0"):
        digits(8, copies=0)


def test_copies_of_digits_are_equal_and_as_strong_as_one() -> None:
    once, four = digits(64).test.inputs, digits(64, copies=4).test.inputs
    assert four.shape == (300, 64, 4)
    torch.testing.assert_close(four, once.expand_as(four) / 2)
    torch.testing.assert_close(four.norm(dim=-1), once.squeeze(-1))


@pytest.mark.skipif("PATHRNN_DATA" not in os.environ, reason="PATHRNN_DATA is not set: no MNIST")
def test_mnist_rows_are_split_as_documented() -> None:
    task = mnist_rows()
    assert [tuple(s.inputs.shape) for s in (task.train, task.validation, task.test)] == [
        (50_000, 28, 28),
        (10_000, 28, 28),
        (10_000, 28, 28),
    ]
    assert task.test.targets[:5].tolist() == [7, 2, 1, 0, 4]
    assert float(task.test.inputs.max()) == 1.0


def test_missing_mnist_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PATHRNN_DATA", raising=False)
    name = "train-images-idx3-ubyte"
    message = (
        f"MNIST file {name} not found (PATHRNN_DATA is not set); "
        f"set PATHRNN_DATA to a folder that holds mnist/{name}.gz"
    )
    with pytest.raises(MissingDataError, match=re.escape(message)):
        mnist_rows()
    monkeypatch.setenv("PATHRNN_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match=re.escape(f"not found (PATHRNN_DATA is {tmp_path})")):
        mnist_rows()


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_wrong_mnist_is_refused_with_both_digests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str) -> None:
    name = "train-images-idx3-ubyte"
    path = tmp_path / "mnist" / f"{name}{suffix}"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(b"not MNIST") if suffix else b"not MNIST")
    monkeypatch.setenv("PATHRNN_DATA", str(tmp_path))
    found = hashlib.sha256(b"not MNIST").hexdigest()
    message = f"{path}: the SHA-256 of its content must be {SHA256[name]}, got {found}; fetch it again"
    with pytest.raises(InputError, match="^" + re.escape(message) + "$"):
        mnist_rows()


@pytest.mark.parametrize(
    "content", [b"", b"plain text", gzip.compress(b"x" * 1000)[:-10]], ids=["empty", "plain", "cut"]
)
def test_broken_gzip_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir()
    path.write_bytes(content)
    monkeypatch.setenv("PATHRNN_DATA", str(tmp_path))
    with pytest.raises(InputError, match=re.escape(f"{path}: ")):
        mnist_rows()
