"""How large the report is, and how long it takes to render and to load.

Renders the executed notebooks in reports/ several times, and opens each page several
times in Chromium. Run `make report` first. Writes report_page.md beside this file.
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
from kvt.report.plan import Chapter, read
from kvt.report.provenance import gather
from kvt.report.render import pages

ROUNDS = 7
REPORTS = Path(__file__).parents[1] / "reports"


def rendering(chapters: list[Chapter]) -> tuple[dict[str, str], list[float]]:
    """Render several times; return the pages and the seconds."""
    provenance = gather(NOTEBOOKS, REPORTS / "results", "as in the last report")
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        made = pages(chapters, provenance)
        seconds.append(time.perf_counter() - started)
    return made, seconds


def loading(made: dict[str, str]) -> dict[str, list[float]]:
    """Open each page several times; return the seconds until it runs a script."""
    seconds: dict[str, list[float]] = {name: [] for name in made}
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(pdf.find_browser()), args=["--no-sandbox"]
        )
        for name, text in made.items():
            file = Path(directory) / name
            file.write_text(text, encoding="utf-8")
            for _ in range(ROUNDS):
                tab = browser.new_page()
                started = time.perf_counter()
                tab.goto(file.as_uri(), wait_until="load")
                tab.evaluate("new Promise(requestAnimationFrame)")
                seconds[name].append(time.perf_counter() - started)
                tab.close()
        browser.close()
    return seconds


def row(name: str, size: float, seconds: list[float]) -> str:
    """Return a line of the table; `size` is in bytes."""
    shown = (statistics.median(seconds), min(seconds), max(seconds))
    times = " | ".join(f"{each:.2f} s" for each in shown)
    return f"| {name} | {size / 1e6:.2f} MB | {times} |"


def main() -> None:
    made, rendered = rendering(read(REPORTS / "notebooks"))
    sizes = {name: len(text.encode()) for name, text in made.items()}
    loads = loading(made)
    rows = "\n".join(row(f"loading {it}", sizes[it], loads[it]) for it in made)
    text = f"""# The report's pages

| | size | median of {ROUNDS} | lowest | highest |
| --- | ---: | ---: | ---: | ---: |
{row("rendering all", sum(sizes.values()), rendered)}
{rows}

A page counts as loaded when it can run a script.

Python {platform.python_version()}, nbconvert {version("nbconvert")}, \
{os.cpu_count()} threads, {platform.machine()}.
"""
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
