"""The index of a folder: what profiles ask for, whoever else writes to it."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from bench import suite as suites
from bench.errors import InputError
from bench.index import Index
from bench.runs import Run, labels
from tests.bench.conftest import TINY

TASKS = [f"task_{number}" for number in range(6)]


def runs_of(folder: Path) -> dict[str, list[Run]]:
    """The tuning runs of six tasks of a suite."""
    path = folder / "six.toml"
    own = "".join(f'[tasks.{name}]\nlike = "digits_rows"\nhidden = {9 + place}\n' for place, name in enumerate(TASKS))
    updates = ", ".join(f"{name} = 6" for name in TASKS)
    path.write_text(TINY.replace("updates = { digits_rows = 6, mnist_rows = 1 }", f"updates = {{ {updates} }}") + own)
    runs = suites.load(path).tuning_runs("embedded", TASKS)
    return {name: [run for run in runs if run.name == name] for name in TASKS}


def write_often(folder: Path, name: str, runs: list[Run]) -> None:
    for _ in range(20):
        Index(folder).write("embedded", set(TASKS) - {name}, runs)


def test_processes_with_other_tasks_lose_nothing_of_each_other(tmp_path: Path) -> None:
    runs = runs_of(tmp_path)
    spawn = multiprocessing.get_context("fork")
    processes = [spawn.Process(target=write_often, args=(tmp_path, name, own)) for name, own in runs.items()]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    expected = {run.key: labels(run) for own in runs.values() for run in own}
    assert Index(tmp_path).profiles() == {"embedded": expected}
    Index(tmp_path).compact()
    assert [path.name for path in tmp_path.glob("index*")] == ["index.json"]
    assert Index(tmp_path).profiles() == {"embedded": expected}


@pytest.mark.parametrize("compacted", [False, True])
def test_a_task_keeps_or_loses_what_it_asked_for(tmp_path: Path, compacted: bool) -> None:
    runs = runs_of(tmp_path)
    index, (first, second, *_) = Index(tmp_path), TASKS
    index.write("embedded", (), [*runs[first], *runs[second]])
    index.write("other", (), runs[first])
    if compacted:
        index.compact()

    def keys(profile: str) -> set[str]:
        return set(index.profiles()[profile])

    def of(*names: str) -> set[str]:
        return {run.key for name in names for run in runs[name]}

    index.write("embedded", {second}, runs[first][:1])
    assert keys("embedded") == {runs[first][0].key} | of(second)  # a task that no longer asks for some
    index.write("embedded", {first, second}, runs[first][1:2])
    assert keys("embedded") == {run.key for run in runs[first][:2]} | of(second)  # or asks for more
    index.write("embedded", (), runs[second])
    assert keys("embedded") == of(second)  # a task that the suite no longer has
    assert keys("other") == of(first)


def test_a_part_that_is_damaged_is_named(tmp_path: Path) -> None:
    index, runs = Index(tmp_path), runs_of(tmp_path)
    index.write("embedded", (), runs[TASKS[0]])
    (part,) = (tmp_path / "index").iterdir()
    part.write_bytes(part.read_bytes()[:-3])
    with pytest.raises(InputError, match="the index cannot be read"):
        index.profiles()


@pytest.mark.parametrize("content", ["[" * 100_000, '{"embedded": ' * 50_000])
def test_what_nests_too_deep_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(InputError, match="the index cannot be read"):
        Index(tmp_path).profiles()
