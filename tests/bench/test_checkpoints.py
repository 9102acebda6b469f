"""Runs in progress that were cut off go on from a checkpoint, and come to the same bits."""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import environment, registry
from bench import suite as suites
from bench.checkpoints import Checkpoint, Checkpoints
from bench.errors import CheckFailedError
from bench.runs import Run
from bench.stack import train_stack
from bench.train import train
from tests.bench.conftest import TINY, Bench
from tests.bench.test_faults import outcomes, run, workers_of
from tests.bench.test_stack import OUTLINES, SUITE, outcome, replicas

GATED = [each for each in SUITE.outlines("embedded", "digits_rows") if each.space.model != "relu"]
DIVERGING = "accuracy digits_rows weight momentum"


class CutOff(Checkpoint):
    """A checkpoint after the 17th update, past an evaluation and within a sweep, with which the process is cut off."""

    updates = 0

    @property
    def due(self) -> bool:
        self.updates += 1
        return self.updates == 17

    def save(self, state: dict[str, Any], device: Any) -> None:
        super().save(state, device)
        raise RuntimeError("cut off")


class CuttingOff(Checkpoints):
    """Checkpoints with which processes are cut off."""

    def of(self, runs: Sequence[Run]) -> Checkpoint:
        return CutOff(self.path(runs), runs, self.every)


class CutEarly(Checkpoints):
    """Checkpoints after the third update."""

    def of(self, runs: Sequence[Run]) -> Checkpoint:
        checkpoint = CutOff(self.path(runs), runs, self.every)
        checkpoint.updates = 14
        return checkpoint

    def cut(self, runs: Sequence[Run]) -> None:
        torch.set_num_threads(1)
        environment.environment.cache_clear()  # which knows how many threads there are
        with pytest.raises(CheckFailedError, match="cut off"):
            train_stack(runs, checkpoints=self)


def both(folder: Path) -> tuple[Checkpoints, Checkpoints]:
    return CuttingOff(folder, 0.0), Checkpoints(folder, math.inf)


