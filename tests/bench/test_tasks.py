"""Tasks: golden data, splits, baselines in closed form, padding, and options that are refused."""

from __future__ import annotations

import functools
import hashlib
import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import loadmat, savemat
from torch import Tensor

from bench import data, registry
from bench.errors import InputError
from bench.tasks import Split, Task
from bench.tasks.adding import adding
from bench.tasks.copying import copying
from bench.tasks.digits import digits
from bench.tasks.mnist import mnist_permuted, mnist_pixels, mnist_rows
from bench.tasks.polyphonic import jsb_chorales, nottingham
from bench.tasks.reber import SYMBOLS, reber
from bench.tasks.text import characters
from tests.bench.conftest import needs_data

BITS = math.log(2)


class Golden(NamedTuple):
    """What a task must be: shapes of features per split and of targets, the first batch, the score of equal outputs."""

    features: list[tuple[int, ...]]
    targets: tuple[int, ...]
    digest: str
    equal_outputs: float
    target: float


GOLDEN = {
    "adding": Golden([(20_000, 50, 2), (2_000, 50, 2), (2_000, 50, 2)], (20_000, 1), "62adda2af66f26a3", 7 / 6, 0.01),
    "characters": Golden(
        [(10_038, 100, 65), (557, 100, 65), (557, 100, 65)], (10_038, 100), "2a44eaf6f5202d87", math.log2(65), 2.75
    ),
    "copying": Golden(
        [(10_000, 40, 10), (1_000, 40, 10), (1_000, 40, 10)], (10_000, 40), "66cbd4a0b4528df8", math.log(9), 0.25993
    ),
    "digits": Golden([(1_197, 8, 8), (300, 8, 8), (300, 8, 8)], (1_197,), "966e1525f35b4c38", 100 * 20 / 300, 90.0),
    "jsb_chorales": Golden(
        [(229, 129, 88), (76, 144, 88), (77, 160, 88)], (229, 129, 88), "a9dec96db1efa003", 88 * BITS, 8.8
    ),
    "mnist_permuted": Golden(
        [(50_000, 784, 1), (10_000, 784, 1), (10_000, 784, 1)], (50_000,), "1fe6bdbe63f27d6f", 9.8, 80.0
    ),
    "mnist_pixels": Golden(
        [(50_000, 784, 1), (10_000, 784, 1), (10_000, 784, 1)], (50_000,), "8f6280d5eb325adc", 9.8, 90.0
    ),
    "mnist_rows": Golden(
        [(50_000, 28, 28), (10_000, 28, 28), (10_000, 28, 28)], (50_000,), "8f6280d5eb325adc", 9.8, 90.0
    ),
    "nottingham": Golden(
        [(1_166, 200, 88), (301, 200, 88), (290, 200, 88)], (1_166, 200, 88), "2f8ab6b3ff68d90c", 88 * BITS, 4.5
    ),
    "reber": Golden([(3_000, 32, 7), (1_000, 34, 7), (1_000, 32, 7)], (3_000, 32, 7), "e6ac2f6b383a99b1", 0.0, 95.0),
}
"""Digests are of the first eight training sequences: features and targets, little-endian, in this order."""
FROM_FILES = {"characters", "jsb_chorales", "mnist_permuted", "mnist_pixels", "mnist_rows", "nottingham"}


def exactly(message: str) -> str:
    return f"^{re.escape(message)}$"


def splits(task: Task) -> tuple[Split, Split, Split]:
    return task.train, task.validation, task.test


def digest(*tensors: Tensor) -> str:
    arrays = [tensor.contiguous().numpy() for tensor in tensors]
    content = b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays)
    return hashlib.sha256(content).hexdigest()[:16]


def rows(tensor: Tensor) -> set[bytes]:
    return {row.tobytes() for row in tensor.contiguous().numpy()}


def equal_outputs(task: Task, split: Split) -> Tensor:
    steps = split.inputs.shape[1:2] if task.every_step else ()
    return torch.zeros(len(split.inputs), *steps, task.outputs)


