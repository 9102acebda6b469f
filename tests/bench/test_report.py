"""Summaries, figures and reports, on planted records."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import cells, figures, profiles
from bench.claims import Claims
from bench.convergence import to_target
from bench.drawing import MOST_LINES, SPACE_COLORS, metrics, space_colors
from bench.errors import InputError
from bench.report import write
from bench.schema import read
from bench.seeds import seed
from bench.stats import Interval
from bench.store import Store
from bench.summary import at_best_rate, missing, sweep, table
from bench.svg import Canvas, file
from bench.tables import markdown
from tests.bench.conftest import ROOT, Bench
from tests.bench.planted import record, stored, study

CLAIMS = read(ROOT / "suites" / "claims.toml", Claims)
EVIL = "<script>alert(1)</script>"


def chance(*names: Any) -> float:
    return 70 + float(np.random.default_rng(seed(*names)).normal())


def planted(**shape: Any) -> pd.DataFrame:
    return study(lambda task, rule, space, index, _: chance(task, rule, space, index), **shape)


def report(root: Path, frame: pd.DataFrame) -> Path:
    folder = stored(root, frame)
    write(Store(folder), None, CLAIMS)
    return folder


class Page(HTMLParser):
    """Collects the tags of a page and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


# Summaries


def three_seeds() -> pd.DataFrame:
    """Weight space scores 61 and 62 and diverges once; path space 71, 60, 50."""
    values = {"weight": (61.0, 62.0, math.nan), "path": (71.0, 60.0, 50.0)}
    return study(lambda _, __, space, index, ___: values[space][index], tasks=["digits"], seeds=3)


def test_a_row_has_score_gain_and_wins() -> None:
    weight, path = table(at_best_rate(three_seeds()))
    assert (weight.space, path.space) == ("weight", "path")
    assert (weight.seeds, weight.diverged, path.seeds, path.diverged) == (3, 1, 3, 0)
    assert weight.score.estimate == -math.inf  # three seeds are too few to leave one out
    assert path.score.estimate == pytest.approx(181 / 3)
    assert (weight.pairs, path.pairs) == (0, 3)
    assert path.gain.estimate == math.inf
    assert path.better.estimate == pytest.approx(2 / 3)
    assert path.p == 0.5  # of the 8 ways to flip 10, -2 and infinity, 4 are as far out
    assert weight.loss == 0.5


def test_one_seed_that_diverged_of_eight_is_outside_the_quartiles() -> None:
    frame = study(lambda _, __, ___, index, ____: math.nan if index == 3 else 70.0 + index, tasks=["digits"], seeds=8)
    score = table(at_best_rate(frame))[0].score
    assert score.estimate == pytest.approx((71 + 72 + 74 + 75) / 4)
    assert score.low == -math.inf


def test_gains_are_positive_where_a_lower_metric_is_better() -> None:
    lower = study(lambda _, __, space, index, ___: index + (1.0 if space == "path" else 2.0), higher_is_better=False)
    rows = table(at_best_rate(lower))
    assert {row.gain.estimate for row in rows if row.space == "path"} == {1.0}
    assert {row.score.estimate for row in rows if row.space == "path"} == {3.5}


def test_p_values_are_corrected_over_the_tasks_of_an_arm() -> None:
    rows = [row for row in table(at_best_rate(planted(tasks=["a", "b", "c"], seeds=8))) if row.space == "path"]
    least = min(rows, key=lambda row: row.p)
    assert least.adjusted == pytest.approx(min(1.0, 3 * least.p))


def test_the_order_of_records_does_not_matter() -> None:
    frame = planted(rules=["adam", "momentum"], seeds=5)
    shuffled = frame.sample(frac=1, random_state=1).reset_index(drop=True)
    assert repr(table(at_best_rate(frame))) == repr(table(at_best_rate(shuffled)))  # as text, where NaN equals NaN


def test_adding_an_arm_changes_no_interval_of_another() -> None:
    few, many = planted(), planted(spaces=["weight", "path", "gauge"], tasks=["digits", "reber"])
    before = {(row.task, row.rule, row.space): row.score for row in table(at_best_rate(few))}
    after = {(row.task, row.rule, row.space): row.score for row in table(at_best_rate(many))}
    assert {key: after[key] for key in before} == before


