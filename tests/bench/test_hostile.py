"""Suite files made to do harm: refused by the real command line with one line, in little time and little memory."""

from __future__ import annotations

import ast
import os
import random
import time
from pathlib import Path

import pytest

from bench import suite as suites
from bench.errors import InputError
from bench.schema import MOST_BYTES, MOST_DEPTH, merged
from tests.bench.conftest import ROOT, TINY, Refuse, measured


def filled(head: str, unit: str, tail: str = "") -> str:
    """As many units as a suite file may hold."""
    return head + unit * ((MOST_BYTES - len(head) - len(tail)) // len(unit)) + tail


def counted(head: str, unit: str, count: int) -> str:
    return head + "".join(unit.format(number) for number in range(count))


def as_table(text: str) -> str:
    return text.replace('spaces = ["weight", "path"]\n', "") + "[spaces.weight]\n"


GARBAGE = {
    "random bytes": random.Random(0).randbytes(10_000_000),
    "nothing but zeros": bytes(10_000_000),
    "an array": TINY + "a = [" + "1," * 5_000_000 + "]",
    "a text": TINY.replace("A suite of seconds", "x" * 10_000_000),
    "tables": counted(TINY, "[tasks.a{0}]\n", 100_000),
    "a number": TINY.replace("hidden = 8", "hidden = " + "9" * 10_000_000),
    "nested arrays": "a = " + "[" * 100_000,
    "nested tables": "a = " + "{a=" * 100_000,
    "nested keys": "a" + ".a" * 100_000 + " = 1\n",
    "nested headers": "[a" + ".a" * 100_000 + "]\n",
}
"""More than a suite may hold."""

NESTED = {
    "arrays": "a = " + "[" * 45_000 + "]" * 45_000,
    "tables": "a = " + "{a=" * 20_000 + "1" + "}" * 20_000,
    "keys": "a" + ".a" * 45_000 + " = 1\n",
    "keys apart": "a" + " \t. a" * 19_000 + " = 1\n",
    "keys in quotes": '"a"' + ".''" * 30_000 + " = 1\n",
    "keys behind quotes": 'a = {a = """x"""", b' + ".b" * 45_000 + " = 1}\n",
    "headers": "[a" + ".a" * 45_000 + "]\n",
    "arrays of tables": "[[a" + ".a" * 45_000 + "]]\n",
}
"""Tables and arrays inside one another, in files that are small enough."""

EXTENTS = {
    "a text": (TINY.replace("hidden = 8", 'hidden = "' + "x" * 90_000 + '"'), "hidden: Input should be a valid int"),
    "grids": (
        counted(TINY, f'[tasks.t{{0}}]\nlike = "digits_rows"\ngrid = {{{{ hidden = {list(range(1, 1_000))} }}}}\n', 18),
        "tasks: a suite must have 1000 at most",
    ),
    "a grid": (
        TINY
        + f'[tasks.g]\nlike = "digits_rows"\ngrid = {{ hidden = {[*range(1, 1_001)]}, batch = {[*range(1, 1_001)]} }}',
        "tasks.g.grid: like must name a task",
    ),
    "spaces": (filled('spaces = ["a",', '"b",', "]\n"), "spaces: duplicate arm 'b'"),
    "arms": (
        counted(as_table(TINY), '[rules.{0}]\noptimizer = "SGD"\nrates = [1, 2]\n[spaces.{0}]\nspace = "path"\n', 40),
        "rules: there must be 1000 arms at most",
    ),
    "test seeds": (
        TINY.replace("test_seeds = 2", "test_seeds = 1000000000"),
        "embedded: there must be 100,000 runs at",
    ),
    "a number": (TINY.replace("hidden = 8", "hidden = 0x" + "f" * 90_000), "a whole number must be below 2**63"),
}
"""More of something than anybody has use for; and what is said of it."""

MORE = {
    "an array": (filled("max_norm = [", "1,", "]\n"), "max_norm: Input should be a valid number"),
    "tasks": (counted(TINY, "[tasks.{0}]\n", 5_000), "tasks: a suite must have 1000 at most"),
    "options": (
        TINY.replace("{ momentum = 0.9 }", "{ " + ", ".join(f"a{number} = 1" for number in range(7_000)) + " }"),
        "rules.momentum.options: Dictionary should have at most 100 items",
    ),
    "a key": ("x" * 90_000 + " = 1\n" + TINY, "unknown key 'xxx"),
    "rates": (TINY.replace("[0.01, 0.1]", "{ low = 0.001, high = 1, count = 1000000 }"), "and count, 2 to 100, got"),
    "tuning seeds": (
        TINY.replace("tuning_seeds = 1", "tuning_seeds = 50000"),
        "embedded: there must be 100,000 runs at",
    ),
    "length": (
        TINY + '[tasks.a]\ntask = "adding"\noptions = { length = 1000000000000 }\n',
        "tasks.a.options.length: a whole number must be from -1000000000 to 1000000000, got 1000000000000",
    ),
    "evaluations": (TINY.replace("evaluations = 2", "evaluations = 10001"), "should be less than or equal to 10000"),
    "updates": (
        TINY.replace("digits_rows = 6", f"digits_rows = {10**10}"),
        "should be less than or equal to 1000000000",
    ),
    "units": (TINY.replace("hidden = 8", "hidden = 1000000000"), "should be less than or equal to 16384"),
    "batch": (TINY.replace("hidden = 8", "batch = 1000000000"), "should be less than or equal to 1000000"),
}

NAMES = ["../a", "a/b", "..", ".a", "", "x" * 101, "[/]", "a\\\\b", "\\u001b[31mred", "\\u0000", "a\\nb", "\\u202ea"]
"""As they stand in TOML: what leaves a folder, what no folder can be called, what a terminal or rich obeys."""

PLACES = {
    "task": '[tasks."{0}"]\nlike = "digits_rows"\nhidden = 9\n',
    "space": '[spaces."{0}"]\nspace = "path"\n',
    "rule": '[rules."{0}"]\noptimizer = "Adam"\nrates = [1, 2]\n',
    "profile": '[profiles."{0}"]\ntuning_seeds = 1\ntest_seeds = 1\nupdates = {{ digits_rows = 6 }}\n',
    "grid": '[tasks.g]\nlike = "digits_rows"\ngrid = {{ init = ["default", "{0}/."] }}\n',
}

FILES = [
    "...toml",
    "..toml",
    ".toml",
    "..",
    "x" * 101 + ".toml",
    "x" * 300 + ".toml",
    "a\x1b]0;b\x07.toml",
    "a\nb.toml",
]


def message(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        suites.load(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2_000
    return str(caught.value)


@pytest.mark.parametrize(("command", "kind"), [("plan", "random bytes"), ("run", "tables"), ("plan", "nested keys")])
def test_a_suite_of_garbage(tmp_path: Path, refuse: Refuse, command: str, kind: str) -> None:
    content = GARBAGE[kind]
    path = tmp_path / "a.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = refuse("-m", "bench", command, path, "--results", tmp_path / "results")
    assert (
        f"{path}: the suite must have 100,000 bytes at most; put a part of it into a file that it extends" in result.err
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.toml", "measured"]


@pytest.mark.parametrize("kind", GARBAGE)
def test_more_garbage(tmp_path: Path, kind: str) -> None:
    content = GARBAGE[kind]
    path = tmp_path / "a.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "the suite must have 100,000 bytes at most" in message(path)


@pytest.mark.parametrize("kind", ["arrays", "keys", "keys behind quotes"])
def test_deep_nesting(tmp_path: Path, refuse: Refuse, kind: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(NESTED[kind])
    result = refuse("-m", "bench", "plan", path)
    assert f"{path}: the suite must have at most {MOST_DEPTH} tables and arrays inside one another\n" in result.err


@pytest.mark.parametrize("kind", NESTED)
def test_more_deep_nesting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(NESTED[kind])
    start = time.process_time()
    assert "tables and arrays inside one another" in message(path)
    assert time.process_time() - start < 1


def test_what_only_looks_like_deep_nesting_is_read(tmp_path: Path) -> None:
    dots = ".".join("a" * 30)
    path = tmp_path / "a.toml"
    path.write_text(f'a = "{dots}" # {dots}\nb = \'{dots}\'\nc = """"{dots}\\""" {dots}"""\nd = \'\'\'{dots}\'\'\'\n')
    assert merged(path) == {"a": dots, "b": dots, "c": f'"{dots}""" {dots}', "d": dots}
    path.write_text(".".join("a" * (MOST_DEPTH - 1)) + " = 0.5\n")
    assert merged(path)


@pytest.mark.parametrize("kind", EXTENTS)
def test_too_much_of_something(tmp_path: Path, refuse: Refuse, kind: str) -> None:
    text, expected = EXTENTS[kind]
    path = tmp_path / "a.toml"
    path.write_text(text)
    assert expected in refuse("-m", "bench", "plan", path, "--results", tmp_path).err


@pytest.mark.parametrize("kind", MORE)
def test_more_that_is_too_much(tmp_path: Path, kind: str) -> None:
    text, expected = MORE[kind]
    path = tmp_path / "a.toml"
    path.write_text(text)
    assert expected in message(path)


def test_a_chain_of_ten_full_files(tmp_path: Path, refuse: Refuse) -> None:
    for number in range(10):
        base = f'extends = "{number - 1}.toml"\n' if number else TINY
        text = counted(base + "[arms.path.momentum.options]\n", f"k{number}_{{0}} = 1\n", 8_000)
        (tmp_path / f"{number}.toml").write_text(text[:MOST_BYTES].rpartition("\n")[0])
    result = refuse("-m", "bench", "plan", tmp_path / "9.toml")
    assert "arms.path.momentum.options: Dictionary should have at most 100 items" in result.err


def special(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "folder").mkdir()


def test_files_that_are_none(tmp_path: Path, refuse: Refuse) -> None:
    special(tmp_path)
    for name in ("pipe", "device"):
        result = refuse("-m", "bench", "plan", tmp_path / name)
        assert result.err == f"Error: {tmp_path / name}: the suite cannot be read: it is a device or a pipe\n"
    assert "the suite cannot be read: Is a directory" in message(tmp_path / "folder")


def test_extending_what_is_no_file_beside(tmp_path: Path, refuse: Refuse) -> None:
    special(tmp_path)
    (tmp_path / "outside.toml").write_text(TINY)
    path = tmp_path / "folder" / "a.toml"
    names = ["/dev/zero", "/dev/stdin", "/etc/passwd", "../pipe", "../outside.toml", "a/../a.toml", "x" * 5_000]
    (tmp_path / "folder" / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "folder" / "pipe")
    for name in [*names, str(tmp_path / "outside.toml"), ".", "..", "pipe", "zero", "\\u001b]0;a\\u0007"]:
        path.write_text(f'extends = "{name}"\n' + TINY)
        assert "extends: must be the name of a TOML file beside this one, got '" in message(path)
    path.write_text('extends = "pipe"\n' + TINY)
    refuse("-m", "bench", "plan", path)


@pytest.mark.parametrize("place", PLACES)
def test_names(tmp_path: Path, place: str) -> None:
    for number, name in enumerate(NAMES):
        path = tmp_path / f"{number}.toml"
        path.write_text(as_table(TINY) + PLACES[place].format(name))
        text = message(path)
        assert "a name must have 1 to 100 printable characters" in text or "must be one line of printable char" in text


def test_what_a_terminal_would_obey(tmp_path: Path, refuse: Refuse) -> None:
    path = tmp_path / "a.toml"
    for old in ('title = "', 'task = "', '[profiles."'):
        path.write_text(
            TINY.replace("[profiles.embedded]", '[profiles."embedded"]').replace(old, f"{old}\\u001b]0;a\\u0007")
        )
        assert "must be one line of printable characters, got '\\x1b]0;a" in message(path)
    path.write_text(TINY.replace('title = "', 'title = "[/]'))
    result = measured(tmp_path, "-m", "bench", "plan", path, "--results", tmp_path)
    assert (result.status, "[/]A suite of seconds" in result.out) == (0, True)
    refuse("-m", "bench", "plan", path, "--profile", "\x1b]0;a\x07")


def test_a_name_of_a_suite_stays_in_the_results_folder(tmp_path: Path, refuse: Refuse) -> None:
    folder = tmp_path / "suites"
    folder.mkdir()
    for name in FILES:
        path = folder / name
        if name != ".." and len(name) < 250:
            path.write_text(TINY)
        assert "the file of a suite must have another name" in message(path)
    for name in ("...toml", "a\x1b]0;b\x07.toml"):
        refuse("-m", "bench", "run", folder / name, "--results", tmp_path / "results")
    assert not (tmp_path / "results").exists()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "a.toml").write_text(TINY)
    assert measured(tmp_path, "-m", "bench", "plan", tmp_path / "a.toml", "--results", tmp_path / "link").status == 0


UNSAFE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
"""Modules that run what a file tells them to, or may."""


def unsafe(source: str) -> list[str]:
    """What a source has that could run the content of a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name.split(".")[0] in UNSAFE]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNSAFE:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
            last = name.split(".")[-1]
            if name in {"eval", "exec", "compile", "__import__"} or last in {"read_pickle", "to_pickle"}:
                found.append(name)
            if name in {"torch.load", "load"} and given.get("weights_only") != "True":
                found.append(name)
            if given.get("allow_pickle", "False") != "False":
                found.append(name)
    return found


def test_no_source_runs_what_a_file_says() -> None:
    sources = [path for folder in ("bench", "pathrnn") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 70
    assert {path: unsafe(path.read_text()) for path in sources if unsafe(path.read_text())} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml.loader",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "from torch import load; load(path)",
        "numpy.load(path, allow_pickle=True)",
        "pandas.read_pickle(path)",
        "eval(text)",
        "exec(text)",
    ],
)
def test_a_source_that_does_is_found(source: str) -> None:
    assert unsafe(source)
    assert not unsafe("torch.load(path, weights_only=True); numpy.load(path); json.load(file); re.compile(text)")