def test_every_task_of_the_registry_is_golden() -> None:
    ours = {target for target in registry.TASKS.values() if target.startswith("bench.tasks.")}
    assert ours == {registry.TASKS[name] for name in GOLDEN}


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_data) if n in FROM_FILES else n for n in GOLDEN])
def test_golden_data(name: str) -> None:
    build, golden = registry.resolve(registry.TASKS, name), GOLDEN[name]
    task: Task = build()
    assert [(*split.inputs.shape[:2], task.inputs) for split in splits(task)] == golden.features
    assert task.encode(task.test.inputs[:3]).shape == (3, *golden.features[2][1:])
    assert task.train.targets.shape == golden.targets
    assert task.encode(task.train.inputs[:8]).dtype == torch.float32
    assert digest(task.encode(task.train.inputs[:8]), task.train.targets[:8]) == golden.digest
    assert task.target == pytest.approx(golden.target, abs=1e-5)


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_data) if n in FROM_FILES else n for n in GOLDEN])
def test_a_task_is_the_same_when_built_twice_and_its_encoding_goes_to_other_processes(name: str) -> None:
    once, again = (registry.resolve(registry.TASKS, name)() for _ in range(2))
    for first, second in zip(splits(once), splits(again), strict=True):
        assert torch.equal(first.inputs, second.inputs)
        assert torch.equal(first.targets, second.targets)
    encode = pickle.loads(pickle.dumps(once.encode))
    assert torch.equal(encode(again.test.inputs[:5]), once.encode(once.test.inputs[:5]))


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_data) if n in FROM_FILES else n for n in GOLDEN])
def test_equal_outputs_score_what_chance_does_and_miss_the_target(name: str) -> None:
    task: Task = registry.resolve(registry.TASKS, name)()
    score = float(task.metric(equal_outputs(task, task.test), task.test.targets))
    # Exact; but in adding, 7/6 is what the mean square of the sums should be.
    assert score == pytest.approx(GOLDEN[name].equal_outputs, rel=0.05 if name == "adding" else 1e-6)
    assert score < task.target if task.higher_is_better else score > task.target


def test_adding_is_what_it_says() -> None:
    task = adding(length=50, train=300)
    numbers, marks = task.train.inputs.unbind(-1)
    assert task.train.inputs.shape == (300, 50, 2)
    assert torch.equal(marks[:, :25].sum(1), torch.ones(300))
    assert torch.equal(marks[:, 25:].sum(1), torch.ones(300))
    torch.testing.assert_close((numbers * marks).sum(1, keepdim=True), task.train.targets)
    assert len(set.union(*(rows(split.inputs) for split in splits(task)))) == 300 + 2 * 2_000


def test_always_one_scores_a_sixth_on_adding() -> None:
    task = adding(held_out=20_000)
    targets = task.test.targets
    score = float(task.metric(torch.ones_like(targets), targets))
    assert score == pytest.approx(float(((targets.double() - 1) ** 2).mean()), rel=1e-6)
    assert score == pytest.approx(1 / 6, rel=0.02)


@pytest.mark.parametrize("length", [1, 20])
def test_copying_is_what_it_says(length: int) -> None:
    task = copying(length, train=3_000)
    for inputs, targets in splits(task):
        letters = inputs[:, :10]
        assert torch.equal(letters.unique(), torch.arange(1, 9, dtype=torch.uint8))
        assert torch.equal(targets[:, -10:], letters)
        assert not targets[:, :-10].any()
        assert not inputs[:, 10 : 9 + length].any()
        assert (inputs[:, 9 + length] == 9).all()
        assert not inputs[:, 10 + length :].any()
        assert inputs.shape == targets.shape == (len(inputs), length + 20)
    words = [rows(split.inputs[:, :10]) for split in splits(task)]
    assert len(set.union(*words)) == 3_000 + 2 * 1_000
    assert task.encode(task.test.inputs)[:, -11].argmax(-1).eq(9).all()


