"""Suites: what they expand to, what an address depends on, and one line for everything that can be wrong with them."""

from __future__ import annotations

import itertools
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import suite as suites
from bench.errors import InputError
from bench.registry import SPACES, TASKS
from bench.runs import Choice, Run
from bench.scaling import ScalingSuite
from bench.schema import merged, read
from bench.seeds import seed
from bench.suite import Suite
from bench.theory import TheorySuite
from bench.throughput import ThroughputSuite
from tests.bench.conftest import ROOT, TINY

FILES = [path for path in sorted((ROOT / "suites").glob("*.toml")) if "title" in merged(path)]
COMPARING = [path for path in FILES if "tasks" in merged(path)]


def tuning(path: Path, tasks: tuple[str, ...] = ("digits_rows",)) -> list[Run]:
    return suites.load(path).tuning_runs("embedded", tasks)


def trials(path: Path, rate: float, tasks: tuple[str, ...] = ("digits_rows",)) -> list[Run]:
    suite = suites.load(path)
    places = itertools.product(suite.tasks, suite.spaces, suite.rules)
    return suite.test_runs("embedded", tasks, dict.fromkeys(places, Choice(rate, edge=False, grown=0)))


def test_a_suite_is_a_factorial(tiny: Path) -> None:
    suite = suites.load(tiny)
    assert [(run.space_name, run.lr, run.index) for run in tuning(tiny)] == [
        ("weight", 0.01, 0),
        ("weight", 0.1, 0),
        ("path", 0.01, 0),
        ("path", 0.1, 0),
    ]
    choices = {
        ("digits_rows", "weight", "momentum"): Choice(0.1, edge=True, grown=1),
        ("digits_rows", "path", "momentum"): Choice(0.01, edge=False, grown=0),
    }
    test = suite.test_runs("embedded", ["digits_rows"], choices)
    assert [(run.space_name, run.lr, run.index, run.edge, run.grown) for run in test] == [
        ("weight", 0.1, 0, True, 1),
        ("path", 0.01, 0, False, 0),
        ("weight", 0.1, 1, True, 1),
        ("path", 0.01, 1, False, 0),
    ]
    assert len({run.key for run in tuning(tiny) + test}) == 8


ADDED = [
    '[rules.adam]\noptimizer = "Adam"\nrates = [0.001, 0.01]\n',
    '[tasks.digits_pixels]\ntask = "digits"\noptions = { steps = 64 }\n',
    '[tasks.more]\nlike = "digits_rows"\ngrid = { hidden = [4, 16] }\n',
]


@given(st.lists(st.sampled_from(ADDED), unique=True))
def test_adding_an_arm_or_a_task_moves_nobody(added: list[str]) -> None:
    before, after = _suite(TINY), _suite(TINY + "".join(added) + ARM * bool(added))
    old = {run.key: run for run in before.tuning_runs("embedded", ["digits_rows"])}
    new = {run.key: run for run in after.tuning_runs("embedded", ["digits_rows"])}
    assert old == {key: new[key] for key in old}


ARM = '[spaces.path_index]\nspace = "path"\noptions = { skeleton = "index" }\n'


def _suite(text: str) -> Suite:
    """A suite whose spaces are a table, so that more of them can stand behind it."""
    text = text.replace('spaces = ["weight", "path"]\n', "") + "[spaces.weight]\n[spaces.path]\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tiny.toml")
        path.write_text(text)
        return suites.load(path)


def test_addresses_depend_on_what_decides_the_outcome_alone(tiny: Path) -> None:
    before = {run.key for run in tuning(tiny)}
    text = TINY.replace("rates = [0.01, 0.1]", "rates = [0.01, 0.1, 1.0]")
    text = text.replace("test_seeds = 2", "test_seeds = 9").replace("A suite", "Another suite")
    tiny.write_text(text.replace("rules.momentum", "rules.heavy_ball").replace("[tasks.d", "[tasks.the_d"))
    tiny.write_text(tiny.read_text().replace("{ digits", "{ the_digits"))
    assert before < {run.key for run in tuning(tiny, ("the_digits_rows",))}
    for old, new in (
        ("hidden = 8", "hidden = 9"),
        ("momentum = 0.9", "momentum = 0.8"),
        ("max_norm = 1.0", ""),
        ("title", 'test_at = "best"\ntitle'),
        ("title", 'study = "another"\ntitle'),
        ("digits_rows = 6", "digits_rows = 7"),
    ):
        tiny.write_text(TINY.replace(old, new))
        assert before.isdisjoint(run.key for run in tuning(tiny)), new


