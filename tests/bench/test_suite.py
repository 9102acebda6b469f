"""The schema: what a suite expands to, and one line for everything that can be wrong with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import suite as suites
from bench.errors import InputError
from bench.registry import SPACES
from bench.seeds import seed
from bench.theory import TheorySuite
from tests.bench.conftest import ROOT, TINY


def test_a_suite_is_a_factorial(tiny: Path) -> None:
    suite = suites.load(tiny)
    tuning = suite.runs("embedded", "tuning", ["digits_rows"], {})
    assert [(run.space, run.lr, run.index) for run in tuning] == [
        ("weight", 0.01, 0),
        ("weight", 0.1, 0),
        ("path", 0.01, 0),
        ("path", 0.1, 0),
    ]
    best = {("digits_rows", "weight", "momentum"): 0.1, ("digits_rows", "path", "momentum"): 0.01}
    test = suite.runs("embedded", "test", ["digits_rows"], best)
    assert [(run.space, run.lr, run.index) for run in test] == [
        ("weight", 0.1, 0),
        ("path", 0.01, 0),
        ("weight", 0.1, 1),
        ("path", 0.01, 1),
    ]
    assert len({run.key for run in tuning + test}) == 8


def test_addresses_depend_on_what_decides_the_outcome_alone(tiny: Path) -> None:
    before = {run.key for run in suites.load(tiny).runs("embedded", "tuning", ["digits_rows"], {})}
    text = TINY.replace("rates = [0.01, 0.1]", "rates = [0.01, 0.1, 1.0]")
    text += '[rules.adam]\noptimizer = "Adam"\nrates = [0.001]\n'
    tiny.write_text(text.replace("test_seeds = 2", "test_seeds = 9").replace("A suite", "Another suite"))
    assert before < {run.key for run in suites.load(tiny).runs("embedded", "tuning", ["digits_rows"], {})}
    for change in (("hidden = 8", "hidden = 9"), ("momentum = 0.9", "momentum = 0.8"), ("max_norm = 1.0", "")):
        tiny.write_text(TINY.replace(*change))
        assert before.isdisjoint(run.key for run in suites.load(tiny).runs("embedded", "tuning", ["digits_rows"], {}))


def test_seeds_are_pinned() -> None:
    assert seed("accuracy", "digits_rows", "init", "test", 0) == 6814143256704466646
    assert seed("a", "b") != seed("ab")


@pytest.mark.parametrize("path", sorted((ROOT / "suites").glob("*.toml")), ids=lambda path: path.stem)
def test_every_suite_of_the_project_is_valid(path: Path) -> None:
    if path.stem == "theory":
        assert suites.read(path, TheorySuite).laws
        return
    suite = suites.load(path)
    for profile in suite.profiles:
        assert suite.runs(profile, "tuning", list(suite.profiles[profile].updates), {})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "max_norm",
            "max_nrom",
            "unknown key 'max_nrom'; allowed are title, max_norm, spaces, rules, tasks, profiles",
        ),
        ("rates =", "raets =", "rules.momentum: unknown key 'raets'; allowed are optimizer, options, rates"),
        ("[0.01, 0.1]", "[0.1, 0.01]", "rules.momentum.rates: rates must ascend without repetition, got [0.1, 0.01]"),
        ("[0.01, 0.1]", "[0.0, 0.1]", "rules.momentum.rates.0: Input should be greater than 0, got 0.0"),
        (
            'task = "digits"',
            'task = "digitz"',
            "tasks.digits_rows.task: unknown task 'digitz'; known are adding, digits, mnist_rows",
        ),
        (
            'optimizer = "SGD"',
            'optimizer = "SDG"',
            "rules.momentum.optimizer: unknown optimizer 'SDG'; known are Adam, AdamW, Muon, RMSprop, SGD",
        ),
        ('"path"]', '"pth"]', f"spaces.1: unknown space 'pth'; known are {', '.join(sorted(SPACES))}"),
        (
            "{ digits_rows",
            "{ digit_rows",
            "unknown task 'digit_rows' in updates; the suite has digits_rows, mnist_rows",
        ),
        ("test_seeds = 2", "test_seeds = 0", "profiles.embedded.test_seeds: Input should be greater than 0, got 0"),
        (
            "title =",
            "title",
            "the suite must be TOML in UTF-8: Expected '=' after a key in a key/value pair (at line 2, column 7)",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tiny: Path, old: str, new: str, message: str) -> None:
    assert old in TINY
    tiny.write_text(TINY.replace(old, new))
    with pytest.raises(InputError, match="^" + re.escape(f"{tiny}: {message}") + "$"):
        suites.load(tiny)


def test_a_missing_suite_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape("none.toml: the suite cannot be read: No such file or directory")):
        suites.load(tmp_path / "none.toml")
