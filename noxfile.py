"""Every chore of the project, each with its own environment: ``nox --list``."""

from __future__ import annotations

import shutil

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "venv"  # pip, because constraints.txt may name packages that only pip can find
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests"]


@nox.session
def tests(session: nox.Session) -> None:
    """Run linters, type checker, all tests and doctests; what CI runs. Arguments go to pytest."""
    _install(session, "dev")
    _check(session)
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Open a report in Chromium, which apt installs where it is missing. Arguments go to pytest."""
    chromium = shutil.which("chromium") or _chromium_by_apt(session)
    if chromium is None:
        session.skip("no chromium on the path, and apt-get could not install it")
    _install(session, "dev")
    session.run("pytest", "tests/browser", *session.posargs, env={"PATHRNN_CHROMIUM": chromium})


@nox.session
def lint(session: nox.Session) -> None:
    """Run linters and type checker alone."""
    _install(session, "dev")
    _check(session)


@nox.session
def microbench(session: nox.Session) -> None:
    """Print the cost of a step with pytest-benchmark; nothing else should run meanwhile."""
    _install(session, "dev")
    session.run("pytest", "tests/benchmarks", "--benchmark-only", *session.posargs)


@nox.session
def asv(session: nox.Session) -> None:
    """Measure this commit with asv, in an environment that asv makes. Arguments, like a range of commits, go to it."""
    _install(session, "dev")
    session.run("asv", "machine", "--yes")
    session.run("asv", "run", *(session.posargs or ["HEAD^!"]))


@nox.session
def theory(session: nox.Session) -> None:
    """Try every theorem and law on random networks, print the table. Arguments go to ``bench theory``."""
    _install(session, "bench")
    session.run("python", "-m", "bench", "theory", *session.posargs)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Check the theory, compare the arms, judge the claims. Arguments, like ``--workers 1``, go to ``bench run``."""
    _install(session, "bench")
    session.run("python", "-m", "bench", "theory")
    session.run("python", "-m", "bench", "throughput", "--network", "rows")
    for suite in ("accuracy", "convergence", "invariance", "ablation"):
        session.run("python", "-m", "bench", "run", f"suites/{suite}.toml", *session.posargs)
    session.run("python", "-m", "bench", "report", "results/local", "--profile", "embedded")


@nox.session
def throughput(session: nox.Session) -> None:
    """Time training steps in each space, then stacks; nothing else should run meanwhile. Arguments go to the first."""
    _install(session, "bench")
    session.run("python", "-m", "bench", "throughput", *session.posargs)
    session.run("python", "-m", "bench", "stacks")


def _chromium_by_apt(session: nox.Session) -> str | None:
    if shutil.which("apt-get"):
        anyway = range(256)
        session.run("apt-get", "update", external=True, success_codes=anyway, silent=True)
        install = ("apt-get", "install", "--yes", "--no-install-recommends", "chromium")
        session.run(*install, external=True, success_codes=anyway, silent=True)
    return shutil.which("chromium")


def _install(session: nox.Session, extra: str) -> None:
    session.install("-c", "constraints.txt", "-e", f".[{extra}]")


def _check(session: nox.Session) -> None:
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("mypy")
