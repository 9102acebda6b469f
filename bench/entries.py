"""Entries of a suite file: spaces, rules, tasks and profiles."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat, PositiveInt
from pydantic import model_validator as validator

from bench import registry
from bench.schema import Strict, known

MOST_RATES = 100
MOST_TASKS = 1_000
MOST_OPTION = 1_000_000_000
"""Where whole numbers among options end: no length, size or count of a task is larger."""


def _option(value: Any) -> Any:
    single = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(each, (bool, int, float, str)) for each in single):
        raise ValueError(f"must be a number, a string, true, false, or an array of these, got {value!r}")
    if any(isinstance(each, int) and abs(each) > MOST_OPTION for each in single):
        raise ValueError(f"a whole number must be from -{MOST_OPTION} to {MOST_OPTION}, got {value!r}")
    return value


def _grid(rates: Any) -> Any:
    """Turn ``{ low, high, count }`` into rates that are evenly spaced on a log scale, of three digits."""
    if not isinstance(rates, dict):
        return rates
    if set(rates) == {"low", "high", "count"}:
        low, high, count = (rates[key] for key in ("low", "high", "count"))
        numbers = all(type(each) in {int, float} for each in (low, high)) and type(count) is int
        if numbers and 0 < low < high and 1 < count <= MOST_RATES:
            return tuple(float(f"{low * (high / low) ** (place / (count - 1)):.3g}") for place in range(count))
    raise ValueError(f"a grid needs low and high, 0 < low < high, and count, 2 to {MOST_RATES}, got {rates}")


def _ascending(rates: tuple[float, ...]) -> tuple[float, ...]:
    if not rates:
        raise ValueError("a grid needs at least one rate, got []")
    if sorted(set(rates)) != list(rates) or any(high < 1.1 * low for low, high in pairwise(rates)):
        raise ValueError(f"rates must ascend by a tenth at least, got {list(rates)}")
    return rates


def _expand_first(value: Any) -> None:
    """Refuse what :func:`bench.grids.expanded` could not write out."""
    if value is not None:
        raise ValueError(
            "like must name a task that has no like or grid itself; a grid must have an array of different values per "
            f"key, {MOST_TASKS} combinations at most, got {value!r}"
        )


Options = Annotated[dict[str, Annotated[Any, AfterValidator(_option)]], Field(max_length=100)]
Rates = Annotated[
    tuple[Annotated[float, Field(ge=1e-12, le=1e6)], ...],
    BeforeValidator(_grid),
    Field(max_length=MOST_RATES),
    AfterValidator(_ascending),
]
Finite = Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]


class SpaceEntry(Strict):
    """What the rules see of which network.

    Attributes:
        space: name in the registry; the entry's own name, if it is not given.
        model: name in the registry; others than ``relu`` are for weight space.
        options: arguments of the space; ``"none"`` stands for None.
        clip: whether the suite's ``max_norm`` applies.
        rules: the rules to try; all, if it is not given.
        tuned_on: take the rates that were best for another entry, and try none.
    """

    space: Annotated[str, known("space", registry.SPACES)]
    model: Annotated[str, known("model", registry.MODELS)] = "relu"
    options: Options = Field(default={})
    clip: bool = True
    rules: Annotated[tuple[str, ...], Field(min_length=1, max_length=1_000)] | None = None
    tuned_on: str | None = None

    @validator(mode="after")
    def _baselines_have_weights_alone(self) -> SpaceEntry:
        if self.model != "relu" and self.space != "weight":
            raise ValueError(f"model {self.model!r} must have the space 'weight', got {self.space!r}")
        return self


def _without_rate(options: dict[str, Any]) -> dict[str, Any]:
    if taken := {"lr", "params"} & set(options):
        raise ValueError(f"{taken.pop()!r} is no option: rates has the learning rates, the network the parameters")
    return options


RuleOptions = Annotated[Options, AfterValidator(_without_rate)]


class Rule(Strict):
    """A torch optimizer with its settings, and the learning rates to try."""

    optimizer: Annotated[str, known("optimizer", registry.OPTIMIZERS)]
    options: RuleOptions = Field(default={})
    rates: Rates


class Override(Strict):
    """What one arm has of its own: settings beside those of its rule, and as many rates in place of the rule's."""

    options: RuleOptions = Field(default={})
    rates: Rates | None = None


class Published(Strict):
    """A number from the literature, to stand beside ours."""

    method: str
    value: Annotated[float, Field(allow_inf_nan=False)]
    source: str
    protocol: str = ""


class TaskEntry(Strict):
    """A task with the network that learns it.

    Entries of one kind of task share seeds, and so initial weights and batches.

    Attributes:
        task: name in the registry.
        options: arguments of the task.
        hidden: units per layer, 16,384 at most.
        layers: 1 to 4.
        bias: whether layers and readout have biases.
        init: name in the registry; networks of other units than ReLU start as torch initialises them.
        init_options: arguments of the init.
        rescale: a standard deviation sigma: the start is rescaled by ``exp(sigma N(0, 1))`` per hidden unit, which
            leaves its function as it is.
        batch: sequences per update, a million at most.
        tuned_on: take the rates that were best on another entry, and try none.
        published: numbers from the literature.
        like: take what is not given from another entry.
        grid: arrays of values for keys; every combination is an entry of its own, ``name_value``.
    """

    task: Annotated[str, known("task", registry.TASKS)]
    options: Options = Field(default={})
    hidden: Annotated[int, Field(gt=0, le=16_384)] = 64
    layers: Annotated[int, Field(ge=1, le=4)] = 1
    bias: bool = True
    init: Annotated[str, known("init", registry.INITS)] = "default"
    init_options: Options = Field(default={})
    rescale: Finite = 0.0
    batch: Annotated[int, Field(gt=0, le=1_000_000)] = 32
    tuned_on: str | None = None
    published: tuple[Published, ...] = ()
    like: Annotated[None, BeforeValidator(_expand_first)] = None
    grid: Annotated[None, BeforeValidator(_expand_first)] = None


class Profile(Strict):
    """How much of the suite to run.

    Attributes:
        rules: rules to try; all, if it is not given.
        tuning_seeds: seeds that choose the rates.
        test_seeds: other seeds, at the chosen rates.
        evaluations: how often a run looks at the validation data, 10,000 times at most.
        updates: parameter updates per task, 10^9 at most; a task that is not listed is not run.
    """

    rules: Annotated[tuple[str, ...], Field(min_length=1, max_length=1_000)] | None = None
    tuning_seeds: PositiveInt
    test_seeds: PositiveInt
    evaluations: Annotated[int, Field(gt=0, le=10_000)] = 20
    updates: Annotated[dict[str, Annotated[int, Field(gt=0, le=1_000_000_000)]], Field(min_length=1)]
