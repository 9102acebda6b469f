"""Try the theorems and laws of path space on random networks: what ``python -m bench theory`` prints."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from bench.errors import CheckFailedError
from bench.networks import Case, case
from bench.schema import Strict, known
from bench.seeds import seed
from bench.theorems import STATEMENTS


class Law(Strict):
    """On how many networks to try a statement, and how much it may err: or, where it claims a difference, must."""

    networks: PositiveInt
    tolerance: NonNegativeFloat | None = None
    at_least: PositiveFloat | None = None

    @model_validator(mode="after")
    def _require_one_bound(self) -> Law:
        if (self.tolerance is None) == (self.at_least is None):
            raise ValueError("a law needs either tolerance or at_least")
        return self


class TheorySuite(Strict):
    """Which statements to try."""

    title: str
    laws: dict[Annotated[str, known("law", dict.fromkeys(STATEMENTS, ""))], Law]


@dataclass(frozen=True)
class Finding:
    """What came out for one statement.

    Attributes:
        law: name of the statement.
        text: the statement.
        networks: how many networks it was tried on.
        worst: the largest error, or the smallest difference where one is claimed.
        bound: what that was held against.
        holds: the verdict.
    """

    law: str
    text: str
    networks: int
    worst: float
    bound: float
    holds: bool


def check(name: str, law: Law) -> Finding:
    """Try a statement on as many networks as the suite says, with one torch thread.

    Args:
        name: name of the statement.
        law: number of networks and bound.

    Returns:
        The finding. An error raised inside the method counts as infinite: what cannot be computed does not hold.
    """
    torch.set_num_threads(1)  # the networks are small: two threads take four times as long
    statement = STATEMENTS[name]
    errors = []
    for index in range(law.networks):
        draw = random.Random(seed("theory", name, index))
        try:
            errors.append(statement(_draw_case(draw), draw))
        except (RuntimeError, ValueError):
            errors.append(math.inf if law.at_least is None else 0.0)
    text = str(statement.__doc__).splitlines()[0].removesuffix(".")
    if law.at_least is not None:
        return Finding(name, text, law.networks, min(errors), law.at_least, min(errors) >= law.at_least)
    bound = law.tolerance or 0.0
    return Finding(name, text, law.networks, max(errors), bound, max(errors) <= bound)


def require_all(verdicts: Iterable[bool]) -> None:
    """Fail a check.

    Args:
        verdicts: of all statements.

    Raises:
        CheckFailedError: one of them is violated.
    """
    found = list(verdicts)
    if not all(found):
        raise CheckFailedError(f"{found.count(False)} of {len(found)} statements violated")


def _draw_case(draw: random.Random) -> Case:
    widths = [draw.randint(1, 5) for _ in range(draw.randint(3, 5))]
    return case(widths, draw.random() < 0.5, draw.getrandbits(32), draw.randint(2, 5), recurrent=draw.random() < 0.8)
