"""A reader opens the report in a real browser: ``nox -s browser``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.claims import Claims
from bench.report import write
from bench.schema import read
from bench.store import Store
from tests.bench.conftest import ROOT
from tests.bench.planted import stored, study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = os.environ.get("PATHRNN_CHROMIUM", "")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="PATHRNN_CHROMIUM is not set; run nox -s browser")

EVIL = "<script>alert(1)</script>"
SCORES = {"weight": 71.5, "path": 103.25, "gauge": 9.0}
"""Sorted as text, 103 comes before 71 and 9."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def outcome(_: str, rule: str, space: str, index: int, __: float) -> float:
        return SCORES[space] + (index - 2.5) / 10 + (0.5 if rule == "adam" else 0.0)

    frame = study(outcome, tasks=["digits", EVIL], rules=["momentum", "adam"], spaces=list(SCORES))
    lost = (frame["space"] == "gauge") & (frame["rule_name"] == "adam") & (frame["role"] == "test")
    frame.loc[lost, ["status", "test"]] = "diverged", float("nan")
    folder = stored(tmp_path_factory.mktemp("results"), frame, "accuracy")
    write(Store(folder), None, read(ROOT / "suites" / "claims.toml", Claims))
    return folder / "report.html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Open the report on a desk, or as a mark says, and refuse any error, dialogue or request of the page."""
    size = getattr(request, "param", {"width": 1280, "height": 900})
    context = chromium.new_context(viewport=size, color_scheme="dark" if size["width"] < 500 else "light")
    tab = context.new_page()
    tab.set_default_timeout(5_000)
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(f"error: {error}"))
    tab.on("console", lambda message: faults.append(f"console: {message.text}") if message.type == "error" else None)
    tab.on("dialog", lambda dialog: (faults.append(f"dialogue: {dialog.message}"), dialog.dismiss()))
    tab.on("request", lambda sent: faults.append(f"request: {sent.url}") if sent.url != report.as_uri() else None)
    tab.goto(report.as_uri())
    yield tab
    assert faults == []
    context.close()


def column(page: Page, task: int, name: str) -> list[str]:
    """Texts of a column of the table of a task, from top to bottom."""
    table = page.locator("table.results").nth(task)
    heads = [re.sub(r"\W+$", "", text) for text in table.locator("th").all_inner_texts()]
    return table.locator(f"tbody tr td:nth-child({heads.index(name) + 1})").all_inner_texts()


def head(page: Page, name: str) -> Locator:
    return page.locator("table.results").first.get_by_role("button", name=name, exact=True)


def test_a_table_sorts_by_number_and_by_text_with_what_is_missing_last(page: Page) -> None:
    assert column(page, 0, "space")[:3] == ["weight", "path", "gauge"]
    head(page, "test metric").click()
    values = [float(text.split()[0]) for text in column(page, 0, "test metric")[1:]]
    assert column(page, 0, "test metric")[0].startswith("diverged")  # ranks below all others
    assert values == sorted(values)
    assert len(values) == 5
    head(page, "test metric").click()
    assert column(page, 0, "test metric")[-1].startswith("diverged")
    assert column(page, 0, "space")[:2] == ["path", "path"]
    head(page, "rule").click()
    assert column(page, 0, "rule") == ["adam"] * 3 + ["momentum"] * 3
    for _ in range(2):
        head(page, "gain over weight").click()
        assert column(page, 0, "gain over weight")[-2:] == ["", ""]
    assert page.locator("th[aria-sort]").count() == 1


def test_the_keyboard_sorts_too(page: Page) -> None:
    head(page, "space").focus()
    page.keyboard.press("Enter")
    assert column(page, 0, "space")[0] == "gauge"


def shown(page: Page, kind: str, name: str) -> int:
    drawn = page.locator(f'svg [data-{kind}="{name}"], tr[data-{kind}="{name}"]')
    return sum(each.is_visible() for each in drawn.all())


@pytest.mark.parametrize(("kind", "name", "other"), [("spaces", "path", "weight"), ("rules", "adam", "momentum")])
def test_an_arm_is_switched_off_and_on_in_all_figures_and_tables(page: Page, kind: str, name: str, other: str) -> None:
    button = page.locator(f'.arms button[data-name="{name}"]')
    before, beside = shown(page, kind, name), shown(page, kind, other)
    assert before > 20
    button.click()
    assert (button.get_attribute("aria-pressed"), shown(page, kind, name)) == ("false", 0)
    if kind == "spaces":
        assert shown(page, kind, "weight\tpath") == 0  # lines between two spaces go with either
    assert shown(page, kind, other) == beside
    button.click()
    assert (button.get_attribute("aria-pressed"), shown(page, kind, name)) == ("true", before)


def test_a_name_with_markup_shows_as_text(page: Page) -> None:
    assert page.locator("h3").first.inner_text() == EVIL
    assert page.locator("svg text", has_text=EVIL).count() > 5
    assert page.locator("script").count() == 1


def test_verdicts_come_first_and_open(page: Page) -> None:
    assert page.locator("h2").first.inner_text() == "Verdicts"
    row = page.locator("table.claims tbody tr").nth(2)
    assert row.locator("td").first.inner_text() == "supported"
    assert not row.locator("li").first.is_visible()
    row.locator("summary").click()
    assert row.locator("li").first.inner_text().startswith(f"{EVIL}: 100 %")


@pytest.mark.parametrize("page", [{"width": 360, "height": 780}], indirect=True)
def test_a_phone_never_scrolls_sideways_and_figures_fill_it(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    widths = {round(each.bounding_box()["width"]) for each in page.locator("svg").all()[:6]}
    assert min(widths) > 300


@pytest.mark.parametrize("page", [{"width": 360, "height": 780}, {"width": 1280, "height": 900}], indirect=True)
def test_text_and_axes_stand_out_in_light_and_dark(page: Page) -> None:
    script = """() => {
        const channel = (text) => text.match(/\\d+/g).slice(0, 3).reduce((sum, each) => sum + Number(each), 0) / 3;
        const of = (selector) => channel(getComputedStyle(document.querySelector(selector)).color);
        const axis = channel(getComputedStyle(document.querySelector("svg text")).fill);
        return [channel(getComputedStyle(document.body).backgroundColor), of("td"), of(".quiet"), axis];
    }"""
    background, *inks = page.evaluate(script)
    assert all(abs(ink - background) > 100 for ink in inks), (background, inks)


def test_paper_shows_what_is_folded_and_fits(page: Page) -> None:
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".arms").is_visible()  # the legend of the figures
    page.set_viewport_size({"width": 720, "height": 1000})  # of A4 between margins
    assert page.evaluate("document.documentElement.scrollWidth") == 720
    assert page.locator("table.claims li").first.is_visible()
    assert page.locator("details:not([open])").count() == 0
