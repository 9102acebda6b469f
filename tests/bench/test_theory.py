"""The theory command: it holds on the package as it is, and catches a skeleton that is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from bench import suite as suites
from bench.cli import main
from bench.findings import FINDINGS, read_findings
from bench.theorems import STATEMENTS
from bench.theory import TheorySuite
from pathrnn import basis, gauge, optim
from tests.bench.conftest import ROOT

SHIPPED = ROOT / "suites" / "theory.toml"


def few_networks(folder: Path) -> Path:
    """The shipped suite, on few networks."""
    loaded = suites.read(SHIPPED, TheorySuite)
    lines = ['title = "few"', "[laws]"]
    for name, law in loaded.laws.items():
        bound = f"at_least = {law.at_least}" if law.tolerance is None else f"tolerance = {law.tolerance}"
        lines.append(f"{name} = {{ networks = {min(law.networks, 4)}, {bound} }}")
    path = folder / "few.toml"
    path.write_text("\n".join(lines))
    return path


def theory(path: Path) -> Result:
    return CliRunner().invoke(main, ["theory", str(path), "--results", str(path.parent)])


def test_every_statement_is_in_the_suite() -> None:
    assert set(suites.read(SHIPPED, TheorySuite).laws) == set(STATEMENTS)


def test_the_statements_hold(tmp_path: Path) -> None:
    result = theory(few_networks(tmp_path))
    assert result.exit_code == 0, result.output
    assert result.stdout.count("holds") == len(STATEMENTS)
    for statement in STATEMENTS.values():
        assert str(statement.__doc__).splitlines()[0].removesuffix(".") in result.stdout
    findings = read_findings(tmp_path / FINDINGS, "")
    assert list(findings["law"]) == list(suites.read(SHIPPED, TheorySuite).laws)
    assert findings["holds"].all()
    assert '"torch"' in findings["environment"].iloc[0]


def all_free(original: Callable[..., basis.Skeleton]) -> Callable[..., basis.Skeleton]:
    """A skeleton that takes in-skeleton edges for free where they are out-skeleton edges too."""

    def broken(*args: Any) -> basis.Skeleton:
        skeleton = original(*args)
        return skeleton._replace(free=[torch.ones_like(free) for free in skeleton.free])

    return broken


def no_subtree(original: Callable[..., list[torch.Tensor]]) -> Callable[..., list[torch.Tensor]]:
    """Path gradients that forget the edges which leave a unit's skeleton path in the layers after it."""

    def broken(tensors: Any, grads: Any, wiring: Any, skeleton: basis.Skeleton) -> list[torch.Tensor]:
        return original(tensors, grads, wiring, skeleton._replace(free=[torch.ones_like(f) for f in skeleton.free]))

    return broken


def twice(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A gauge that weighs what enters a unit once and what leaves it twice."""
    return lambda energies, wiring, layer: 2 * original(energies, wiring, layer)


@pytest.mark.parametrize(
    ("module", "name", "plant", "violated"),
    [
        (basis, "from_choice", all_free, "Weight allocation inverts path values"),
        (basis, "skeleton_flows", no_subtree, "Path gradients solve the chain rule, J^T gamma = g"),
        (optim, "skeleton_flows", no_subtree, "SGD on path values has the closed form for equal widths"),
        (gauge, "outgoing", twice, "The balanced gauge has the least norm"),
    ],
)
def test_a_planted_bug_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, plant: Callable[..., Any], violated: str
) -> None:
    monkeypatch.setattr(module, name, plant(getattr(module, name)))
    result = theory(few_networks(tmp_path))
    assert result.exit_code == 1
    (row,) = [line for line in result.stdout.splitlines() if violated in line]
    assert "violated" in row
    assert "statements violated" in result.stderr


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("ranks = { networks = 1, tolerance = 0.0 }", "unknown law 'ranks'; known are"),
        ("rank = { networks = 0, tolerance = 0.0 }", "laws.rank.networks: Input should be greater than 0, got 0"),
        ("rank = { networks = 1 }", "laws.rank: a law needs either tolerance or at_least"),
    ],
)
def test_a_bad_suite_is_refused(tmp_path: Path, law: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f'title = "bad"\n[laws]\n{law}\n')
    result = theory(path)
    assert result.exit_code == 2
    assert message in result.stderr