def test_runs_at_a_rate_that_tuning_did_not_choose_do_not_count() -> None:
    frame = planted(tasks=["digits"])
    extra = pd.DataFrame([record("digits", "momentum", "path", "test", 0, 0.2, 99.0)])
    assert len(at_best_rate(pd.concat([frame, extra]))) == len(at_best_rate(frame))


def test_arms_that_take_their_rates_from_others_are_reported_at_those() -> None:
    frame = planted(tasks=["digits"])
    other = frame[frame["role"] == "test"].assign(name="rescaled")
    assert set(at_best_rate(pd.concat([frame, other])).groupby("name").size()) == {12}


def test_the_sweep_shows_every_rate_and_what_diverged() -> None:
    frame = planted(tasks=["digits"])
    lost = (frame["role"] == "tuning") & (frame["space"] == "path") & (frame["lr"] == 0.2) & (frame["index"] == 1)
    frame.loc[lost, ["status", "validation"]] = "diverged", math.nan
    rows = sweep(frame).set_index(["space", "lr"])
    assert list(rows.index) == [("weight", 0.1), ("weight", 0.2), ("path", 0.1), ("path", 0.2)]
    assert list(rows["best"]) == [True, False, True, False]
    assert list(rows["diverged"]) == [0, 0, 0, 1]
    assert list(rows["validation"]) == [70.0, 65.0, 70.0, 65.0]


def test_what_is_missing_is_said() -> None:
    frame = planted(spaces=["weight", "path", "gauge"], seeds=4)
    assert missing(frame, at_best_rate(frame)) == []
    gone = (frame["role"] == "test") & (frame["name"] == "reber")
    fewer = frame[~(gone & (frame["space"] == "path") & (frame["index"] > 1))]
    none = fewer[~(gone & (frame["space"] == "gauge"))[fewer.index]]
    assert missing(none, at_best_rate(none)) == [
        "reber: momentum in gauge space has no test run",
        "reber: momentum in path space has 2 of 4 test seeds",
    ]
    untested = frame[~gone]
    assert len(missing(untested, at_best_rate(untested))) == 3


def test_time_to_target_keeps_misses_as_infinite() -> None:
    frame = at_best_rate(three_seeds())
    weight, path = (frame[frame["space"] == space] for space in ("weight", "path"))
    assert to_target(weight) == to_target(path) == "2 of 3: 10 updates, 100 sequences, 1.5 s"
    assert [to_target(arm.assign(target=65.0)) for arm in (weight, path)] == ["0 of 3", "1 of 3"]
    lower = frame.assign(target=56.0, higher_is_better=False)
    assert to_target(lower) == "3 of 6"
    assert to_target(weight.assign(curve_seconds=[[]] * 3)).endswith("10 updates, 100 sequences")


# Figures


def drawn(frame: pd.DataFrame) -> dict[str, figures.Figure]:
    test, kinds = at_best_rate(frame), metrics(frame)
    rows, summary = table(test), sweep(frame)
    every = [
        figures.final_metric(test, rows, kinds),
        figures.learning_curves(test, kinds),
        figures.learning_rates(summary, kinds),
        figures.expected_best(summary, kinds),
        figures.invariance(test, rows, kinds),
        profiles.performance_profile(test),
        profiles.target_profile(test),
    ]
    return {each.name: each for each in every}


def test_every_figure_has_a_panel_where_it_has_something_to_show() -> None:
    frame = planted(rules=["momentum", "adam"])
    panels = {name: [panel.title for panel in each.panels] for name, each in drawn(frame).items()}
    both = ["digits, momentum", "digits, adam", "reber, momentum", "reber, adam"]
    assert panels["learning_curves"] == panels["learning_rates"] == panels["expected_best"] == both
    assert panels["final_metric"] == ["digits", "reber"]
    assert panels["performance_profile"] == panels["target_profile"] == ["2 tasks, momentum", "2 tasks, adam"]
    assert panels["invariance"] == []


def test_the_invariance_figure_shows_tasks_that_were_rescaled() -> None:
    frame = planted(tasks=["digits"])
    other = frame[frame["role"] == "test"].copy()
    other["name"], other["specification"] = "digits_sigma_2.0", '{"task": {"rescale": 2.0}, "test_at": "end"}'
    (panel,) = drawn(pd.concat([frame, other]))["invariance"].panels
    assert panel.title == "digits, momentum"
    assert "test accuracy [%]" in panel.svg


