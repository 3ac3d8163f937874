"""How large the report is, and how long it takes to render and to load.

Renders the executed notebooks in reports/ several times, and opens the page in Chromium
several times. Run `make report` first. Writes report_page.md beside this file.
"""

import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from playwright.sync_api import sync_playwright

from kvt.compare.results import NOTEBOOKS
from kvt.report import pdf
from kvt.report.plan import Chapter, find, read
from kvt.report.provenance import gather
from kvt.report.render import render

ROUNDS = 7
REPORTS = Path(__file__).parents[1] / "reports"


def rendering(chapters: list[Chapter]) -> tuple[str, list[float]]:
    """Render several times; return the page and the seconds."""
    provenance = gather(NOTEBOOKS, REPORTS / "results")
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        page = render(chapters, reason="as in the last report", provenance=provenance)
        seconds.append(time.perf_counter() - started)
    return page, seconds


def loading(page: str) -> list[float]:
    """Open the page several times; return the seconds until it runs a script."""
    seconds = []
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as driver:
        file = Path(directory) / "index.html"
        file.write_text(page, encoding="utf-8")
        browser = driver.chromium.launch(
            executable_path=str(pdf.find_browser()), args=["--no-sandbox"]
        )
        for _ in range(ROUNDS):
            tab = browser.new_page()
            started = time.perf_counter()
            tab.goto(file.as_uri(), wait_until="load")
            tab.evaluate("new Promise(requestAnimationFrame)")
            seconds.append(time.perf_counter() - started)
            tab.close()
        browser.close()
    return seconds


def row(name: str, seconds: list[float]) -> str:
    """Return a line of the table."""
    shown = (statistics.median(seconds), min(seconds), max(seconds))
    return f"| {name} | {' | '.join(f'{each:.2f} s' for each in shown)} |"


def main() -> None:
    page, rendered = rendering(read(find(REPORTS / "notebooks")))
    text = f"""# The report's page

{len(page.encode()) / 1e6:.2f} MB.

| | median of {ROUNDS} | lowest | highest |
| --- | ---: | ---: | ---: |
{row("rendering", rendered)}
{row("loading, until it runs a script", loading(page))}

Python {platform.python_version()}, nbconvert {version("nbconvert")}, \
{os.cpu_count()} threads, {platform.machine()}.
"""
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