@pytest.mark.parametrize("name", OUTLINES)
def test_a_stack_goes_on_bit_for_bit(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs = replicas(OUTLINES[name], (0.003, 0.1), updates=30, evaluations=3, role="test", test_at="best")
    cutting, going_on = both(tmp_path)
    with pytest.raises(CheckFailedError, match="cut off"):
        train_stack(runs, checkpoints=cutting)
    assert [sorted(each.key for each in group) for group in going_on.groups(runs, ())] == [sorted(r.key for r in runs)]
    with caplog.at_level(logging.WARNING):
        records = train_stack(runs, checkpoints=going_on)
    assert f"4 runs of {runs[0].name}: going on at update 17" in caplog.text
    assert [outcome(own) for own in records] == [outcome(own) for own in train_stack(runs)]
    going_on.forget(runs)
    assert not tmp_path.joinpath("checkpoints").exists()


@pytest.mark.parametrize("test_at", ["end", "best"])
@pytest.mark.parametrize("alone", [*GATED, OUTLINES[DIVERGING]], ids=lambda each: f"{each.space_name} {each.rule_name}")
def test_a_run_alone_goes_on_bit_for_bit(alone: Run, test_at: str, tmp_path: Path) -> None:
    """At the second rate, the best validation point is before the checkpoint."""
    cutting, going_on = both(tmp_path)
    for own in replicas(alone, (0.01, 1.0), seeds=1, updates=30, evaluations=30, role="test", test_at=test_at):
        with pytest.raises(CheckFailedError, match="cut off"):
            train(own, checkpoint=cutting.of([own]))
        assert outcome(train(own, checkpoint=going_on.of([own]))) == outcome(train(own))


def test_replicas_that_have_diverged_stay_so(tmp_path: Path) -> None:
    runs = replicas(OUTLINES[DIVERGING], (0.01, 1e30), updates=30, evaluations=3, max_norm=None)
    cutting, going_on = both(tmp_path)
    with pytest.raises(CheckFailedError, match="cut off"):
        train_stack(runs, checkpoints=cutting)
    records = train_stack(runs, checkpoints=going_on)
    assert [own["status"] for own in records] == ["finished", "diverged"] * 2
    assert [outcome(own) for own in records] == [outcome(own) for own in train_stack(runs)]


@pytest.mark.parametrize("damage", ["flipped", "cut", "elsewhere", "empty"])
def test_a_checkpoint_that_is_damaged_or_of_another_machine_is_left(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = replicas(OUTLINES[DIVERGING], (0.01,), updates=20)
    cutting, going_on = both(tmp_path)
    with pytest.raises(CheckFailedError, match="cut off"):
        train_stack(runs, checkpoints=cutting)
    path = going_on.path(runs)
    content = path.read_bytes()
    middle = len(content) // 2
    changed = {
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "cut": content[:-1],
        "elsewhere": content.replace(b'"threads": ', b'"threads": 1', 1),
        "empty": b"",
    }
    path.write_bytes(changed[damage])
    with caplog.at_level(logging.WARNING):
        records = train_stack(runs, checkpoints=going_on)
    assert "begin anew" in caplog.text
    assert [outcome(own) for own in records] == [outcome(own) for own in train_stack(runs)]


class Keeping(torch.optim.SGD):
    """A rule that keeps what nobody should read back, or refuses what it kept."""

    foreign = True

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "foreign": Path("a") if self.foreign else 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        raise KeyError("my_buffer")


@pytest.mark.parametrize("foreign", [True, False])
def test_a_rule_whose_state_cannot_be_kept_is_trained_all_the_same(
    foreign: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.OPTIMIZERS, "SGD", f"{__name__}:Keeping")
    monkeypatch.setattr(Keeping, "foreign", foreign)
    (own,) = replicas(OUTLINES[DIVERGING], (0.01,), seeds=1, updates=20)
    cutting, going_on = both(tmp_path)
    with caplog.at_level(logging.WARNING):
        with pytest.raises(CheckFailedError, match="cut off"):
            train(own, checkpoint=cutting.of([own]))
        record = train(own, checkpoint=going_on.of([own]))
    assert outcome(record) == outcome(train(own))
    told = "the state_dict of SGD must hold nothing but tensors and numbers" if foreign else "its runs begin anew"
    assert told in caplog.text
    assert going_on.path([own]).exists() is not foreign


def test_a_stack_of_which_some_records_were_written_goes_on(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    """A process that died between two records of a stack; and with smaller stacks, it begins anew."""
    tiny.write_text(TINY.replace(", mnist_rows = 1", "").replace('["weight", "path"]', '["path"]'))
    assert bench("run", tiny, "--results", tmp_path).returncode == 0
    expected, folder = outcomes(tmp_path / "tiny"), tmp_path / "tiny"
    runs = suites.load(tiny).tuning_runs("embedded", ["digits_rows"])
    for options, going_on in (((), True), (("--stack", "1"), False)):
        records = [folder / "records" / f"{own.key}.json" for own in runs]
        records[0].unlink()
        kept = records[1].read_bytes()
        CutEarly(folder / "checkpoints", 0.0).cut(runs)
        result = bench("run", tiny, "--results", tmp_path, *options)
        assert result.returncode == 0, result.stderr
        assert ("2 runs of digits_rows: going on at update 3" in result.stderr) is going_on
        assert not (folder / "checkpoints").exists()
        assert records[1].read_bytes() == kept
        assert outcomes(folder).equals(expected)


def test_a_long_run_that_is_killed_goes_on(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    """First its worker, then the main process too: the real command, which then trains what is left of it alone."""
    text = TINY.replace("digits_rows = 6, mnist_rows = 1", "digits_rows = 3000").replace(
        "evaluations = 2", "evaluations = 5"
    )
    tiny.write_text(text.replace('["weight", "path"]', '["path"]'))
    options = ("--workers", "1", "--checkpoint", "0.005")
    process = run(tiny, tmp_path, *options)
    folder = tmp_path / "tiny" / "checkpoints"

    def wait_for_checkpoint(after: float) -> float:
        deadline = time.monotonic() + 60
        while not (times := [path.stat().st_mtime for path in folder.glob("[!.]*.pt")]) or max(times) <= after:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return max(times)

    first = wait_for_checkpoint(0.0)
    time.sleep(0.5)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    wait_for_checkpoint(first + 1.0)
    os.killpg(process.pid, signal.SIGKILL)
    _, errors = process.communicate()
    assert "2 runs of digits_rows: going on at update " in errors
    result = bench("run", tiny, "--results", tmp_path, *options)
    assert result.returncode == 0, result.stderr
    assert "2 runs of digits_rows: going on at update " in result.stderr
    assert not folder.exists()
    assert bench("run", tiny, "--results", tmp_path / "undisturbed").returncode == 0
    expected = outcomes(tmp_path / "undisturbed" / "tiny")
    assert outcomes(tmp_path / "tiny").equals(expected)
