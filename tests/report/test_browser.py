"""The report in a real browser, used as its readers use it."""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode

from kvt.report import pdf
from kvt.report.book import pages_of
from kvt.report.parameters import Parameter
from tests.report.pages import (
    ANSI,
    SCRIPT,
    SVG,
    book,
    code,
    executed,
    markdown,
    page,
)

pytestmark = pytest.mark.long

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing"
)
try:
    BROWSER = pdf.find_browser()
except FileNotFoundError:
    pytest.skip("Chromium is not on the PATH", allow_module_level=True)

COMMITTED = Path(__file__).parents[2] / "reports"
FILES = pages_of(COMMITTED)
WIDTHS = (360, 768, 1440)
SCHEMES = ("light", "dark")
PHONE, LAPTOP = 360, 1440
NOTHING = "Found 0 accessibility violations:\n"
# What the page may not do, noted by the page itself before its first line.
WATCH = """
window.blocked = [];
addEventListener("securitypolicyviolation", (e) => blocked.push(e.violatedDirective));
"""
# Contrast follows from how an element and all around it look. axe takes milliseconds to
# judge one, and the report has 23,000: let it judge every look, but none over 6 times.
FEW_OF_A_LOOK = """
axe.configure({rules: [{id: "color-contrast", selector: "[data-judged]"}]});
const properties = ["color", "background", "font-size", "font-weight", "opacity",
  "position", "filter", "text-shadow", "mix-blend-mode", "-webkit-text-stroke"];
const looks = new Map([[document, 0]]), numbers = {}, times = {};
for (const it of document.querySelectorAll("*")) {  // a parent before its children
  const style = getComputedStyle(it), around = looks.get(it.parentNode);
  const look = [around, ...properties.map((name) => style.getPropertyValue(name))];
  const number = numbers[look] ??= Object.keys(numbers).length + 1;
  looks.set(it, number);
  const text = [...it.childNodes].filter((child) => child.nodeType === 3);
  const length = text.map((one) => one.data.trim()).join("").length;
  // Neither what is hidden nor a single letter, which axe lets pass, stands for others.
  const judged = [number, it.checkVisibility(), Math.min(length, 2)];
  times[judged] = (times[judged] ?? 0) + 1;
  if (times[judged] <= 6) it.dataset.judged = "";
}
// No other rule asks about a token, which has a class and text and nothing else.
for (const it of document.querySelectorAll("pre i:not([data-judged])")) {
  const bare = it.getAttributeNames().every((name) => name === "class");
  if (bare && !it.children.length) it.replaceWith(it.textContent);
}
"""
PLOT = """<svg xmlns="http://www.w3.org/2000/svg" width="300" height="80"
 viewBox="0 0 300 80"><text x="9" y="40" fill="currentColor">loss</text>
<path d="M9 60L290 70" stroke="#d47f00" stroke-width="3"/></svg>"""
TABLE = """| model | dialect | apart from Keras | test accuracy | seconds |
| --- | --- | ---: | ---: | ---: |
| [The line](01_line.ipynb) | Keras | reference | 1 | 2 |
| | TensorFlow 2 | [0 ulp](01_line.ipynb#Do-they-agree?) | 1 | 2 |
"""
PROGRAM = "import math\n\nprint(math.pi)"
LEGEND = "Numbers mark what corresponds:\n\n1. the layer\n2. the `loss`"
KERAS = "# Keras · Model\nlayer = 1  # (1)\nmodel.compile(loss='mse')  # (2)"
TF2 = "\n".join(
    [
        "# TensorFlow 2 · Model",
        "tensor = variable @ weights  # (1)",
        *(f"further = {number}" for number in range(70)),
        f"reduce_mean({'x' * 50})  # (2)",
        "tensor_again = layer(2)  # (1)",
    ]
)
TF1 = "# TensorFlow 1 · Model\nplaceholder = 1  # (1)\nsession = 2  # (2)"


def row(name: str, text: str = "prose") -> list[NotebookNode]:
    return [
        markdown(f"### {name}\n\n{text} of {name}"),
        code(f"# Keras · {name}\nkeras = '{name}'", "keras", stdout="from Keras"),
        code(f"# TensorFlow 2 · {name}\nraw = '{name}'", "tf2", stdout="from two"),
        code(f"# TensorFlow 1 · {name}\nold = '{name}'", "tf1", stdout="from one"),
    ]