def test_arms_are_marked_in_every_panel_so_that_they_can_be_switched_off() -> None:
    for name, figure in drawn(planted()).items():
        for panel in figure.panels:
            spaces = set(re.findall(r'data-spaces="([^"]*)"', panel.svg))
            assert {"weight", "path"} <= spaces, name
            assert set(re.findall(r'data-rules="([^"]*)"', panel.svg)) == {"momentum"}, name


def test_what_is_drawn_is_that_of_the_arm() -> None:
    """The line of path space ends above that of weight space: y grows downwards."""
    frame = study(lambda _, __, space, index, ___: 90.0 + index if space == "path" else 60.0 + index, tasks=["digits"])
    (panel,) = drawn(frame)["learning_curves"].panels
    ends = {}
    for space in ("weight", "path"):
        (path,) = re.findall(
            rf'data-spaces="{space}"[^>]*>\s*<path d="([^"]*)" clip-path="[^"]*" style="fill: none', panel.svg
        )
        ends[space] = float(path.split()[-1])
    assert ends["path"] < ends["weight"]
    assert panel.alt == "At the right end: weight 62.5; path 92.5."


def test_large_figures_are_cut_and_say_so() -> None:
    frame = planted(tasks=[f"task_{number:03}" for number in range(MOST_LINES)], seeds=1)
    for name, figure in drawn(frame).items():
        lines = 2 * len(figure.panels)
        assert lines <= MOST_LINES, name
        if name not in {"performance_profile", "target_profile", "invariance"}:
            assert len(figure.panels) + figure.left_out == MOST_LINES, name


def test_files_are_svg_with_unique_identifiers() -> None:
    frame = planted(rules=["momentum", "adam"])
    for figure in drawn(frame).values():
        if figure.panels:
            text = file(figure.panels, figure.abreast, space_colors(frame["space"]), figure.note)
            root = ElementTree.fromstring(text)
            identifiers = [each.attrib["id"] for each in root.iter() if "id" in each.attrib]
            assert len(identifiers) == len(set(identifiers))
            referred = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
            assert referred == set(identifiers)


def test_names_with_markup_or_dollars_are_text() -> None:
    canvas = Canvas(f"{EVIL} $x_$ {{}}")
    canvas.tag(canvas.axis.plot([1, 2], [1, 2]), ['"><b>'], "a'b")
    panel = canvas.panel(EVIL, "$", "&")
    for text in (panel.inline("p"), file([panel], 1, {EVIL: "#000000"}, EVIL)):
        tree = ElementTree.fromstring(text.replace("<svg role", '<svg xmlns:xlink="x" role'))
        tags = {each.tag.rpartition("}")[2] for each in tree.iter()}
        assert not tags & {"script", "b"}
        assert any(EVIL in (each.text or "") for each in tree.iter())


def _lab(color: str, vision: np.ndarray) -> np.ndarray:
    channels = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(vision @ linear, 0, 1)
    xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]) @ seen
    root = np.cbrt(xyz / [0.9505, 1, 1.0888])
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


