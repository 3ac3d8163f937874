"""How large the report is, how long it takes to render, and to load in Chromium.

Renders the executed notebooks that `make report` left in reports/, and opens the page
in a browser of its own, over and over. Writes report_page.md beside this file.
"""

import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from playwright.sync_api import sync_playwright

from kvt.report import build, notebooks, parameters, pdf, provenance
from kvt.report.merge import Executed
from kvt.report.render import render

ROUNDS = 7
REPORTS = Path(__file__).parents[1] / "reports"


def executed() -> list[Executed]:
    """Return the last report's notebooks as run; the values do not matter here."""
    runs = []
    for path in sorted((REPORTS / "notebooks").glob("*.ipynb")):
        notebook = notebooks.read(path)
        runs.append(Executed(path.stem, notebook, parameters.read(notebook), {}))
    if not runs:
        raise SystemExit(f"no notebooks in {REPORTS / 'notebooks'}; make report first")
    return runs


def rendering(runs: list[Executed]) -> tuple[str, list[float]]:
    """Render several times; return the page and the seconds."""
    source = provenance.gather(build.committed_notebooks(), REPORTS / "results")
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        page = render(runs, reason="as in the last report", provenance=source)
        seconds.append(time.perf_counter() - started)
    return page, seconds


def loading(page: str) -> list[float]:
    """Open the page several times; return seconds until it answers a script."""
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
    figures = (statistics.median(seconds), min(seconds), max(seconds))
    return f"| {name} | {' | '.join(f'{figure:.2f} s' for figure in figures)} |"


def main() -> None:
    page, rendered = rendering(executed())
    text = f"""# The report's page

{len(page.encode()) / 1e6:.2f} MB.

| | median of {ROUNDS} | lowest | highest |
| --- | ---: | ---: | ---: |
{row("rendering", rendered)}
{row("loading, until it answers", loading(page))}

Python {platform.python_version()}, nbconvert {version("nbconvert")}, \
{os.cpu_count()} threads, {platform.machine()}.
"""
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