def section() -> list[NotebookNode]:
    plot = {"image__svg+xml": PLOT, "text__plain": "Loss over two epochs."}
    return [
        markdown("### Imports\n\n" + "prose " * 400),
        code("import os\n\nos.name", text__plain="'posix'"),
        markdown("## The model\n\n$$\\hat{y} = x W + b + " + "b + " * 40 + "b$$"),
        markdown(LEGEND, "legend"),
        markdown("### Model\n\nA layer."),
        code(KERAS, "keras", stdout="of Keras"),
        code(TF2, "tf2", stdout="wide " * 60),
        code(TF1, "tf1"),
        *row("Training"),
        markdown("```\ntensorboard --logdir logs\n```"),
        code(PROGRAM, "program"),
        markdown("## Do they agree?\n\nTo the last bit."),
        code("plot()", "hide-input", **plot),
        code("plot()", "hide-input", **plot),
        markdown("### Folded part\n\nIt is closed.", "folded"),
        markdown("#### Inner\n\nIn it."),
        code("inner()", "folded"),
        markdown("## What the model learned\n\n" + "more " * 300),
    ]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small report with one of everything."""
    numbers = {"epochs": Parameter("epochs", int, 2, "passes")}
    comparison = {"results_dir": Parameter("results_dir", str, "", "where")}
    file: Path = tmp_path_factory.mktemp("report") / "index.html"
    text = page(
        executed(*section(), name="01_line", parameters=numbers, values={"epochs": 3}),
        executed(*section(), name="02_digits"),
        executed(
            markdown("## At a glance"),
            code("table()", text__markdown=TABLE),
            name="08_comparison",
            parameters=comparison,
        ),
    )
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def paged(report: Path) -> Path:
    """The directory of a report of several pages."""
    plot = {"image__svg+xml": PLOT, "text__plain": "Loss over two epochs."}
    pages = book(
        executed(
            *row("Training"),
            markdown("## val_accuracy by epoch\n\nThe val_accuracy."),
            name="03_model",
            title="Model",
        ),
        executed(
            markdown("## The loop of fit\n\nIt trains."),
            *row("Rung"),
            name="00_inside_fit",
            title="Inside fit",
        ),
        executed(
            markdown("A no\u00a0break, a line\nend."),
            markdown("## Early stopping\n\nStop."),
            markdown("## Function arguments\n\nOnce feed_dict."),
            name="05_optimizers",
            title="Optimizers",
        ),
        executed(
            markdown("## Kinds"),
            code("a_name_in_code = 1"),
            code("plot()", "hide-input", **plot),
            markdown("### Dropout\n\nWhat dropout does."),
            markdown("## No seed\n\nA seed."),
            name="07_regularization",
            title="Regularization",
        ),
    )
    directory = report.parent / "pages"
    directory.mkdir()
    for file, text in pages.items():
        (directory / file).write_text(text, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


Visit = Callable[..., Any]


@pytest.fixture
def visit(chromium: Any, report: Path) -> Iterator[Visit]:
    """Open the report as somebody would; nothing may leave it, be blocked, be said."""
    contexts, said, requests = [], [], []

    def open_(
        width: int = LAPTOP,
        height: int = 800,
        *,
        query: str = "",
        file: Path = report,
        init: str = "",
        **options: Any,
    ) -> Any:
        viewport = {"width": width, "height": height}
        context = chromium.new_context(viewport=viewport, **options)
        context.add_init_script(WATCH + init)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(5_000)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: (said.append("a dialog"), dialog.dismiss()))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(file.as_uri() + query)
        return tab

    yield open_
    scripted = [context for context in contexts if context.pages]
    for context in scripted:
        for tab in context.pages:
            assert tab.evaluate("window.blocked ?? []") == []
        context.close()
    assert said == []
    own = (report.parent.parent.as_uri(), COMMITTED.as_uri(), "data:", "blob:")
    assert [url for url in requests if not url.startswith(own)] == []


def visible(tab: Any, selector: str) -> int:
    return int(tab.locator(selector).locator("visible=true").count())


def top(tab: Any, selector: str) -> float:
    return float(tab.locator(selector).first.bounding_box()["y"])


def lit(tab: Any) -> list[str]:
    """Dialects whose lines are lit, and the texts of these lines."""
    return list(
        tab.locator(".line.lit").evaluate_all(
            "lines => lines.map(line => line.textContent.trim())"
        )
    )


def in_view(tab: Any, selector: str) -> bool:
    """Whether the first match lies in the window, and not under the bar."""
    script = """element => {
      const { top, bottom, left, right } = element.getBoundingClientRect();
      const bar = document.querySelector(".bar").getBoundingClientRect().bottom;
      const across = left >= -1 && right <= innerWidth + 1;
      return across && top >= bar - 1 && bottom <= innerHeight + 1;
    }"""
    return bool(tab.locator(selector).first.evaluate(script))


def until(tab: Any, holds: Callable[[], bool]) -> None:
    """Wait: Playwright's own way evaluates strings, which the page's policy blocks."""
    for _ in range(200):
        if holds():
            return
        tab.wait_for_timeout(50)
    pytest.fail("it did not happen within 10 s")


# Always


@pytest.mark.parametrize("dialect", ["tf2", "tf1"])
def test_page_never_scrolls_sideways(visit: Visit, dialect: str) -> None:
    tab = visit(query=f"?dialect={dialect}")
    for width in (320, *WIDTHS, 999, 1000, 1399, 1400):
        tab.set_viewport_size({"width": width, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        tab.evaluate("scrollTo(100, 0)")
        assert tab.evaluate("scrollX") == 0


WIDE = pytest.mark.wide
SIGHTS = [(PHONE, "light"), (768, "dark"), (LAPTOP, "light")]
MORE = [(PHONE, "dark"), (768, "light"), (LAPTOP, "dark")]


@pytest.mark.parametrize(
    ("width", "scheme"), [*SIGHTS, *(pytest.param(*it, marks=WIDE) for it in MORE)]
)
def test_axe_finds_nothing(visit: Visit, width: int, scheme: str) -> None:
    tab = visit(width, color_scheme=scheme)
    tab.locator(".mark").locator("visible=true").first.click()
    tab.get_by_role("searchbox").fill("loss")
    assert found(axe.Axe(), tab) == NOTHING
    tab.keyboard.press("Escape")
    tab.locator("details").evaluate_all("all => all.forEach(it => it.open = true)")
    if width < LAPTOP:
        tab.locator(".drawer").click()
    assert found(axe.Axe(), tab) == NOTHING


# Each page in one of these; the index in two, and where there is time, in all.
LOOKS = [(390, "light"), (768, "dark"), (1440, "light"), (1024, "dark")]


@pytest.mark.parametrize(
    ("file", "width", "scheme"),
    [
        *(("index.html", *look) for look in LOOKS[:1] + LOOKS[3:]),
        *(pytest.param("index.html", *look, marks=WIDE) for look in LOOKS[1:3]),
        *((file, *LOOKS[at % len(LOOKS)]) for at, file in enumerate(FILES[1:])),
    ],
)
def test_committed_report_is_as_clean(
    visit: Visit, file: str, width: int, scheme: str
) -> None:
    tab = visit(width, color_scheme=scheme, file=COMMITTED / file)
    tab.locator("details").evaluate_all("all => all.forEach(it => it.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert found(few_of_a_look(), tab) == NOTHING


def found(judge: Any, tab: Any) -> str:
    """Return what axe finds; it may be short on what is as it should be."""
    options = {"resultTypes": ["violations"]}
    return str(judge.run(tab, options=options).generate_report())


def few_of_a_look() -> Any:
    return axe.Axe(axe.Axe().axe_script + FEW_OF_A_LOOK)


def test_a_single_pale_word_is_found_among_few_of_a_look(visit: Visit) -> None:
    tab = visit()
    number = tab.locator("pre i").get_by_text("50", exact=True).first
    number.evaluate("it => it.style.color = '#ccc'")
    assert "insufficient color contrast" in found(few_of_a_look(), tab)


def test_committed_report_is_small_and_of_a_commit() -> None:
    texts = {path.name: path.read_text("utf-8") for path in COMMITTED.glob("*.html")}
    assert sorted(texts) == sorted(FILES)
    sizes = {file: len(text.encode()) for file, text in texts.items()}
    assert max(sizes.values()) <= 1.2e6, sizes
    assert sum(sizes.values()) <= 4e6, sizes
    assert "with changes not committed" not in texts["provenance.html"]
    assert "MNIST" in texts["provenance.html"]


def test_committed_index_is_short_on_screen_and_on_paper_and_loads_at_once(
    visit: Visit, tmp_path: Path
) -> None:
    from pypdf import PdfReader

    tab = visit(LAPTOP, 900, file=COMMITTED / "index.html")
    height = tab.evaluate("document.documentElement.scrollHeight")
    assert height <= 45 * 900
    seconds = []
    for _ in range(3):
        tab.reload()
        entry = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
        seconds.append(tab.evaluate(entry) / 1000)
    assert min(seconds) <= 0.8  # a third of it on a machine that does nothing else
    tab.pdf(path=tmp_path / "index.pdf", prefer_css_page_size=True)
    sheets = PdfReader(tmp_path / "index.pdf").pages
    assert len(sheets) <= 60
    # To extract a sheet's text takes long: only of those that are drawn in few steps.
    drawn = {at: len(each.get_contents().get_data()) for at, each in enumerate(sheets)}
    emptiest = sorted(drawn, key=drawn.__getitem__)[:6]
    assert [at for at in emptiest if len(sheets[at].extract_text()) < 100] == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_figures_take_the_colors_of_the_theme(visit: Visit, scheme: str) -> None:
    tab = visit(color_scheme=scheme)
    fill = tab.locator("figure text").first.evaluate("it => getComputedStyle(it).fill")
    assert fill == tab.evaluate("getComputedStyle(document.body).color")


# Dialects


def test_keras_stands_left_of_tensorflow_in_every_row(visit: Visit) -> None:
    tab = visit()
    rows = tab.locator(".dialects")
    assert rows.count() == 4
    for index in range(rows.count()):
        keras, tensorflow = (
            rows.nth(index).locator(f".dialect.{name}").bounding_box()
            for name in ("keras", "tf2")
        )
        assert keras["x"] + keras["width"] < tensorflow["x"]
        assert keras["y"] == tensorflow["y"]
    assert visible(tab, ".dialect.tf1") == 0


def test_switch_turns_every_row_keeps_the_place_and_is_remembered(visit: Visit) -> None:
    tab = visit()
    tab.locator("#digits-training").scroll_into_view_if_needed()
    tab.evaluate("scrollBy(0, 300)")
    before = top(tab, "#digits-training")
    tab.locator(".switch").get_by_text("TensorFlow 1").click()
    assert abs(top(tab, "#digits-training") - before) < 2
    assert (visible(tab, ".dialect.tf1"), visible(tab, ".dialect.tf2")) == (4, 0)
    assert visible(tab, ".dialect.keras") == 4
    tab.goto(tab.url.split("?")[0])
    assert (visible(tab, ".dialect.tf1"), visible(tab, ".dialect.tf2")) == (4, 0)
    assert tab.get_by_role("radio", name="TensorFlow 1").is_checked()


def test_switch_can_be_linked(visit: Visit) -> None:
    tab = visit(query="#digits-training")
    tab.locator(".switch").get_by_text("TensorFlow 1").click()
    assert tab.url.endswith("/index.html?dialect=tf1#digits-training")
    other = visit(query="?dialect=tf1#digits-training")
    assert (visible(other, ".dialect.tf1"), visible(other, ".dialect.tf2")) == (4, 0)
    assert in_view(other, "#digits-training")


def test_link_to_a_line_of_the_other_dialect_shows_it(visit: Visit) -> None:
    tab = visit(query="#digits-tf1-2")
    assert visible(tab, "#digits-tf1-2") == 1
    assert in_view(tab, "#digits-tf1-2")


def test_page_works_where_storage_is_forbidden(visit: Visit) -> None:
    forbid = "Object.defineProperty(window, 'localStorage', {get() { throw 'no'; }});"
    tab = visit(init=forbid)
    tab.locator(".switch").get_by_text("TensorFlow 1").click()
    assert visible(tab, ".dialect.tf1") == 4
    tab.locator("#theme").click()
    assert tab.locator("#theme").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("width", [PHONE, 768])
def test_dialects_are_below_each_other_on_a_narrow_screen(
    visit: Visit, width: int
) -> None:
    tab = visit(width)
    assert (visible(tab, ".dialect.keras"), visible(tab, ".dialect.tf2")) == (4, 4)
    assert visible(tab, ".dialect.tf1") == 0
    keras, raw = (tab.locator(f".{name} > .source").first for name in ("keras", "tf2"))
    above, below = keras.bounding_box(), raw.bounding_box()
    assert above["x"] == below["x"]
    assert above["y"] + above["height"] < below["y"]
    tab.get_by_role("radio", name="TensorFlow 1").check(force=True)
    assert (visible(tab, ".dialect.tf1"), visible(tab, ".dialect.tf2")) == (4, 0)
    assert tab.get_by_role("tab").count() == 0


# Marks

ONE = ["layer = 1", "tensor = variable @ weights", "tensor_again = layer(2)"]


def test_pointing_at_a_line_lights_its_counterparts(visit: Visit) -> None:
    tab = visit()
    tab.locator("#line-keras-1").hover()
    until(tab, lambda: lit(tab) == [*ONE, "placeholder = 1"])
    assert tab.locator(".idea.lit").text_content() == "the layer"
    tab.mouse.move(1, 1)  # the bar, which stays in its place while the page scrolls
    until(tab, lambda: lit(tab) == [])


def test_pointing_at_a_mark_scrolls_to_its_counterpart(visit: Visit) -> None:
    tab = visit()
    tab.locator("#line-model").evaluate("it => it.scrollIntoView()")
    assert not in_view(tab, "#line-tf2-2 .mark")
    tab.locator("#line-keras-2 .mark").hover()
    until(tab, lambda: in_view(tab, "#line-tf2-2 .mark"))
    assert in_view(tab, "#line-keras-2")  # the shorter column waits


def test_focusing_a_mark_lights_its_counterparts_and_escape_ends_it(
    visit: Visit,
) -> None:
    tab = visit()
    mark = tab.get_by_role("link", name="1: the layer").first
    mark.focus()
    until(tab, lambda: lit(tab) == [*ONE, "placeholder = 1"])
    tab.keyboard.press("Escape")
    until(tab, lambda: lit(tab) == [])


@pytest.mark.parametrize("width", [1024, LAPTOP])
def test_label_of_a_lit_mark_lies_within_its_pane(visit: Visit, width: int) -> None:
    tab = visit(width)
    tab.locator("#line-tf2-2 .mark").focus()
    script = """mark => {
      const { width } = getComputedStyle(mark, "::after");
      const own = mark.getBoundingClientRect();
      const below = mark.classList.contains("below");
      const end = below ? own.right : own.right + parseFloat(width);
      return [below, end <= mark.closest("pre").getBoundingClientRect().right];
    }"""
    for name in ("keras", "tf2"):
        mark = tab.locator(f"#line-{name}-2 .mark")
        below, within = mark.evaluate(script)
        assert within
        assert not (below and name == "keras")


def test_mark_opens_in_a_new_tab_like_any_link(visit: Visit) -> None:
    tab = visit()
    with tab.context.expect_page() as other:
        tab.locator("#line-keras-1 .mark").click(modifiers=["ControlOrMeta"])
    assert "#line-" in other.value.url


def test_mark_opens_folded_code_to_show_its_counterpart(visit: Visit) -> None:
    tab = visit()
    tab.locator(".dialect.tf2 summary").first.click()
    assert visible(tab, "#line-tf2-1") == 0
    tab.locator("#line-keras-1 .mark").click()
    assert visible(tab, "#line-tf2-1") == 1


def test_tapping_a_mark_on_a_phone_leads_from_dialect_to_dialect(visit: Visit) -> None:
    tab = visit(PHONE, has_touch=True, is_mobile=True)
    box = tab.locator("#line-keras-2 .mark").bounding_box()
    assert min(box["width"], box["height"]) >= 24
    tab.locator("#line-keras-1 .mark").tap()
    until(tab, lambda: tab.locator("#line-tf2-1 .mark:focus").count() == 1)
    assert in_view(tab, "#line-tf2-1 .mark")
    assert lit(tab) == [*ONE, "placeholder = 1"]
    tab.locator("#line-tf2-1 .mark").tap()
    until(tab, lambda: tab.locator("#line-keras-1 .mark:focus").count() == 1)
    assert in_view(tab, "#line-keras-1 .mark")
    tab.keyboard.press("Escape")
    until(tab, lambda: lit(tab) == [])


@pytest.mark.parametrize("width", [PHONE, LAPTOP])
def test_legend_leads_to_the_line(visit: Visit, width: int) -> None:
    tab = visit(width)
    tab.locator("#line-idea-1 a").click()
    assert in_view(tab, "#line-keras-1 .mark")
    until(tab, lambda: lit(tab)[:1] == ["layer = 1"])


# Finding one's way


def test_contents_show_the_place_and_unfold_its_section(visit: Visit) -> None:
    tab = visit()
    current = tab.locator(".contents [aria-current=location]")
    assert current.text_content().strip() == "Start"
    entry = tab.locator(".contents a[href='#digits-training']")
    assert not entry.is_visible()
    tab.locator(".contents a[href='#digits']").click()
    until(tab, entry.is_visible)  # once the observer has told of the heading in view
    entry.click()
    assert in_view(tab, "#digits-training")
    until(tab, lambda: current.get_attribute("href") == "#digits-training")
    assert not tab.locator(".contents a[href='#line-training']").is_visible()


def test_contents_are_a_drawer_on_a_phone(visit: Visit) -> None:
    tab = visit(PHONE)
    contents = tab.get_by_role("navigation", name="Contents")
    assert contents.count() == 0
    tab.get_by_role("button", name="Contents").click()
    contents.get_by_role("link", name="Provenance").click()
    assert contents.count() == 0
    assert in_view(tab, "#provenance")


def test_every_heading_that_is_no_summary_has_a_link_to_itself(visit: Visit) -> None:
    script = """all => all.filter((one) =>
      one.querySelector(".anchor")?.hash !== `#${one.id}`).map((one) => one.id)"""
    tab = visit()
    headings = tab.locator("main :is(h2, h3, h4):not(summary *)")
    assert headings.count() > 0
    assert headings.evaluate_all(script) == []
    name = "The model"  # the link's name is not part of the heading's
    assert tab.get_by_role("heading", name=name, exact=True).count() == 2
    # A link in a summary would be a control in a control: the contents have it.
    assert tab.locator("summary a").count() == 0
    for name in ("folded-part", "run-again"):
        assert tab.locator(f"summary #line-{name}").count() == 1


def test_headings_and_figures_can_be_linked(visit: Visit) -> None:
    tab = visit()
    heading = tab.locator("#digits-training")
    heading.hover()
    heading.get_by_role("link", name="Link to this heading").click()
    assert tab.url.endswith("#digits-training")
    tab.get_by_role("link", name="Figure 2.2", exact=True).click()
    assert tab.url.endswith("#figure-2-2")
    captions = tab.locator("figcaption").all_text_contents()
    assert captions == [
        f"Figure {number} Loss over two epochs." for number in (1.1, 1.2, 2.1, 2.2)
    ]
    assert tab.get_by_role("img", name="Figure 2.2 Loss over two epochs.").count() == 1


def test_evidence_is_one_click_from_the_table_that_opens_the_page(visit: Visit) -> None:
    tab = visit()
    assert in_view(tab, "table")
    assert in_view(tab, ".claim")
    tab.get_by_role("link", name="0 ulp").click()
    assert in_view(tab, "#line-do-they-agree")


# Search


def places(tab: Any, words: str) -> list[str]:
    """Search; return the headings found, with those above them."""
    tab.get_by_role("searchbox").fill(words)
    panel = tab.locator("#found")
    until(tab, lambda: not words.strip() or panel.is_visible())
    tab.wait_for_timeout(50)
    return [it.replace("\n", " | ") for it in panel.locator("li").all_inner_texts()]


def said(tab: Any) -> str:
    return str(tab.locator("#found output").text_content())


def test_search_finds_headings_and_words_of_all_pages_from_any_page(
    visit: Visit, paged: Path
) -> None:
    tab = visit(file=paged / "provenance.html")
    assert places(tab, "dropout") == ["Dropout | 07 Regularization › Kinds"]
    tab.get_by_role("link", name="Dropout").click()
    until(tab, lambda: tab.url.endswith("/regularization.html#regularization-dropout"))
    assert in_view(tab, "#regularization-dropout")
    assert tab.evaluate("CSS.highlights.get('found').size") == 2
    assert not tab.locator("#found").is_visible()
    assert places(tab, "a_name_in_code")[0].startswith("Kinds | 07 Regularization")
    assert places(tab, "name")[0].startswith("Kinds | ")  # a word in a name
    assert places(tab, "no break") == ["05 Optimizers"]  # a no-break space
    assert places(tab, "line end") == ["05 Optimizers"]  # a line's end
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    until(tab, lambda: tab.url.endswith("/optimizers.html#optimizers"))


@pytest.mark.parametrize(
    ("words", "heading"),
    [
        ("training loop", "The loop of fit"),
        ("feed_dict", "Function arguments"),
        ("val_acc", "val_accuracy by epoch"),
        ("not reproducible", "No seed"),
        ("EarlyStopping", "Early stopping"),
        ("early-stopping", "Early stopping"),
        ("How do I use early stopping?", "Early stopping"),
    ],
)
def test_search_knows_what_readers_mean(
    visit: Visit, paged: Path, words: str, heading: str
) -> None:
    assert places(visit(file=paged / "index.html"), words)[0].startswith(heading)


def test_search_without_a_match_suggests_and_hides_nothing(
    visit: Visit, paged: Path
) -> None:
    tab = visit(file=paged / "index.html")
    before = tab.locator("main").inner_text()
    assert places(tab, "droppout") == ["Dropout | 07 Regularization › Kinds"]
    assert said(tab) == "No place has exactly these words. The nearest:"
    assert "Early stopping | 05 Optimizers" in places(tab, "stopping xyzzy")
    assert said(tab) == "No place has all of these words. The nearest:"
    chapters = places(tab, "xyzzy")
    assert said(tab) == "No place has “xyzzy”. The report's chapters:"
    assert chapters[0] == "Start"
    assert chapters[-1] == "Provenance"
    tab.keyboard.press("Enter")
    assert tab.url.endswith("/index.html")
    assert tab.locator("#found").is_visible()
    assert tab.locator("main").inner_text() == before
    tab.keyboard.press("Escape")
    assert tab.get_by_role("searchbox").input_value() == ""
    assert not tab.locator("#found").is_visible()
    assert places(tab, " \n ") == []
    assert not tab.locator("#found").is_visible()


def test_search_result_opens_what_is_folded_and_what_is_another_dialect(
    visit: Visit,
) -> None:
    tab = visit()
    places(tab, "Folded part")
    tab.locator("#found a").first.click()
    assert in_view(tab, "#line-folded-part")
    assert visible(tab, "#line-inner") == 0
    tab.goto(f"{tab.url.split('#')[0]}#line-inner")
    until(tab, lambda: visible(tab, "#line-inner") == 1)
    assert visible(tab, "#line-inner") == 1


def test_slash_leads_to_the_search(visit: Visit) -> None:
    tab = visit()
    tab.keyboard.press("/")
    tab.keyboard.type("loss/")
    assert tab.get_by_role("searchbox").input_value() == "loss/"


# From page to page


def test_old_addresses_of_the_single_page_lead_to_the_new_pages(
    visit: Visit, paged: Path
) -> None:
    for old, new in {
        "regularization-dropout": "regularization.html#regularization-dropout",
        "regularization": "regularization.html#regularization",
        "figure-7-1": "regularization.html#figure-7-1",
        "provenance": "provenance.html#provenance",
        "optimizers-gone": "optimizers.html#optimizers-gone",
        "model-training": "index.html#model-training",
        "nowhere": "index.html#nowhere",
    }.items():
        tab = visit(file=paged / "index.html", query=f"#{old}")
        until(tab, lambda tab=tab, new=new: tab.url.endswith(f"/{new}"))
    assert in_view(visit(file=paged / "index.html", query="#figure-7-1"), "figcaption")


def test_pages_lead_to_each_other_with_and_without_javascript(
    visit: Visit, paged: Path
) -> None:
    for script in (True, False):
        tab = visit(file=paged / "index.html", java_script_enabled=script)
        titles = []
        while tab.get_by_role("link", name="Next").count():
            tab.get_by_role("link", name="Next").click()
            titles.append(tab.title().partition(" · ")[0])
        assert titles == ["Inside fit", "Optimizers", "Regularization", "Provenance"]
        tab.locator(".contents").get_by_role("link", name="Model").click()
        assert tab.url.endswith("/index.html#model")


def test_dialect_is_remembered_from_page_to_page(visit: Visit, paged: Path) -> None:
    tab = visit(file=paged / "provenance.html")
    assert tab.get_by_role("radio").count() == 0  # it has no code
    assert not tab.locator("#fold").is_visible()
    tab = visit(file=paged / "index.html")
    tab.locator(".switch").get_by_text("TensorFlow 1").click()
    tab.get_by_role("link", name="Next").click()
    until(tab, lambda: "inside-fit" in tab.url)
    assert tab.get_by_role("radio", name="TensorFlow 1").is_checked()


# Code


def test_code_folds_piece_by_piece_and_all_at_once(visit: Visit) -> None:
    tab = visit()
    pieces = visible(tab, "details pre.code")
    summary = tab.locator(".dialect.keras summary").first
    summary.click()
    assert visible(tab, "details pre.code") == pieces - 1
    assert summary.inner_text() == "Keras, 2 lines"
    tab.get_by_role("button", name="Fold code").click()
    assert visible(tab, "details pre.code") == 0
    tab.get_by_role("button", name="Fold code").click()
    assert visible(tab, "details pre.code") == pieces


@pytest.mark.parametrize("clipboard", ["there", "missing"])
def test_copy_takes_the_code_without_its_marks(visit: Visit, clipboard: str) -> None:
    tab = visit(
        permissions=["clipboard-read", "clipboard-write"],
        init=""
        if clipboard == "there"
        else "Object.defineProperty(navigator, 'clipboard', {value: undefined});",
    )
    pane = tab.locator(".dialect.keras").first
    pane.hover()
    pane.get_by_role("button", name="Copy").click()
    pane.get_by_role("button", name="Copied").wait_for()
    field = tab.get_by_role("searchbox")
    field.evaluate(
        "it => it.addEventListener('paste', e => window.pasted ="
        " e.clipboardData.getData('text/plain'))"
    )
    field.focus()
    tab.keyboard.press("ControlOrMeta+v")
    wanted = "layer = 1\nmodel.compile(loss='mse')"
    until(tab, lambda: tab.evaluate("(window.pasted ?? '').trim()") == wanted)


# The browser's own tools


@pytest.mark.parametrize("words", ["placeholder%20%3D", "inner()"])
def test_the_browsers_search_finds_what_is_not_shown(visit: Visit, words: str) -> None:
    tab = visit(query=f"#:~:text={words}")  # as Ctrl-F does, it shows what it finds
    until(tab, lambda: "inner" in words or visible(tab, ".dialect.tf1 pre.code") == 4)
    if "inner" in words:
        until(tab, lambda: visible(tab, "pre:has-text('inner()')") >= 1)
        assert visible(tab, ".dialect.tf1") == 0
    else:
        assert tab.get_by_role("radio", name="TensorFlow 1").is_checked()


def test_select_all_leaves_out_the_text_of_buttons(visit: Visit) -> None:
    tab = visit()
    tab.keyboard.press("ControlOrMeta+a")
    text = tab.evaluate("getSelection().toString()")
    assert "model.compile" in text
    assert not re.search(r"^(Copy|Fold code|Dark|Beside.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("hash_", ["#100%", "#%E0%A4%A", "#line-training%", "#a b"])
def test_an_address_that_is_no_code_harms_nothing(visit: Visit, hash_: str) -> None:
    tab = visit(query=hash_)
    until(tab, lambda: tab.locator(".contents [aria-current]").count() == 1)
    tab.evaluate("location.hash = '%'")
    tab.locator(".switch").get_by_text("TensorFlow 1").click()
    assert visible(tab, ".dialect.tf1") == 4


def test_a_saved_page_is_the_same_when_it_is_opened_again(
    visit: Visit, report: Path
) -> None:
    tab = visit()
    tab.locator(".switch").get_by_text("TensorFlow 1").click()
    tab.locator("#line-tf1-1 .mark").hover()
    tab.wait_for_timeout(100)
    markup = "document.documentElement.outerHTML"
    first = tab.evaluate(markup)
    saved = report.with_name("saved.html")
    saved.write_text(f"<!DOCTYPE html>\n{first}", encoding="utf-8")
    again = visit(file=saved, query="?dialect=tf1")
    again.locator("#line-tf1-1 .mark").hover()
    again.wait_for_timeout(100)
    assert again.evaluate(markup) == first
    pane = again.locator(".dialect.keras").first
    pane.hover()
    pane.get_by_role("button", name="Copy").click()
    assert again.locator(".copy", has_text="Cop").count() == first.count('class="copy"')


def test_forced_colors_show_the_choice_and_what_is_lit(visit: Visit) -> None:
    tab = visit(forced_colors="active")
    ground = "it => getComputedStyle(it).backgroundColor"
    grounds = tab.locator(".switch label > span").evaluate_all(
        f"all => all.map({ground})"
    )
    assert len(set(grounds)) == 2
    tab.locator("#line-keras-1 .mark").focus()
    outline = "it => getComputedStyle(it).outlineStyle"
    assert tab.locator("#line-tf2-1").evaluate(outline) == "solid"


# Theme


@pytest.mark.parametrize("system", SCHEMES)
def test_theme_follows_the_system_until_switched(visit: Visit, system: str) -> None:
    tab = visit(color_scheme=system)
    other = SCHEMES[system == "light"]

    def theme() -> str:
        color = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        return "light" if color == "rgb(255, 255, 255)" else "dark"

    assert theme() == system
    button = tab.get_by_role("button", name="Dark theme")
    button.click()
    assert theme() == other
    assert button.get_attribute("aria-pressed") == str(other == "dark").lower()
    tab.reload()
    assert theme() == other
    button.click()
    assert theme() == system
    tab.emulate_media(color_scheme=other)
    assert theme() == other  # the system leads again


# Without a mouse, without JavaScript


@pytest.mark.parametrize("width", [PHONE, LAPTOP])
def test_everything_is_reached_by_tab_seen_and_not_under_the_bar(
    visit: Visit, width: int
) -> None:
    tab = visit(width)
    tab.evaluate("""() => {
      const able = "a[href], button, input, summary, [tabindex='0']";
      window.wanted = new Set([...document.querySelectorAll(able)]
        .filter((it) => it.checkVisibility() && it.tabIndex >= 0)
        .filter((it) => it.type !== "radio" || it.checked));
    }""")
    script = """() => {
      const it = document.activeElement;
      wanted.delete(it);
      const { top, bottom } = it.getBoundingClientRect();
      const bar = document.querySelector(".bar").getBoundingClientRect().bottom;
      const seen = it.closest(".bar, .skip") || (bottom > bar && top < innerHeight);
      const ringed = it.matches(".switch input + span, .switch input, :focus-visible");
      const away = it === document.body;
      return [away, Boolean(seen && ringed), it.outerHTML.slice(0, 120)];
    }"""
    for _ in range(400):
        tab.keyboard.press("Tab")
        away, seen, what = tab.evaluate(script)
        if away:
            break
        assert seen, what
    left = "() => [...wanted].map((it) => it.outerHTML.slice(0, 120))"
    assert tab.evaluate(left) == []


def test_keyboard_alone_does_everything(visit: Visit) -> None:
    tab = visit()
    press = tab.keyboard.press
    press("Tab")
    assert tab.locator(":focus").text_content() == "Skip to the report"
    press("Tab")
    press("Tab")
    assert tab.locator(":focus").get_attribute("value") == "tf2"
    press("ArrowRight")
    assert visible(tab, ".dialect.tf1") == 4
    press("Tab")
    tab.keyboard.type("compile")
    until(tab, lambda: visible(tab, "#found a") > 0)
    press("ArrowDown")
    assert tab.locator(":focus").text_content() == "Model01 The digits › The model"
    press("Escape")
    assert visible(tab, "#found") == 0
    press("Tab")
    press("Enter")
    assert visible(tab, "details pre.code") == 0
    press("Enter")
    press("Tab")
    press("Space")
    assert tab.locator("#theme").get_attribute("aria-pressed") == "true"
    tab.locator(".dialect.keras summary").first.focus()
    press("Enter")
    assert visible(tab, "#line-keras-1") == 0
    press("Enter")
    press("Tab")
    until(tab, lambda: lit(tab)[:1] == ["layer = 1"])


def test_without_javascript_all_is_there_and_no_control_is_dead(visit: Visit) -> None:
    for width in (PHONE, LAPTOP):
        tab = visit(width, java_script_enabled=False)
        for name in ("keras", "tf2", "tf1"):
            assert visible(tab, f".dialect.{name} pre.code") == 4
        text = tab.locator("main").inner_text()
        for words in ("placeholder = 1", "reduce_mean", "model.compile", "from one"):
            assert words in text
        controls = tab.locator("button, input, select").locator("visible=true")
        assert controls.all_text_contents() == (["Contents"] if width == PHONE else [])
        assert visible(tab, ".contents a[href='#digits-training']") == (width == LAPTOP)
        if width == PHONE:
            controls.first.click()
            assert visible(tab, ".contents a[href='#digits-training']") == 1


# A notebook's own markup


def test_markup_anywhere_in_a_notebook_cannot_run(visit: Visit, report: Path) -> None:
    cells = [
        markdown(f"## {SCRIPT}\n\n{SCRIPT} [link](javascript:alert(3))"),
        markdown(f"1. {SCRIPT}", "legend"),
        code(f"# Keras · Model\n'{SCRIPT}'  # (1)", "keras", stdout=SCRIPT + ANSI),
        code(f"'{SCRIPT}'  # (1)", "tf2", text__html=f"<p onclick='x'>{SCRIPT}</p>"),
        code("1", text__markdown=SCRIPT),
        code("2", **{"image__svg+xml": SVG, "text__plain": SCRIPT}),
        code("3", **{"application__javascript": "alert(4)", "text__plain": SCRIPT}),
    ]
    dataset = {"dataset": Parameter("dataset", str, SCRIPT, SCRIPT)}
    hostile = executed(*cells, parameters=dataset, values={"dataset": f"{SCRIPT}'\""})
    file = report.with_name("hostile.html")
    file.write_text(page(hostile), encoding="utf-8")
    for width in (PHONE, LAPTOP):
        tab = visit(width, file=file)
        tab.locator("#digits-keras-1 .mark").click()  # names an idea
        tab.get_by_role("searchbox").fill("alert")
        assert tab.locator("script").count() == 1
        assert tab.locator("main meta, body meta").count() == 0
        assert tab.url.startswith(file.as_uri())
        assert tab.locator("img, main svg [onload], [onclick]").count() == 0


def test_executed_notebook_is_downloaded_from_the_page_itself(visit: Visit) -> None:
    tab = visit(accept_downloads=True)
    tab.locator("#line-run-again").click()
    with tab.expect_download() as download:
        tab.get_by_role("link", name="Download the executed notebook").click()
    assert download.value.suggested_filename == "01_line.ipynb"
    notebook = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert "".join(notebook["cells"][0]["source"]) == "# The digits"


def test_without_javascript_the_notebook_is_downloaded_packed(visit: Visit) -> None:
    tab = visit(accept_downloads=True, java_script_enabled=False)
    tab.locator("#line-run-again").click()
    link = tab.get_by_role("link", name="Download the executed notebook")
    assert "compressed by gzip" in link.locator("..").inner_text()
    with tab.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == "01_line.ipynb.gz"
    notebook = json.loads(gzip.decompress(Path(download.value.path()).read_bytes()))
    assert "".join(notebook["cells"][0]["source"]) == "# The digits"


def test_program_is_downloaded_as_it_stands_on_the_page(visit: Visit) -> None:
    tab = visit(accept_downloads=True)
    with tab.expect_download() as download:
        tab.get_by_role("link", name="Download this program").first.click()
    assert download.value.suggested_filename == "01_line.py"
    program = Path(download.value.path()).read_text("utf-8")
    assert program == f"{PROGRAM}\n"
    assert tab.locator("pre", has_text="math.pi").first.inner_text() == program


# Paper


def test_print_shows_all_code_whatever_is_folded(visit: Visit) -> None:
    tab = visit(768)
    tab.locator("#fold").click()
    places(tab, "provenance")
    tab.emulate_media(media="print")
    for name in ("keras", "tf2", "tf1"):
        assert visible(tab, f".dialect.{name} pre.code") == 4
    printed = "pre.code:not(.aside *, .helpers *, .rerun *)"
    assert visible(tab, printed) == tab.locator(printed).count()
    assert visible(tab, "#line-inner") == 1
    for chrome in (".bar", "#found", ".copy", ".anchor", ".skip", ".turn", ".aside"):
        assert visible(tab, chrome) == 0
    assert visible(tab, ".contents a[href='#digits-training']") == 1


def test_pdf_has_an_outline_and_contents_with_page_numbers(
    report: Path, tmp_path: Path
) -> None:
    from pypdf import PdfReader

    file = tmp_path / "kvt.pdf"
    pdf.write(report.read_text("utf-8"), file, browser=BROWSER)
    pages = [each.extract_text() for each in PdfReader(file).pages]
    numbers = pdf.page_numbers(file)
    assert numbers["comparison"] < numbers["line"] < numbers["digits"]
    assert numbers["digits"] < numbers["provenance"] == len(pages)
    for name in ("line-training", "digits-do-they-agree", "provenance"):
        title = name.partition("-")[2].replace("-", " ").capitalize() or "Provenance"
        assert re.search(rf"{title}\W*\n?{numbers[name]}\b", pages[0])
    for word in ("placeholder = 1", "reduce_mean", "from one", "tensorboard --logdir"):
        assert sum(word in text for text in pages) >= 2
    for section in ("line", "digits", "provenance"):  # each begins a page
        start = rf"{numbers[section]}\s+(\d\d\s+The digits|Provenance)\n"
        assert re.match(start, pages[numbers[section] - 1])
    assert len(PdfReader(file).outline) > 0


def test_wide_tables_and_long_words_are_whole_on_paper(
    visit: Visit, report: Path, tmp_path: Path
) -> None:
    from pypdf import PdfReader

    names = [f"c{number}" for number in range(40)]
    rows = [names, ["---"] * 40, [f"v{number}" for number in range(40)]]
    wide = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    word = "".join(chr(ord("a") + number % 26) for number in range(300))
    cells = [
        code("1", text__markdown=wide),
        code("2", text__markdown=f"| a | b |\n| --- | --- |\n| {word} | after |"),
        code(f"'{word}'", stdout=word),
        markdown(word),
    ]
    file = report.with_name("wide.html")
    file.write_text(page(executed(*cells)), encoding="utf-8")
    tab = visit(file=file)
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 688, "height": 1000})  # A4 without its margins
    width = "document.documentElement.scrollWidth"
    assert tab.evaluate(width) <= 688
    tab.pdf(path=tmp_path / "wide.pdf", prefer_css_page_size=True)
    reader = PdfReader(tmp_path / "wide.pdf")
    text = "".join("".join(each.extract_text().split()) for each in reader.pages)
    assert text.count(word) == 4
    assert all(f"v{number}" in text for number in range(40))