VISIONS = {  # Machado, Oliveira and Fernandes 2009, severity 1
    "usual": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


@pytest.mark.parametrize("vision", VISIONS)
def test_the_colours_of_a_suite_are_told_apart_by_colour_blind_readers(vision: str) -> None:
    """A difference of 2.3 is just seen; spaces that stand in one figure differ by 10 at least."""
    for suite in ("accuracy", "invariance", "ablation", "defaults"):
        spaces = pd.read_parquet(ROOT / "results" / "reference" / suite / "records", columns=["space"])["space"]
        colors = [_lab(SPACE_COLORS[space], VISIONS[vision]) for space in sorted(set(spaces))]
        least = min(np.linalg.norm(a - b) for place, a in enumerate(colors) for b in colors[:place])
        assert least > 10, suite


def test_colours_are_seen_on_white_and_on_black() -> None:
    def luminance(color: str) -> float:
        return float(((_lab(color, np.eye(3))[0] + 16) / 116) ** 3)

    for space, color in SPACE_COLORS.items():
        assert 1.05 / (luminance(color) + 0.05) > 2, space
        assert (luminance(color) + 0.05) / (luminance("#18181b") + 0.05) > 2, space


# Reports


def test_the_same_records_give_the_same_bytes(tmp_path: Path, bench: Bench) -> None:
    """In any order, from one file or many, in two processes with other hash seeds and other global random numbers."""
    frame = planted(spaces=["weight", "path", "mine"], rules=["momentum", "adam"], seeds=5)
    one = report(tmp_path / "one", frame)
    np.random.seed(5)  # noqa: NPY002 - the global state must not matter
    two = stored(tmp_path / "two", frame.iloc[:0])
    for key, row in frame.sample(frac=1, random_state=3).assign(suite="planted").groupby("key"):
        row.to_parquet(two / "records" / f"{key}.parquet", index=False)
    (two / "records" / "all.parquet").unlink()
    result = bench("report", two)
    assert result.returncode == 0, result.stderr
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.suffix in {".html", ".md", ".svg"})
    assert len(names) == 8
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_a_page_loads_nothing_and_is_complete(tmp_path: Path) -> None:
    page = page_of(report(tmp_path, planted()))
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
        assert (attributes.get("xlink:href") or "#").startswith("#")
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(drawings) == 2 + 2 + 1 + 1 + 2 + 2
    assert all(each["role"] == "img" and len(each["aria-label"] or "") > 20 for each in drawings)
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    headings = [
        text for text in page.texts if text in {"Verdicts", "Results by task", "Divergences", "Published numbers"}
    ]
    assert headings == ["Verdicts", "Results by task", "Divergences", "Published numbers"]


def test_names_of_tasks_are_text_everywhere(tmp_path: Path) -> None:
    folder = report(tmp_path, planted(tasks=[EVIL, "a|b", "[x](y) *z* `"], spaces=["weight", '"><img src=x>']))
    page = page_of(folder)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(tag == "img" for tag, _ in page.tags)
    assert any(EVIL in text for text in page.texts)
    text = (folder / "report.md").read_text()
    assert "<script" not in text
    assert "<img" not in text
    tables = [line for line in text.splitlines() if line.startswith("| momentum")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tables}) == 1


def test_a_report_where_everything_diverged_says_so(tmp_path: Path) -> None:
    frame = study(lambda *_: math.nan)
    frame = frame.assign(
        status="diverged", validation=math.nan, reason="the loss is nan", curve_validation=[[]] * len(frame)
    )
    frame = frame.assign(
        curve_update=[[]] * len(frame), curve_train_loss=[[]] * len(frame), curve_seconds=[[]] * len(frame)
    )
    folder = report(tmp_path, frame)
    text = (folder / "report.md").read_text()
    assert f"{len(frame)} of them diverged" in text
    assert "| momentum | path | diverged [diverged, diverged] |" in text
    assert "the loss is nan" in text
    assert "| 0 of 6 |" in text


def test_one_seed_has_a_score_and_no_interval(tmp_path: Path) -> None:
    text = (report(tmp_path, planted(seeds=1)) / "report.md").read_text()
    assert re.search(
        r"^\| momentum \| path \| \d+\.\d+ \| [+-]\S+ \| (0|100) % \[[^]]*\] \| 1 \| 1 \|", text, flags=re.M
    )


def test_a_study_without_weight_space_has_no_gains(tmp_path: Path) -> None:
    text = (report(tmp_path, planted(spaces=["path", "gauge"])) / "report.md").read_text()
    assert re.search(r"^\| momentum \| path \| \S+ \[[^]]*\] \|  \|  \|  \|  \|", text, flags=re.M)


def test_missing_arms_are_listed(tmp_path: Path) -> None:
    frame = planted()
    lost = (frame["role"] == "test") & (frame["name"] == "reber") & (frame["space"] == "path")
    text = (report(tmp_path, frame[~lost]) / "report.md").read_text()
    assert "- reber: momentum in path space has no test run" in text


def test_tuning_runs_alone_are_no_report(tmp_path: Path) -> None:
    frame = planted()
    folder = stored(tmp_path, frame[frame["role"] == "tuning"])
    with pytest.raises(InputError, match="there are no test runs; let python -m bench run SUITE finish first"):
        write(Store(folder), None, CLAIMS)


