"""What a training step costs in each space, as ratios in one process: what ``python -m bench throughput`` prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt

from bench import registry
from bench.schema import Strict, known
from bench.workloads import BATCH, RULES, interleaved, ratio, training_step


class Layers(Strict):
    """Size of a network."""

    hidden: PositiveInt
    layers: Annotated[int, Field(ge=1, le=4)] = 1


class ThroughputSuite(Strict):
    """What to time.

    Attributes:
        title: the question.
        rounds: how often each space is timed, in turns.
        block: steps that make one time.
        threads: threads of torch.
        max_norm: clipping, in every space.
        spaces: names of the registry; the first is what the others are compared with.
        rules: names of :data:`bench.workloads.RULES`.
        networks: sizes.
    """

    title: str
    rounds: PositiveInt
    block: PositiveInt
    threads: PositiveInt
    max_norm: PositiveFloat | None = None
    spaces: Annotated[tuple[Annotated[str, known("space", registry.SPACES)], ...], Field(min_length=2)]
    rules: Annotated[
        tuple[Annotated[str, known("rule", dict.fromkeys(RULES, ""))], ...],
        Field(min_length=1),
    ]
    networks: Annotated[dict[str, Layers], Field(min_length=1)]


@dataclass(frozen=True)
class Timing:
    """One space, rule and network.

    Attributes:
        network: its name in the suite.
        rule: name of the rule.
        space: name of the space.
        samples: sequences per second, from the median time.
        ratios: times over those of the first space, round by round.
        extra: median of these, less 1.
    """

    network: str
    rule: str
    space: str
    samples: float
    ratios: tuple[float, ...]
    extra: float


def measure(suite: ThroughputSuite, networks: Iterable[str]) -> Iterator[list[Timing]]:
    """Time training steps, all spaces of a network and a rule in turns.

    Args:
        suite: what to time.
        networks: names of the networks to time.

    Yields:
        For each network and rule, the timings of all spaces.
    """
    torch.set_num_threads(suite.threads)
    for network in networks:
        size = suite.networks[network]
        for rule in suite.rules:
            functions = {
                space: training_step(space, rule, suite.max_norm, size.hidden, size.layers) for space in suite.spaces
            }
            seconds = interleaved(functions, suite.rounds, suite.block)
            yield [
                Timing(
                    network=network,
                    rule=rule,
                    space=space,
                    samples=BATCH * suite.block / median(seconds[space]),
                    ratios=tuple(a / b for a, b in zip(seconds[space], seconds[suite.spaces[0]], strict=True)),
                    extra=ratio(seconds, space, over=suite.spaces[0]) - 1,
                )
                for space in suite.spaces
            ]
