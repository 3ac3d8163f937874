"""The report as a PDF, printed by Chromium, with page numbers in its contents."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT = 300  # seconds; a report takes about five


class PrintError(RuntimeError):
    """The browser did not print the page."""


def find_browser() -> str:
    """Return the path of Chromium. Raises FileNotFoundError if there is none."""
    if found := next(filter(None, map(shutil.which, BROWSERS)), None):
        return found
    there = f"there is no {' or '.join(BROWSERS)} on the PATH"
    raise FileNotFoundError(f"{there} to print with; install one, or leave --pdf out")


def write(page: str, output: Path, *, browser: str) -> None:
    """Print a rendered report to a PDF. Raises PrintError if the browser fails.

    The first pass finds each heading's page, the second lists them in the contents.
    """
    with tempfile.TemporaryDirectory(prefix="kvt-print-") as directory:
        printed = Path(directory) / "page.pdf"
        _print(page, printed, browser)
        numbers = page_numbers(printed)
        _print(_with_numbers(page, numbers), printed, browser)
        if page_numbers(printed) != numbers:
            raise PrintError("the page numbers in the contents moved the headings")
        shutil.move(printed, output)


def page_numbers(pdf: Path) -> dict[str, int]:
    """Return the page, from 1, of each id that a link in the PDF leads to."""
    from pypdf import PdfReader  # here: only a printed report needs it

    reader = PdfReader(pdf)
    found = reader.named_destinations.items()
    pages = {name: reader.get_destination_page_number(to) for name, to in found}
    return {k.removeprefix("/"): v + 1 for k, v in pages.items() if v is not None}


def _with_numbers(page: str, numbers: dict[str, int]) -> str:
    """Add the page number to each entry of the contents."""

    def numbered(link: re.Match[str]) -> str:
        number = numbers.get(link[2], "")
        return f'{link[1]}<span class="page-number">{number}</span></a>'

    before, nav, rest = page.partition('<nav class="contents"')
    contents, end, after = rest.partition("</nav>")
    contents = re.sub(r'(<a href="#([^"]+)"[^>]*>.*?)</a>', numbered, contents)
    return "".join([before, nav, contents, end, after])


def _print(page: str, output: Path, browser: str) -> None:
    output.unlink(missing_ok=True)
    source = output.with_suffix(".html")
    source.write_text(page, encoding="utf-8")
    command = [
        *(browser, "--headless", "--disable-gpu", "--no-first-run"),
        *("--no-pdf-header-footer", "--generate-pdf-document-outline"),
        *("--disable-background-networking", f"--user-data-dir={source.parent}/user"),
        *(f"--print-to-pdf={output}", source.as_uri()),
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.insert(1, "--no-sandbox")  # without, Chromium does not run as root
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise PrintError(f"{browser} did not print in {TIMEOUT} s") from None
    if done.returncode or not output.exists():
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise PrintError(f"{browser} did not print ({done.returncode}): {lines[-1]}")