def test_a_run_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    frame = planted()
    again = frame.tail(1).assign(key="another")
    with pytest.raises(InputError, match=r"seed 5 of momentum in path space on reber has two records; delete one"):
        report(tmp_path, pd.concat([frame, again]))


def test_records_of_other_versions_empty_and_broken_stores_are_refused_in_a_line(tmp_path: Path, bench: Bench) -> None:
    older = stored(tmp_path, planted(version=1), "older")
    ancient = stored(tmp_path, planted().drop(columns="version"), "ancient")
    broken = stored(tmp_path, planted(), "broken")
    data = (broken / "records" / "all.parquet").read_bytes()
    (broken / "records" / "cut.parquet").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty" / "records").mkdir(parents=True)
    for folder, message in (
        (older, "holds 40 records of other versions alone"),
        (ancient, "holds 40 records of other versions alone"),
        (broken, "cut.parquet: the record cannot be read"),
        (tmp_path / "empty", "holds no records; make some with python -m bench run SUITE"),
        (tmp_path / "nowhere", "holds no records; make some with python -m bench run SUITE"),
    ):
        result = bench("report", folder)
        assert (result.returncode, result.stdout) == (2, ""), folder
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_published_numbers_stand_beside_ours(tmp_path: Path) -> None:
    text = (report(tmp_path, planted(tasks=["mnist_pixels"])) / "report.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith(r"| mnist\_pixels |")]
    assert len(lines) == 3
    assert lines[1].startswith(r"| mnist\_pixels | IRNN, 100 units | 97 | 7")
    assert "arXiv 1504.00941" in lines[1]


def test_a_folder_of_suites_has_a_page_of_verdicts(tmp_path: Path, bench: Bench) -> None:
    stored(tmp_path, planted(), "accuracy")
    stored(tmp_path, planted(), "other")
    result = bench("report", tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"report: {tmp_path / 'report.html'}" in result.stdout
    page = page_of(tmp_path)
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == ["accuracy/report.html", "other/report.html"]
    assert all((tmp_path / link).exists() for link in links)
    verdicts = [attributes["class"] for tag, attributes in page.tags if "verdict" in (attributes.get("class") or "")]
    assert len(verdicts) == len(CLAIMS.claims)
    own = page_of(tmp_path / "accuracy")
    assert sum("verdict" in (each.get("class") or "") for _, each in own.tags) == sum(
        "accuracy" in claim.suites for claim in CLAIMS.claims.values()
    )


def test_the_report_says_how_to_repeat_it(tmp_path: Path) -> None:
    text = (report(tmp_path, planted()) / "report.md").read_text()
    assert "git checkout c0ffee\npython -m bench run suites/planted.toml --profile embedded\n" in text
    assert "\npython -m bench verify FOLDER    # some of these records alone\n" in text
    assert "- 40 runs: commit c0ffee, cpu abacus" in text


# Cells


def test_numbers_that_are_not_there_are_not_zero() -> None:
    assert cells.number(math.nan).text == ""
    assert cells.number(0.0).text == "0"
    row = table(at_best_rate(three_seeds()))[1]
    _, gain, *_ = cells._cells(row)
    assert (gain.text, gain.value, gain.beside) == ("\N{INFINITY}", "Infinity", "[-2, \N{INFINITY}]")
    assert cells._interval(Interval(math.nan, -math.inf, math.inf)).text == ""


@pytest.mark.parametrize("text", ["a|b", EVIL, "*a* _b_", "`x`", "[a](b)", "two\nlines", "a & b"])
def test_markdown_cells_are_one_line_of_text(text: str) -> None:
    escaped = markdown(text)
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)[|*_`<]|\]\(", escaped)


def test_a_page_of_a_large_study_is_small(tmp_path: Path) -> None:
    """Twenty tasks, two rules, ten spaces; the study of 100,000 records is timed by the benchmarks."""
    tasks = [f"task_{number}" for number in range(20)]
    folder = report(tmp_path, planted(tasks=tasks, spaces=list(SPACE_COLORS)[:10], rules=["sgd", "adam"]))
    assert 1_000_000 < (folder / "report.html").stat().st_size < 3_000_000