def test_suites_of_one_study_share_runs(tiny: Path) -> None:
    other = tiny.with_name("other.toml")
    other.write_text('extends = "tiny.toml"\ntitle = "Another question"\nstudy = "tiny"\n')
    assert [run.key for run in tuning(other)] == [run.key for run in tuning(tiny)]
    other.write_text('extends = "tiny.toml"\ntitle = "Another question"\n')
    assert {run.key for run in tuning(other)}.isdisjoint(run.key for run in tuning(tiny))


def test_a_suite_takes_what_it_does_not_say_from_another(tiny: Path) -> None:
    middle, last = tiny.with_name("middle.toml"), tiny.with_name("last.toml")
    middle.write_text('extends = "tiny.toml"\n[rules.momentum]\nrates = [1.0, 2.0]\n')
    last.write_text('extends = "middle.toml"\ntitle = "Last"\n[rules.momentum.options]\nnesterov = true\n')
    suite = suites.load(last)
    assert (suite.name, suite.title, suite.max_norm) == ("last", "Last", 1.0)
    assert suite.rules["momentum"].rates == (1.0, 2.0)
    assert suite.rules["momentum"].options == {"momentum": 0.9, "nesterov": True}


def test_a_fault_is_named_in_the_file_that_has_it(tiny: Path) -> None:
    child = tiny.with_name("child.toml")
    child.write_text('extends = "tiny.toml"\n[rules.momentum]\nrates = []\n')
    with pytest.raises(InputError, match=re.escape(f"{child}: rules.momentum.rates: ")):
        suites.load(child)
    child.write_text('extends = "tiny.toml"\n[profiles.embedded.updates]\nnone = 3\n')
    with pytest.raises(InputError, match=re.escape(f"{child}: profiles.embedded.updates: unknown task 'none'; the")):
        suites.load(child)
    tiny.write_text(TINY.replace("hidden = 8", "hiden = 8"))
    child.write_text('extends = "tiny.toml"\n[tasks.digits_rows]\nhidden = 4\n')
    with pytest.raises(
        InputError, match=re.escape(f"{tiny}: tasks.digits_rows: unknown key 'hiden'; allowed are task")
    ):
        suites.load(child)
    tiny.write_text(TINY.replace("hidden = 8", "hidden = 0"))
    child.write_text('extends = "tiny.toml"\n[rules.momentum]\nrates = [0.1, 1.0]\n')
    with pytest.raises(InputError, match=re.escape(f"{tiny}: tasks.digits_rows.hidden: Input should be greater")):
        suites.load(child)


def test_a_file_must_not_extend_itself(tiny: Path) -> None:
    other = tiny.with_name("other.toml")
    other.write_text('extends = "tiny.toml"\n')
    tiny.write_text('extends = "other.toml"\n' + TINY)
    message = f"{other}: extends: a file must not extend itself, got tiny.toml -> other.toml -> tiny.toml"
    with pytest.raises(InputError, match="^" + re.escape(message) + "$"):
        suites.load(tiny)
    tiny.write_text("extends = 3\n" + TINY)
    with pytest.raises(
        InputError, match=re.escape(f"{tiny}: extends: must be the name of a TOML file beside this one, got 3")
    ):
        suites.load(tiny)
    for name in ("none.toml", "", ".", "a\\u0000b"):
        tiny.write_text(f'extends = "{name}"\n' + TINY)
        with pytest.raises(InputError, match="extends: must be the name of a TOML file beside this one, got"):
            suites.load(tiny)
    for number in range(12):
        text = f'extends = "{number - 1}.toml"\n' if number else TINY
        tiny.with_name(f"{number}.toml").write_text(text)
    assert suites.load(tiny.with_name("9.toml")).title
    with pytest.raises(InputError, match=re.escape("1.toml: extends: must be the 10th file of a chain at most")):
        suites.load(tiny.with_name("11.toml"))


