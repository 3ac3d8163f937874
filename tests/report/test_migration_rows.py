"""A row of only TensorFlow 1 and TensorFlow 2 is shown whole, old beside new."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvt.report import pdf
from tests.report.pages import body, code, executed, markdown, page

pytestmark = pytest.mark.long

OLD = code("# TensorFlow 1 · feed_dict\nsession.run(y, {x: 1})", "tf1", stdout="1.0")
NEW = code("# TensorFlow 2 · feed_dict\nsquare(1)", "tf2", stdout="1.0\nequal")
KERAS = code("# Keras · Model\nmodel = Sequential()", "keras")
RAW = code("# TensorFlow 2 · Model\nweights = zeros()", "tf2")
GRAPH = code("# TensorFlow 1 · Model\nweights = get_variable()", "tf1")
CELLS = (markdown("### feed_dict"), OLD, NEW, markdown("### Model"), KERAS, RAW, GRAPH)
OLD_PANE, NEW_PANE = ".migration > .tf1", ".migration > .tf2"


def test_the_row_is_marked_and_has_the_old_code_first() -> None:
    html = body(*CELLS)

    rows = re.findall(r'<div class="(dialects[^"]*)">', html)
    assert rows == ["dialects migration", "dialects either"]
    panes = re.findall(r'<div class="(dialect \w+)">', html)
    assert panes[:2] == ["dialect tf1", "dialect tf2"]
    assert "feed_dict\n" not in html  # a caption replaces the label


@pytest.mark.parametrize(
    "cells",
    [(OLD,), (NEW,), (KERAS, RAW), (KERAS, RAW, GRAPH)],
    ids=["only tf1", "only tf2", "keras and tf2", "all three"],
)
def test_no_other_row_is_marked(cells: tuple[Any, ...]) -> None:
    assert re.search(r'class="dialects(?: either)?"', body(*cells))
    assert "dialects migration" not in body(*cells)


def test_two_migrations_without_prose_between_them_are_two_rows() -> None:
    assert body(OLD, NEW, OLD, NEW).count("dialects migration") == 2


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    try:
        path = pdf.find_browser()
    except FileNotFoundError:
        pytest.skip("Chromium is not on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context()
        context.set_default_timeout(5_000)
        yield context
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file: Path = tmp_path_factory.mktemp("report") / "index.html"
    file.write_text(page(executed(*CELLS)), encoding="utf-8")
    return file


@pytest.mark.parametrize("dialect", ["keras", "tf2", "tf1"])
@pytest.mark.parametrize(("width", "side_by_side"), [(1440, True), (390, False)])
def test_old_and_new_are_visible_whatever_the_reader_has_chosen(
    chromium: Any, report: Path, width: int, side_by_side: bool, dialect: str
) -> None:
    tab = chromium.new_page()
    tab.set_viewport_size({"width": width, "height": 800})
    tab.goto(f"{report.as_uri()}?dialect={dialect}")

    old = tab.locator(OLD_PANE).bounding_box()
    new = tab.locator(NEW_PANE).bounding_box()
    assert tab.locator(OLD_PANE).is_visible()
    assert tab.locator(NEW_PANE).is_visible()
    if side_by_side:
        assert old["y"] == new["y"]
        assert old["x"] + old["width"] <= new["x"]
        assert old["width"] == new["width"]
    else:
        assert old["x"] == new["x"]
        assert old["y"] + old["height"] <= new["y"]
    assert tab.locator(".migration [role=tab]").count() == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.close()


@pytest.mark.parametrize(("chosen", "hidden"), [("tf2", "tf1"), ("tf1", "tf2")])
def test_the_switch_still_hides_the_other_tensorflow_beside_keras(
    chromium: Any, report: Path, chosen: str, hidden: str
) -> None:
    tab = chromium.new_page()
    tab.set_viewport_size({"width": 1440, "height": 800})
    tab.goto(f"{report.as_uri()}?dialect={chosen}")
    row = ".dialects:not(.migration)"
    assert tab.locator(f"{row} > .keras").is_visible()
    assert tab.locator(f"{row} > .{chosen}").is_visible()
    assert not tab.locator(f"{row} > .{hidden}").is_visible()
    tab.close()
