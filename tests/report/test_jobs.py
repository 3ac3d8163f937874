"""Five jobs of a reader, walked in a browser, in the committed notebooks' report."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvt.report import pdf
from kvt.report.plan import read
from tests.report.pages import book

pytestmark = pytest.mark.long

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
try:
    BROWSER = pdf.find_browser()
except FileNotFoundError:
    pytest.skip("Chromium is not on the PATH", allow_module_level=True)

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WIDTH, HEIGHT = 1440, 900
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Render the committed notebooks; return the address of the first page."""
    folder = tmp_path_factory.mktemp("report")
    for file, text in book(*read(NOTEBOOKS)).items():
        (folder / file).write_text(text, encoding="utf-8")
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER)
        yield started
        started.close()


@pytest.fixture
def start(browser: Any, report: str) -> Iterator[Any]:
    """Open the first page; nothing may be requested but pages, nor be logged."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    folder = report.removesuffix("index.html")
    page.on(
        "request",
        lambda it: it.url.startswith((folder, "data:", "blob:")) or told.append(it.url),
    )
    page.goto(report)
    yield page
    page.close()
    assert told == []


def click(page: Any, job: int) -> None:
    """Take the link of a job, and wait until its target is where the reader is."""
    link = page.locator(".jobs li").nth(job - 1).locator("a")
    target = link.get_attribute("href").partition("#")[2]
    link.click()
    heading = page.locator(f"[id='{target}']")
    heading.wait_for()
    page.wait_for_function(
        "id => Math.abs(document.getElementById(id).getBoundingClientRect().top) < 200",
        arg=target,
    )


def assert_near(page: Any, selector: str, text: str, screens: float = 2) -> Any:
    """Assert that an element with this text begins within so many screens."""
    elements, found = page.locator(selector, has_text=text), {}
    elements.first.wait_for(state="attached")  # a link may still open its page
    for one in elements.all():
        if box := one.bounding_box():  # else it is not shown
            found[box["y"]] = one
    near = [at for at in sorted(found) if 0 <= at <= screens * HEIGHT]
    assert near, f"{text} is at {sorted(found)}"
    return found[near[0]]


def test_the_first_screen_shows_pair_proof_and_causes(start: Any) -> None:
    assert "Keras" in start.locator("h1").inner_text()
    keras, tf2 = (start.locator(f".dialect.{it}").first for it in ("keras", "tf2"))
    for pane, words in ((keras, "model.compile("), (tf2, "w.assign_sub(")):
        assert words in pane.inner_text()
        box = pane.bounding_box()
        assert box["y"] + box["height"] <= HEIGHT
    last = ".causes .cause:last-child label"
    for selector in (".proof", last, ".panel >> nth=2", ".jobs h2"):
        box = start.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= HEIGHT, selector
    assert "25,450 of 25,450 weights identical" in start.inner_text(".proof")
    assert start.locator(".threads path").count() == 7
    links = start.locator(".jobs li a")
    assert links.count() == 5
    assert_near(start, "table th", "distance from Keras, ulp", 3)


def test_a_pointer_lights_both_lines_and_what_connects_them(start: Any) -> None:
    start.locator(".pair .keras .line[data-idea]").first.hover()
    assert start.locator(".pair .line.lit").count() == 2
    assert start.locator(".threads path.lit").count() == 1


def test_causes_change_the_program_by_keyboard(start: Any) -> None:
    pane = start.locator(".pair .tf2 code")
    before = pane.inner_text()
    start.locator(".cause input").first.focus()
    texts = set()
    for name in start.locator(".cause label").all_inner_texts()[1:]:
        start.keyboard.press("ArrowDown")
        shown = start.locator(".broken:visible")
        assert shown.count() == 1
        assert start.locator(".cause :checked + span").inner_text() == name
        old, new = (shown.locator(each).all_inner_texts() for each in ("del", "ins"))
        assert old != new
        if "Both sides" in shown.locator(".finding").inner_text():
            assert pane.inner_text() == before  # a pair of its own
        else:
            for one, other in zip(old, new, strict=True):
                assert one.strip() not in [
                    x.strip() for x in pane.inner_text().split("\n")
                ]
                assert other.strip() in pane.inner_text()
            assert pane.locator(".changed").count() == len(new)
        texts.add(shown.locator("svg").first.get_attribute("aria-label"))
    assert len(texts) >= 5  # real measurements, which differ
    start.locator(".cause label").first.click()
    assert pane.inner_text() == before


def test_a_saved_first_screen_keeps_its_cause_and_can_undo_it(
    start: Any, report: str
) -> None:
    pane = start.locator(".pair .tf2 code")
    before = pane.inner_text()
    start.locator(".cause label").nth(3).click()
    changed = pane.inner_text()
    start.wait_for_timeout(200)
    markup = start.evaluate("document.documentElement.outerHTML")
    saved = Path(report.removeprefix("file://")).with_name("saved.html")
    saved.write_text(f"<!DOCTYPE html>\n{markup}", encoding="utf-8")
    start.goto(saved.as_uri())
    start.wait_for_timeout(200)
    assert start.evaluate("document.documentElement.outerHTML") == markup
    assert pane.inner_text() == changed != before
    start.locator(".cause label").first.click()
    assert pane.inner_text() == before


@pytest.mark.parametrize("scripted", [True, False])
def test_a_phone_shows_pair_proof_and_causes_on_two_screens(
    scripted: bool, browser: Any, report: str
) -> None:
    page = browser.new_page(viewport=PHONE, java_script_enabled=scripted)
    page.goto(report)
    assert page.locator(".pair .dialect:visible").count() == 2
    for selector in (".proof", ".causes"):
        assert page.locator(selector).bounding_box()["y"] <= 2 * PHONE["height"]
    assert page.locator(".mark:visible").count() >= 14
    page.locator(".cause label").nth(3).click()
    assert page.locator(".broken:visible .finding").count() == 1
    assert page.locator(".broken:visible del").count() >= 1
    page.close()


def test_what_is_fit_in_raw_tensorflow(start: Any) -> None:
    click(start, 1)
    program = assert_near(start, "pre", "class FeedforwardNetwork", 1)
    text = program.inner_text()
    assert "GradientTape" in text
    assert "validation_split" in text
    assert "kvt" not in text


def test_why_is_my_port_two_points_off(start: Any) -> None:
    click(start, 2)
    script = assert_near(start, "pre", "def first_difference", 1)
    assert script.inner_text().count("yield ") == 5
    card = assert_near(start, ".cards li", "early metrics differ")
    assert "seeds differ by" in card.inner_text()
    assert "accuracy" in card.locator("em").inner_text()
    assert start.locator(".cards li").count() == 37
    card.locator("a").click()
    start.wait_for_function("scrollY > 1000")
    assert_near(start, "p", "Fix.")


def test_how_to_stop_early(start: Any) -> None:
    click(start, 3)
    text = assert_near(start, "pre", "def fit_until_it_stops", 1).inner_text()
    assert "import tensorflow as tf" in text
    assert "patience" in text
    assert "kvt" not in text
    assert "keras" not in text.lower()


def test_keras_or_raw_tensorflow(start: Any) -> None:
    click(start, 4)
    assert_near(start, "p", "Use Keras, unless", 1)
    middle = assert_near(start, "li", "own train_step", 1)
    middle.locator("a").click()
    assert_near(start, "pre", "def train_step(self, batch)")


def test_what_replaces_names_of_tensorflow_1(start: Any) -> None:
    click(start, 5)
    for name in ("placeholder", "feed_dict", "FileWriter"):
        assert_near(start, "tr", name)