@pytest.mark.parametrize("length", [1, 20, 100])
def test_copying_without_memory_scores_its_closed_form(length: int) -> None:
    task = copying(length, train=1)
    outputs = torch.full((1_000, length + 20, 9), -1e4)
    outputs[:, :-10, 0] = outputs[:, -10:, 1:] = 0
    expected = 10 * math.log(8) / (length + 20)
    assert float(task.metric(outputs, task.test.targets)) == pytest.approx(expected, rel=1e-6)
    assert float(task.loss(outputs, task.test.targets)) == pytest.approx(expected, rel=1e-6)
    assert task.target == pytest.approx(expected / 2)


@pytest.mark.parametrize("steps", [8, 64])
def test_digits_are_split_without_overlap(steps: int) -> None:
    task = digits(steps)
    assert [len(split.inputs) for split in splits(task)] == [1197, 300, 300]
    assert task.train.inputs.shape[1:] == (steps, 64 // steps)
    assert task.train.targets[:8].tolist() == digits(8).train.targets[:8].tolist()
    assert float(torch.cat([s.inputs for s in splits(task)]).double().mean()) == pytest.approx(4.8842 / 16, rel=1e-4)
    assert len(set.union(*(rows(split.inputs) for split in splits(task)))) == 1797


def test_copies_of_digits_are_equal_and_as_strong_as_one() -> None:
    once, four = digits(64).test.inputs, digits(64, copies=4).test.inputs
    assert four.shape == (300, 64, 4)
    torch.testing.assert_close(four, once.expand_as(four) / 2)
    torch.testing.assert_close(four.norm(dim=-1), once.squeeze(-1))


def test_accuracy_counts_labels() -> None:
    task = digits()
    one_hot = torch.nn.functional.one_hot(task.test.targets, 10).float()
    assert float(task.metric(one_hot, task.test.targets)) == 100
    assert float(task.metric(one_hot.roll(1, dims=-1), task.test.targets)) == 0
    assert float(task.metric(one_hot, task.test.targets.roll(1))) < 25


@pytest.fixture
def fake_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the right sizes: by turns, pixel ``j`` is ``j mod 256`` and the label 3, or ``j div 256`` and 7."""
    pixels = np.stack([np.arange(784) % 256, np.arange(784) // 256]).astype(np.uint8)

    def read(name: str) -> bytes:
        count = 60_000 if "train" in name else 10_000
        if "labels" in name:
            return bytes(8) + bytes([3, 7] * (count // 2))
        return bytes(16) + np.tile(pixels, (count // 2, 1)).tobytes()

    monkeypatch.setattr(data, "read", read)


@pytest.mark.usefixtures("fake_mnist")
@pytest.mark.parametrize("build", [mnist_rows, mnist_pixels, mnist_permuted])
def test_mnist_keeps_images_and_labels_together(build: Callable[[], Task]) -> None:
    task = build()
    for inputs, labels in splits(task):
        assert torch.equal((inputs.flatten(1).amax(1) == 255), labels == 3)
        assert set(labels.tolist()) == {3, 7}
    assert float(task.encode(task.test.inputs[:2]).max()) == 1.0
    assert float(task.encode(task.test.inputs[1:2]).max()) == pytest.approx(3 / 255)


@pytest.mark.usefixtures("fake_mnist")
def test_mnist_is_permuted_by_one_order_for_all_images() -> None:
    order = []
    for inputs, labels in splits(mnist_permuted()):
        low, high = (inputs[labels == label].flatten(1).long() for label in (3, 7))
        assert (low == low[0]).all()
        assert (high == high[0]).all()
        order.append((low[0] + 256 * high[0]).tolist())
    assert order[0] == order[1] == order[2]
    assert sorted(order[0]) == list(range(784))
    assert order[0][:8] == [575, 225, 51, 719, 0, 626, 590, 102]
    assert digest(torch.tensor(order[0])) == "566ef2ef2c6f2fcf"


@needs_data
def test_mnist_splits_are_disjoint_and_fixed() -> None:
    task = mnist_rows()
    images = [rows(split.inputs) for split in splits(task)]
    assert [len(part) for part in images] == [50_000, 10_000, 10_000]  # MNIST has no image twice
    assert len(set.union(*images)) == 70_000
    assert task.test.targets[:5].tolist() == [7, 2, 1, 0, 4]
    assert digest(task.train.targets) == "b289ac5c203d3fa9"
    assert digest(task.validation.targets) == "134eb5fb4cd7ec7e"
    assert digest(task.test.targets) == "2fd8de6bdb8d1178"


@needs_data
def test_mnist_pixels_are_the_rows_one_by_one() -> None:
    by_row, by_pixel, permuted = mnist_rows(), mnist_pixels(), mnist_permuted()
    for one, other, third in zip(splits(by_row), splits(by_pixel), splits(permuted), strict=True):
        assert torch.equal(one.inputs.flatten(1), other.inputs.flatten(1))
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.targets, third.targets)
        sample = slice(0, 500)
        assert torch.equal(one.inputs[sample].flatten(1).sort().values, third.inputs[sample].flatten(1).sort().values)


INNER = "B(?:TS*X(?:XT*VP)*(?:S|XT*VV)|PT*V(?:V|P(?:XT*VP)*(?:S|XT*VV)))E"
WORD = re.compile(f"B(?:T{INNER}T|P{INNER}P)E")
WORDS = [f"B{side}{inner}{side}E" for side in "TP" for inner in ("BTXSE", "BPVVE")]
ENDINGS = {word[place:] for word in WORDS for place in range(len(word) + 1)}  # these words pass by every place


@functools.cache
def may_follow(prefix: str) -> list[float]:
    legal = [any(WORD.fullmatch(prefix + symbol + ending) for ending in ENDINGS) for symbol in "BTPSXVE"]
    return [each / sum(legal) for each in legal]


def test_reber_words_and_targets_agree_with_a_slow_twin() -> None:
    task = reber()
    for inputs, targets in splits(task):
        lengths = (targets.sum(-1) > 0).sum(1).tolist()
        assert max(lengths) == inputs.shape[1]
        for codes, probabilities, length in zip(inputs.tolist(), targets.tolist(), lengths, strict=True):
            word = "".join("BTPSXVE"[code] for code in codes[:length])
            assert WORD.fullmatch(f"{word}E")
            assert probabilities[:length] == [may_follow(word[: place + 1]) for place in range(length)]
            assert not any(map(any, probabilities[length:]))


def test_reber_words_are_as_long_as_a_fair_walk_makes_them() -> None:
    targets = reber(train=10_000).train.targets
    # By the equations of the walk, a word has 12 symbols in the mean, the first of which is not predicted, and 7 forks.
    assert float((targets.sum(-1) > 0).sum(1).double().mean()) == pytest.approx(11, abs=0.1)
    assert float((targets == 0.5).any(-1).sum(1).double().mean()) == pytest.approx(7, abs=0.1)
    assert not torch.equal(reber().validation.targets[:, :20], reber().test.targets[:, :20])


def test_reber_counts_words_that_are_predicted_at_every_step() -> None:
    task = reber(train=1, held_out=200)
    targets = task.test.targets
    assert float(task.metric(targets, targets)) == 100
    swapped = targets.clone()
    swapped[3, 1, [SYMBOLS.index("B"), SYMBOLS.index("E")]] = swapped[3, 1, [SYMBOLS.index("E"), SYMBOLS.index("B")]]
    assert float(task.metric(swapped, targets)) == pytest.approx(99.5)
    tied = targets.clone()
    tied[5, 0] = 1.0
    assert float(task.metric(tied, targets)) == pytest.approx(99.5)
    tied[6, 0, 0] = math.nan
    assert float(task.metric(tied, targets)) == pytest.approx(99.0)


def test_reber_loss_is_the_entropy_of_the_grammar_at_best() -> None:
    task = reber()
    targets = task.test.targets
    assert float(task.loss(torch.zeros_like(targets), targets)) == pytest.approx(math.log(7), rel=1e-6)
    forks, steps = (targets == 0.5).any(-1).sum(), (targets.sum(-1) > 0).sum()
    best = task.loss(targets.clamp(min=1e-30).log(), targets)
    assert float(best) == pytest.approx(float(forks / steps) * math.log(2), rel=1e-5)


def music_file(monkeypatch: pytest.MonkeyPatch, *lengths: int) -> list[NDArray[np.uint8]]:
    """Put pieces of random notes in the place of every file; all splits are the same."""
    random = np.random.default_rng(0)
    pieces = [(random.random((length, 88)) < 0.1).astype(np.uint8) for length in lengths]
    cells = np.empty((1, len(pieces)), dtype=object)
    cells[0, :] = pieces
    file = io.BytesIO()
    savemat(file, {"traindata": cells, "validdata": cells, "testdata": cells})
    monkeypatch.setattr(data, "read", lambda name: file.getvalue())
    return pieces


def windows(pieces: list[NDArray[np.uint8]], steps: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Cut the slow way: frame by frame."""
    cut = []
    for piece in pieces:
        before = [np.zeros(88, np.uint8), *piece][: len(piece)]
        for start in range(0, len(piece), steps):
            cut.append((np.stack(before[start : start + steps]), piece[start : start + steps]))
    return cut


def assert_windows(split: Split, pieces: list[NDArray[np.uint8]], steps: int) -> None:
    expected = windows(pieces, steps)
    assert len(split.inputs) == len(expected)
    for inputs, targets, (before, frames) in zip(split.inputs.numpy(), split.targets.numpy(), expected, strict=True):
        assert np.array_equal(inputs[: len(frames)], before)
        assert np.array_equal(targets[: len(frames)], frames)
        assert not inputs[len(frames) :].any()
        assert (targets[len(frames) :] == -1).all()


@pytest.mark.parametrize("build", [jsb_chorales, nottingham])
def test_music_is_cut_in_windows_that_hear_the_frame_before(
    monkeypatch: pytest.MonkeyPatch, build: Callable[[int], Task]
) -> None:
    pieces = music_file(monkeypatch, 9, 4, 1, 3)
    task = build(4)
    assert [len(frames) for _, frames in windows(pieces, 4)] == [4, 4, 1, 4, 1, 3]
    for split in splits(task):
        assert_windows(split, pieces, 4)
        assert split.inputs.dtype == split.targets.dtype == torch.int8


@needs_data
@pytest.mark.parametrize(
    ("build", "file", "steps", "pieces", "frames", "shared"),
    [
        (jsb_chorales, "JSB_Chorales", 160, [229, 76, 77], [13_807, 4_602, 4_725], 0),
        (nottingham, "Nottingham", 200, [694, 173, 170], [176_561, 45_513, 44_463], 2),
    ],
)
def test_music_has_the_pieces_and_frames_of_its_file(
    build: Callable[[], Task], file: str, steps: int, pieces: list[int], frames: list[int], shared: int
) -> None:
    content = loadmat(io.BytesIO(data.read(f"polyphonic/{file}.mat")))
    cells = [list(content[part][0]) for part in ("traindata", "validdata", "testdata")]
    task = build()
    assert [len(part) for part in cells] == pieces
    assert [int((split.targets[..., 0] >= 0).sum()) for split in splits(task)] == frames
    for split, part in zip(splits(task), cells, strict=True):
        assert_windows(split, part, steps)
    distinct = [{piece.tobytes() for piece in part} for part in cells]
    assert sum(len(a & b) for a, b in zip(distinct, distinct[1:] + distinct[:1], strict=True)) == shared


def music(monkeypatch: pytest.MonkeyPatch) -> tuple[Task, Tensor]:
    music_file(monkeypatch, 9, 4, 1, 3)
    task = jsb_chorales(4)
    return task, task.train.targets[..., 0] == -1


def words(_: pytest.MonkeyPatch) -> tuple[Task, Tensor]:
    task = reber(train=6, held_out=1)
    return task, task.train.targets.sum(-1) == 0


@pytest.mark.parametrize("build", [music, words])
def test_padding_counts_nothing(
    monkeypatch: pytest.MonkeyPatch, build: Callable[[pytest.MonkeyPatch], tuple[Task, Tensor]]
) -> None:
    task, padding = build(monkeypatch)
    targets = task.train.targets
    outputs = torch.randn(targets.shape)
    loss, metric = task.loss(outputs, targets), task.metric(outputs, targets)
    for anything in (0.0, 1e30, -math.inf, math.nan):
        changed = outputs.masked_fill(padding[..., None], anything).requires_grad_()
        task.loss(changed, targets).backward()
        assert changed.grad is not None
        assert padding.any()
        assert not changed.grad[padding].any()
        assert changed.grad[~padding].isfinite().all()
        assert torch.equal(task.loss(changed, targets), loss)
        assert torch.equal(task.metric(changed, targets), metric)
    parts = [
        task.loss(o[None, ~p], t[None, ~p]) * (~p).sum() for o, t, p in zip(outputs, targets, padding, strict=True)
    ]
    torch.testing.assert_close(torch.stack(parts).sum() / (~padding).sum(), loss)


@pytest.fixture
def own_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[bytes], Task]:
    """Build the task, in windows of five characters, for a file of the user."""
    monkeypatch.setenv("PATHRNN_DATA", str(tmp_path))

    def build(content: bytes) -> Task:
        (tmp_path / "own.txt").write_bytes(content)
        return characters(file="own.txt", sha256=hashlib.sha256(content).hexdigest(), steps=5)

    return build


