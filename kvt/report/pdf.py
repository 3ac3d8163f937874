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
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(
        f"--pdf prints with Chromium, and there is no {' or '.join(BROWSERS)} on the "
        f"PATH; install one of them, or leave --pdf out"
    )


def write(page: str, output: Path, *, browser: str) -> None:
    """Print a rendered report to a PDF.

    It is printed twice: the first pass finds out each heading's page, the second has
    these numbers in its contents. Raises PrintError if the browser fails.
    """
    with tempfile.TemporaryDirectory(prefix="kvt-print-") as directory:
        first = Path(directory) / "first.pdf"
        _print(page, first, browser)
        numbers = page_numbers(first)
        numbered = Path(directory) / "numbered.pdf"
        _print(_with_numbers(page, numbers), numbered, browser)
        if page_numbers(numbered) != numbers:
            raise PrintError("the page numbers in the contents moved the headings")
        shutil.move(numbered, output)


def page_numbers(pdf: Path) -> dict[str, int]:
    """Return the page, from 1, of each id that a link in the PDF leads to."""
    from pypdf import PdfReader  # here: only a printed report needs it

    reader = PdfReader(pdf)
    numbers = {}
    for name, destination in reader.named_destinations.items():
        number = reader.get_destination_page_number(destination)
        if number is not None:
            numbers[name.removeprefix("/")] = number + 1
    return numbers


def _with_numbers(page: str, numbers: dict[str, int]) -> str:
    """Add the page number to each entry of the contents."""

    def numbered(link: re.Match[str]) -> str:
        number = numbers.get(link["id"], "")
        return f'{link["start"]}<span class="page-number">{number}</span></a>'

    start, nav, rest = page.partition('<nav class="contents"')
    contents, end, rest = rest.partition("</nav>")
    entry = r'(?P<start><a href="#(?P<id>[^"]+)">.*?)</a>'
    return start + nav + re.sub(entry, numbered, contents) + end + rest


def _print(page: str, output: Path, browser: str) -> None:
    """Print a page once."""
    source = output.with_suffix(".html")
    source.write_text(page, encoding="utf-8")
    command = [
        browser,
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--no-pdf-header-footer",
        "--generate-pdf-document-outline",
        f"--user-data-dir={output.parent / 'profile'}",
        f"--print-to-pdf={output}",
        source.as_uri(),
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.insert(1, "--no-sandbox")  # without, Chromium does not run as root
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise PrintError(f"{browser} did not print in {TIMEOUT} s") from None
    if done.returncode or not output.exists():
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise PrintError(f"{browser} did not print ({done.returncode}): {lines[-1]}")
