"""The README keeps its word: its example runs as printed, its commands are those of noxfile and CI."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_drop_in_example_runs_and_is_short() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"loss \d+\.\d{3}\n", result.stdout)


def test_the_commands_exist() -> None:
    sessions = set(re.findall(r"^def (\w+)\(session: nox\.Session\)", (ROOT / "noxfile.py").read_text(), flags=re.M))
    promised = set(re.findall(r"nox -s (\w+)", README))
    assert {"reproduce", "tests"} <= promised <= sessions
    assert "nox -s tests" in (ROOT / ".ci" / "run").read_text()


def test_files_that_the_readme_shows_exist() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / target).exists(), target


def test_the_budget_of_the_package() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "pathrnn").glob("*.py")}
    assert sum(lengths.values()) < 1200
    assert max(lengths.values()) < 300