def test_grids_of_rates_and_of_tasks(tiny: Path) -> None:
    text = TINY.replace("rates = [0.01, 0.1]", "rates = { low = 0.001, high = 1.0, count = 4 }")
    text += '[tasks.sigma]\nlike = "digits_rows"\ntuned_on = "digits_rows"\n'
    text += "grid = { rescale = [0.5, 2.0], bias = [true] }\n"
    tiny.write_text(text.replace("mnist_rows = 1 }", "sigma = 6 }"))
    suite = suites.load(tiny)
    assert suite.rules["momentum"].rates == (0.001, 0.01, 0.1, 1.0)
    assert list(suite.profiles["embedded"].updates) == ["digits_rows", "sigma_0.5_True", "sigma_2.0_True"]
    entry = suite.tasks["sigma_2.0_True"]
    assert (entry.task, entry.hidden, entry.rescale) == ("digits", 8, 2.0)
    assert {run.name for run in tuning(tiny, ("sigma_2.0_True",))} == {"digits_rows"}
    (first, *_) = trials(tiny, 0.1, ("sigma_2.0_True",))
    assert (first.name, first.tuned_at) == ("sigma_2.0_True", ("digits_rows", "weight", "momentum"))


def test_arms_may_have_settings_of_their_own_and_baselines_weights_alone(tiny: Path) -> None:
    text = TINY.replace('spaces = ["weight", "path"]\n', "") + ARM + "[spaces.weight]\n[spaces.gru]\n"
    text += 'space = "weight"\nmodel = "gru"\nrules = ["momentum"]\n'
    text += "[arms.path_index.momentum]\noptions = { nesterov = true }\nrates = [0.5, 5.0]\n"
    tiny.write_text(text + '[rules.sgd]\noptimizer = "SGD"\nrates = [1.0, 2.0]\n')
    suite = suites.load(tiny)
    arms = suite.arm_settings()
    assert sorted(arms) == sorted([
        ("path_index", "momentum"),
        ("weight", "momentum"),
        ("gru", "momentum"),
        ("path_index", "sgd"),
        ("weight", "sgd"),
    ])
    _, rule = arms["path_index", "momentum"]
    assert (rule.options, rule.rates) == ({"momentum": 0.9, "nesterov": True}, (0.5, 5.0))
    assert arms["weight", "momentum"][1] == suite.rules["momentum"]
    tiny.write_text(TINY.replace('["weight", "path"]', '["weight"]') + "[profiles.other]\ntuning_seeds = 1\n")
    with pytest.raises(InputError, match=re.escape(f"{tiny}: profiles.other.test_seeds: Field required")):
        suites.load(tiny)


def test_seeds_are_pinned() -> None:
    assert seed("accuracy", "digits_rows", "init", "test", 0) == 6814143256704466646
    assert seed("a", "b") != seed("ab")


@pytest.mark.parametrize("path", COMPARING, ids=lambda path: path.stem)
def test_every_suite_of_the_project_is_valid(path: Path) -> None:
    suite = suites.load(path)
    for profile in suite.profiles:
        runs = suite.tuning_runs(profile, suite.profiles[profile].updates)
        assert len({run.key for run in runs}) == len(runs) > 0


