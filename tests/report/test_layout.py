"""Where things stand on a page: text, margin, full width, one column on phones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvt.report import pdf
from tests.report.pages import code, executed, markdown, page

pytestmark = pytest.mark.long

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
try:
    BROWSER = pdf.find_browser()
except FileNotFoundError:
    pytest.skip("Chromium is not on the PATH", allow_module_level=True)

WIDTHS = {"small": 320, "medium": 440, "text": 680, "large": 1080}


def plot(width: int) -> dict[str, str]:
    size = f'viewBox="0 0 {width} 200" width="{width}" height="200"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><path d="M0 0L9 9"/></svg>'
    return {"image__svg+xml": svg, "text__plain": "A line falls."}


CELLS = [
    markdown("## Results\n\n> **ulp**: the last place.\n\n" + "prose " * 200),
    *(
        cell
        for width in WIDTHS.values()
        for cell in (code("plot()", "hide-input", **plot(width)), markdown("more " * 9))
    ),
    code("wide = '" + "x" * 200 + "'", text__plain="short"),
    code("1", text__markdown="| a | long name |\n| --- | ---: |\n| one | 2 |\n| | 3 |"),
    markdown("### Model\n\nA row."),
    code("# Keras · Model\nlayer = 1", "keras"),
    code("# TensorFlow 2 · Model\ntensor = 1", "tf2"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=BROWSER, args=options)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    made: Path = tmp_path_factory.mktemp("layout") / "index.html"
    made.write_text(page(executed(*CELLS)), encoding="utf-8")
    return made.as_uri()


@pytest.fixture(params=[1440, 1024, 768, 390])
def tab(browser: Any, file: str, request: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": request.param, "height": 900})
    opened = context.new_page()
    opened.goto(file)
    yield opened
    context.close()


def place(tab: Any, selector: str) -> dict[str, float]:
    found: dict[str, float] = tab.locator(selector).first.bounding_box()
    found["right"] = found["x"] + found["width"]
    found["bottom"] = found["y"] + found["height"]
    return found


def is_wide(tab: Any) -> bool:
    return bool(tab.viewport_size["width"] >= 1000)


def test_margin_holds_captions_definitions_and_small_figures(tab: Any) -> None:
    text = place(tab, ".notebook .prose > p")
    chart, caption = (place(tab, f"figure.text {it}") for it in ("svg", "figcaption"))
    beside = [place(tab, it) for it in ("blockquote", "figure.small")]
    assert text["width"] <= 680
    if is_wide(tab):
        assert chart["width"] == 680
        assert caption["x"] >= chart["right"]
        assert abs(caption["y"] - chart["y"]) < 12
        assert all(it["x"] >= text["right"] for it in beside)
    else:
        assert caption["y"] >= chart["bottom"]
        assert all(it["x"] == text["x"] for it in beside)


def test_large_figures_and_rows_have_the_full_width(tab: Any) -> None:
    main = place(tab, ".notebook")
    for selector in ("figure.large", ".dialects"):
        assert place(tab, selector)["width"] == pytest.approx(main["width"], abs=1)
    drawn = place(tab, "figure.large svg")["width"]
    assert drawn >= 940 or is_wide(tab)  # legible: it scrolls


def test_nothing_lies_on_anything_else(tab: Any) -> None:
    names = ("svg", "figcaption", "pre", "table", "p", "h2", "h3", "h4", "blockquote")
    boxes = tab.evaluate(
        """names => [...document.querySelectorAll(names.map(n => `.notebook ${n}`))]
        .filter(it => it.checkVisibility() && !it.parentElement.closest("blockquote"))
        .map(it => {
          let {left, top, right, bottom} = it.getBoundingClientRect();
          const frame = it.closest("figure.large, .table")?.getBoundingClientRect();
          if (frame) right = Math.min(right, frame.right);
          return [it.tagName, left, top, right, bottom];
        })""",
        names,
    )
    assert len(boxes) > 15
    for i, (one, left, top, right, bottom) in enumerate(boxes):
        for other, left2, top2, right2, bottom2 in boxes[:i]:
            overlap = (
                min(right, right2) - max(left, left2),
                min(bottom, bottom2) - max(top, top2),
            )
            # A paragraph's box goes on below a float; its lines do not.
            if {one, other} == {"P", "BLOCKQUOTE"}:
                continue
            assert min(overlap) <= 1, (one, other, overlap)


def test_rows_of_a_table_are_cards_on_a_phone(tab: Any) -> None:
    cells = tab.locator("td[data-label='long name']")
    assert cells.all_text_contents() == ["2", "3"]
    label = "it => getComputedStyle(it, '::before').content"
    is_phone = tab.viewport_size["width"] < 600
    assert (cells.first.evaluate(label) == '"long name"') == is_phone
    header = place(tab, "thead")
    assert (header["height"] <= 1) == is_phone
    if is_phone:
        assert place(tab, "tbody tr")["width"] == place(tab, ".table")["width"]


def test_code_fades_only_where_there_is_more_of_it(tab: Any) -> None:
    def fades(selector: str) -> list[bool]:
        own = tab.locator(selector).first
        read = "(it, name) => parseFloat(getComputedStyle(it).getPropertyValue(name))"
        return [own.evaluate(read, name) > 1 for name in ("--left", "--right")]

    wide = "pre.code:has-text('wide')"
    if tab.viewport_size["width"] < 600:
        assert fades(wide) == [False, False]  # it wraps
        return
    assert fades(wide) == [False, True]
    tab.locator(wide).first.evaluate("it => { it.scrollLeft = 1e6; }")
    tab.wait_for_timeout(100)
    assert fades(wide) == [True, False]
    assert fades("pre.text:has-text('short')") == [False, False]