def test_a_text_with_any_characters_is_cut_in_order(own_text: Callable[[bytes], Task]) -> None:
    text = "Größe: 1 €, naïve café\r\n日本語 😀!" * 40
    task, alphabet, count = own_text(text.encode()), sorted(set(text)), len(text)
    assert task.outputs == task.inputs == len(alphabet)
    parts = [text[: count * 90 // 100], text[count * 90 // 100 : count * 95 // 100], text[count * 95 // 100 :]]
    for (inputs, targets), part in zip(splits(task), parts, strict=True):
        used = (len(part) - 1) // 5 * 5
        assert "".join(alphabet[code] for code in inputs.flatten().tolist()) == part[:used]
        assert "".join(alphabet[code] for code in targets.flatten().tolist()) == part[1 : used + 1]
        assert inputs.shape == targets.shape == (used // 5, 5)
    assert torch.equal(task.encode(task.test.inputs).argmax(-1), task.test.inputs.long())


def test_a_text_may_have_more_characters_than_a_byte_can_count(own_text: Callable[[bytes], Task]) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 1_000)))
    task = own_text(text.encode())
    assert task.train.inputs[:2].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert task.test.targets.max() == 995
    score = task.metric(torch.zeros(9, 5, 1_000), task.test.targets)
    assert float(score) == pytest.approx(math.log2(1_000), rel=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"\xff\xfe",
            "the text must be UTF-8, got: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
        (b"", "the text must have at least 2 distinct characters, got 0"),
        (b"aaaa", "the text must have at least 2 distinct characters, got 1"),
        (b"ab" * 49, "each split must have more than 5 characters, the steps of a window, got [88, 5, 5]"),
    ],
)
def test_unfit_texts_are_refused(own_text: Callable[[bytes], Task], content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=exactly(f"own.txt: {message}")):
        own_text(content)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (adding, {"length": 1}, "length must be at least 2, one step for each half, got 1"),
        (adding, {"train": 0}, "train of adding must be an integer of at least 1, got 0"),
        (copying, {"length": 0}, "length of copying must be an integer of at least 1, got 0"),
        (copying, {"held_out": 0.5}, "held_out of copying must be an integer of at least 1, got 0.5"),
        (reber, {"train": True}, "train of reber must be an integer of at least 1, got True"),
        (digits, {"steps": 7}, "steps of digits must be 8 or 64, got 7"),
        (digits, {"copies": 0}, "copies of digits must be an integer of at least 1, got 0"),
        (characters, {"steps": 0}, "steps of characters must be an integer of at least 1, got 0"),
        (jsb_chorales, {"steps": -1}, "steps of jsb_chorales must be an integer of at least 1, got -1"),
        (nottingham, {"steps": "8"}, "steps of nottingham must be an integer of at least 1, got '8'"),
    ],
)
def test_unfit_options_are_refused(build: Callable[..., Task], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=exactly(message)):
        build(**options)