def test_the_suites_of_other_commands_are_valid() -> None:
    assert {path.stem for path in FILES} - {path.stem for path in COMPARING} == {"theory", "throughput", "stacks"}
    grids = read(ROOT / "suites" / "stacks.toml", ScalingSuite).grids.values()
    assert {grid.device for grid in grids} == {"cpu", "cuda"}
    assert read(ROOT / "suites" / "theory.toml", TheorySuite).laws
    assert read(ROOT / "suites" / "throughput.toml", ThroughputSuite).networks


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "max_norm",
            "max_nrom",
            "unknown key 'max_nrom'; allowed are title, study, max_norm, growth, test_at, spaces, rules, arms, tasks, "
            "profiles",
        ),
        ("rates =", "raets =", "rules.momentum: unknown key 'raets'; allowed are optimizer, options, rates"),
        ("[0.01, 0.1]", "[0.1, 0.01]", "rules.momentum.rates: rates must ascend by a tenth at least, got [0.1, 0.01]"),
        (
            "[0.01, 0.1]",
            "[0.0, 0.1]",
            "rules.momentum.rates.0: Input should be greater than or equal to 0.000000000001, got 0.0",
        ),
        (
            "[0.01, 0.1]",
            "[]",
            "rules.momentum.rates: a grid needs at least one rate, got []",
        ),
        (
            "[0.01, 0.1]",
            "{ low = 1.0, high = 0.1, count = 3 }",
            "rules.momentum.rates: a grid needs low and high, 0 < low < high, and count, 2 to 100, "
            "got {'low': 1.0, 'high': 0.1, 'count': 3}",
        ),
        ("hidden = 8", 'hidden = "8"', "tasks.digits_rows.hidden: Input should be a valid integer, got '8'"),
        (
            "hidden = 8",
            "hidden = 8\nlayers = 5",
            "tasks.digits_rows.layers: Input should be less than or equal to 4, got 5",
        ),
        (
            "hidden = 8",
            "grid = { hidden = [] }",
            "tasks.digits_rows.grid: like must name a task that has no like or grid itself; a grid must have an array "
            "of different values per key, 1000 combinations at most, got {'hidden': ()}",
        ),
        (
            "hidden = 8",
            'tuned_on = "mnist"',
            "tasks.digits_rows.tuned_on: unknown entry that is tuned itself 'mnist'; the suite has mnist_rows",
        ),
        (
            'task = "digits"',
            'task = "digitz"',
            f"tasks.digits_rows.task: unknown task 'digitz'; known are {', '.join(sorted(TASKS))}",
        ),
        (
            'optimizer = "SGD"',
            'optimizer = "SDG"',
            "rules.momentum.optimizer: unknown optimizer 'SDG'; known are Adam, AdamW, Muon, RMSprop, SGD",
        ),
        ('"path"]', '"pth"]', f"spaces.pth.space: unknown space 'pth'; known are {', '.join(sorted(SPACES))}"),
        ('"path"]', '"weight"]', "spaces: duplicate arm 'weight'; name each space once"),
        (
            "[tasks.mnist_rows]",
            '[rules.again]\noptimizer = "SGD"\noptions = { momentum = 0.9 }\nrates = [3, 4]\n[tasks.mnist_rows]',
            "arms: weight with again is a duplicate of weight with momentum; leave one of them out",
        ),
        (
            "[tasks.mnist_rows]",
            '[tasks.again]\nlike = "mnist_rows"\n[tasks.mnist_rows]',
            "tasks: mnist_rows is a duplicate of again; leave one of them out",
        ),
        (
            "[tasks.mnist_rows]",
            '[rules.adam]\noptimizer = "Adam"\nrates = [1.0]\n[tasks.mnist_rows]',
            "rules: every arm must try the same number of rates, got path with momentum: 2; path with adam: 1",
        ),
        (
            "[tasks.mnist_rows]",
            "[arms.path.adam]\n[tasks.mnist_rows]",
            "arms.path: unknown rule 'adam'; the suite has momentum",
        ),
        (
            "{ digits_rows",
            "{ digit_rows",
            "profiles.embedded.updates: unknown task 'digit_rows'; the suite has digits_rows, mnist_rows",
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


def test_an_arm_is_tuned_on_a_space_with_its_rule(tiny: Path) -> None:
    text = TINY.replace('spaces = ["weight", "path"]\n', "") + '[spaces.weight]\nrules = ["sgd"]\n[spaces.path]\n'
    tiny.write_text(text + 'tuned_on = "weight"\n[rules.sgd]\noptimizer = "SGD"\nrates = [1.0, 2.0]\n')
    message = "spaces.path.tuned_on: unknown space with the rule 'momentum' 'weight'; the suite has path"
    with pytest.raises(InputError, match="^" + re.escape(f"{tiny}: {message}") + "$"):
        suites.load(tiny)


def test_a_baseline_in_path_space_is_refused(tiny: Path) -> None:
    text = TINY.replace('spaces = ["weight", "path"]\n', "")
    tiny.write_text(text + '[spaces.gru]\nspace = "path"\nmodel = "gru"\n')
    with pytest.raises(InputError, match=re.escape("spaces.gru: model 'gru' must have the space 'weight', got 'path'")):
        suites.load(tiny)


MORE = [
    ("max_norm = 1.0", "max_norm = inf", "max_norm: Input should be a finite number, got inf"),
    ("rates = [0.01, 0.1]", "rates = [0.01, inf]", "rules.momentum.rates.1: Input should be less than or equal"),
    ("[0.01, 0.1]", "[0.3, 0.3001]", "rules.momentum.rates: rates must ascend by a tenth at least, got [0.3, 0.3001]"),
    ("{ momentum = 0.9 }", "{ lr = 0.9 }", "rules.momentum.options: 'lr' is no option: rates has the learning rates"),
    ("hidden = 8", "grid = {}", "tasks.digits_rows.grid: like must name a task"),
    ("hidden = 8", "grid = { hidden = [8, 8] }", "tasks.digits_rows.grid: like must name a task"),
    ("hidden = 8", 'like = "none"', "tasks.digits_rows.like: like must name a task"),
    (
        "[tasks.mnist_rows]",
        '[tasks.a_1]\nlike = "mnist_rows"\nhidden = 3\n[tasks.a]\nlike = "mnist_rows"\ngrid = { hidden = [1, 2] }\n'
        "[tasks.mnist_rows]",
        "tasks: a_1 stands there twice, one of them by a grid; rename one",
    ),
    (
        "[tasks.mnist_rows]",
        "[tasks.other]\n" + 'task = "digits"\nhidden = 8\noptions = { steps = 8 }\nbatch = 32\n[tasks.mnist_rows]',
        "tasks: other is a duplicate of digits_rows; leave one of them out",
    ),
    ("[profiles.embedded]", '[profiles.embedded]\nrules = ["adam"]', "profiles.embedded.rules: unknown rule 'adam'"),
    ("[profiles.embedded]", "a = " + "[" * 30 + "]" * 30 + "\n[profiles.embedded]", "the suite must have at most 20"),
    ("[profiles.embedded]", "a = " + "[" * 3000 + "\n[profiles.embedded]", "the suite must have at most 20"),
    (
        "tuning_seeds = 1",
        "tuning_seeds = true",
        "profiles.embedded.tuning_seeds: Input should be a valid integer, got True",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), MORE, ids=range(len(MORE)))
def test_more_that_is_wrong_is_named(tiny: Path, old: str, new: str, message: str) -> None:
    assert old in TINY
    tiny.write_text(TINY.replace(old, new))
    with pytest.raises(InputError, match="^" + re.escape(f"{tiny}: {message}")) as caught:
        suites.load(tiny)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arm",
    [
        '[spaces.again]\nspace = "path"\noptions = { skeleton = "index", coordinates = "raw" }\n',
        '[spaces.again]\nspace = "weight"\nclip = false\n',
    ],
)
def test_arms_that_are_the_same_by_another_name_are_refused(tiny: Path, arm: str) -> None:
    text = TINY.replace('spaces = ["weight", "path"]\n', "").replace("max_norm = 1.0\n", "") + "[spaces.weight]\n"
    text += '[spaces.raw]\nspace = "path"\noptions = { coordinates = "raw", skeleton = "index" }\n'
    tiny.write_text(text + arm)
    with pytest.raises(InputError, match="again with momentum is a duplicate of"):
        suites.load(tiny)


def test_a_missing_suite_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape("none.toml: the suite cannot be read: No such file or directory")):
        suites.load(tmp_path / "none.toml")
